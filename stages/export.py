"""Stage `export`: the selected run as files that can be used without this project and without TensorFlow.

Writes to `data/exported`: `model.onnx`, `model.tflite` (LiteRT, float32), `model-int8.tflite` (LiteRT, weights of 8 bits),
`saved_model` (for TensorFlow Serving); and `model-tta.onnx` and `model-tta.tflite`, which average the views of test-time
augmentation, so that their accuracy is the one of the results table. All take `pixels` and return calibrated
`probabilities`: see `stages.inference.formats`. What each file holds also stands in its metadata: `about`.

Some validation images are classified with every file and compared with Keras: `reports/export.json`. Most with the file of
8 bits, whose accuracy may differ; the stage fails if one of the others gives other probabilities. The test set is not read.
Times are in `reports/timing/export.csv`.
`similar.npz` holds the features of some training images, of which the page of `make app` shows the most similar ones.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages import models
from stages.base.errors import InputError
from stages.base.files import atomic_write, read_json, write_csv, write_json
from stages.base.runs import FASHION_MNIST, METRICS, SELECTED, SELECTION, STRANGERS, TEMPERATURES, TIMING
from stages.base.splits import load_split, load_summary, sampled
from stages.data.publisher import DESCRIPTION
from stages.inference import formats, measure
from stages.inference.classifier import EXPORTED, STRANGE, Classifier
from stages.parameters.runs import Threads
from stages.parameters.schema import read
from stages.results.git import git
from stages.results.origin import read_origin, refuse_another_run
from stages.scoring.temperature import with_temperature
from stages.stress import ood
from stages.trained import features, prediction, saving
from stages.trained.backend import start_keras

REPORT = Path("reports/export.json")
NOTICED = Path("reports/strangers.json")
SCALED = "the whole image, scaled to fit, on the median color of its border"
CHECKED = 600  # views that a float32 file classifies, at most: of 600 validation images, or six each of 100
CHECKED_INT8 = 1800  # validation images that the file of 8 bits classifies, at most
COMPARED = 5000  # training images in similar.npz, drawn at random if there are more
DRAWN = 300  # OOD inputs of each kind
LARGEST_DIFFERENCE = 1e-3  # of a probability, between a float32 file and Keras
CODE = ("dvc.yaml", "params.yaml", "stages")  # what an exported file depends on


def last_commit() -> str:
    """The last commit that changed `CODE`, and whether there are uncommitted changes; "unknown" without git."""
    last = git("log", "-1", "--format=%H", "--", *CODE).strip()
    changed = last and git("status", "--porcelain", "--", *CODE)
    return f"{last or 'unknown'}{', with uncommitted changes' if changed else ''}"


def about(
    origin: dict, run: str, classes: list[str], shape: tuple[int, int, int], temperature: float, alarms: float
) -> dict:
    """What every file says of itself, without what is measured with the file."""
    pixels = DESCRIPTION["pixels"] if origin["dataset"] == FASHION_MNIST else SCALED
    return {
        "dataset": origin["dataset"],
        "run": run,
        "commit": last_commit(),
        "classes": classes,
        "input": f"pixels: float32 (N, {', '.join(map(str, shape))}), 0 to 255, {pixels}",
        "output": f"probabilities: float32 (N, {len(classes)}), calibrated, in the order of classes",
        "strangeness": "float32 (N,), 0 to 1: how probably a picture shows none of the classes",
        "calibration": {"method": "temperature scaling, fitted on validation", "temperature": temperature},
        "out_of_distribution": {
            "method": "the strangeness is above the threshold",
            "threshold": STRANGE,
            "false_alarm_rate": alarms,
        },
    }


def compare(found: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict:
    """A file's probabilities compared with Keras's, both (N, classes), and with the labels, (N,)."""
    return {
        "images": len(labels),
        "largest_difference": float(f"{np.abs(found - expected).max():.1e}"),
        "same_class": round(float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()), 6),
        "val_accuracy": round(float((found.argmax(axis=1) == labels).mean()), 6),
        "val_accuracy_of_keras": round(float((expected.argmax(axis=1) == labels).mean()), 6),
    }


def refuse_difference(path: Path, difference: float) -> None:
    """Raise `InputError` if a float32 file gives other probabilities than Keras, by more than `LARGEST_DIFFERENCE`."""
    if "int8" not in path.name and not difference <= LARGEST_DIFFERENCE:  # also if there is a NaN
        raise InputError(
            f"{path} gives probabilities that differ from Keras's by up to {difference}, but may by "
            f"{LARGEST_DIFFERENCE}: a layer of the selected model does something else when it is exported, such as drawing "
            "at random. Replace it, or remove the model."
        )


def detected(path: Path, shape: tuple[int, int, int]) -> dict[str, float]:
    """The share of `DRAWN` inputs of each kind of `stages.stress.ood` that an ONNX file finds to be OOD."""
    shares, classifier = {}, Classifier(path)
    for kind in ood.INPUTS:
        drawn = ood.draw_ood(kind, DRAWN, shape, 0)
        shares[kind] = round(float((classifier.strangeness(drawn) > STRANGE).mean()), 6)
    return shares


def main() -> None:
    origin, selection = read_origin(SELECTED), read_json(SELECTION)
    refuse_another_run(SELECTED, selection["run"])
    run, name = selection["run"], selection["selected"]
    temperature = read_json(TEMPERATURES)["temperatures"][name]
    classes = load_summary()["class_names"]
    images, labels = load_split("val")
    augmentation = origin["parameters"]["test_time_augmentation"]

    start_keras(read("threads", Threads))
    model = saving.copied(saving.load_model(SELECTED, models.custom_objects(name)), saving.TO_KERAS, float32=True)
    compared_on = {}  # for each kind of file: numbers of images, and Keras's probabilities
    for kind, count, views in (
        ("float32", CHECKED, "none"),
        ("averages", CHECKED // len(prediction.VIEWS[augmentation]), augmentation),
        ("int8", CHECKED_INT8, "none"),
    ):
        chosen = sampled(len(images), count, 0)
        expected = prediction.predict(model, images[chosen], views).probabilities
        compared_on[kind] = chosen, with_temperature(expected, temperature)
    accuracy = read_json(METRICS / "val" / f"{run}.json")
    with np.load(STRANGERS) as kept:
        head = kept["weights"], float(kept["bias"])
    said = about(origin, run, classes, images.shape[1:], temperature, read_json(NOTICED)["val_alarms"])
    files, times = [], []
    for file, (_, averages) in formats.FILES.items():
        path, views = EXPORTED / file, augmentation if averages else "none"
        chosen, expected = compared_on["averages" if averages else "int8" if "int8" in file else "float32"]
        measured = accuracy["accuracy" if averages else "accuracy_single_view"]
        metadata = said | {"test_time_augmentation": views, "val_accuracy": measured}
        formats.write(file, model, augmentation, temperature, path, metadata, head)
        found, images_per_second = measure.classify_all(path, images[chosen])
        compared = compare(found, expected, labels[chosen])
        p50, p99 = np.quantile(measure.latency(path, images), (0.5, 0.99))
        print(f"{path}: largest difference {compared['largest_difference']:.0e}, p50 {p50:.3f} ms", flush=True)
        refuse_difference(path, compared["largest_difference"])
        files.append({"file": file, "bytes": size(path), "test_time_augmentation": views, **compared})
        times.append({"file": file, "p50_ms": p50, "p99_ms": p99, "images_per_second": images_per_second})

    train_images = load_split("train")[0]
    chosen = sampled(len(train_images), COMPARED, 0)
    vectors, _ = features.features_and_probabilities(model, train_images[chosen])
    with atomic_write(EXPORTED / "similar.npz") as beside:
        lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        np.savez(beside, images=chosen, features=(vectors / lengths).astype(np.float16))
    shares = detected(EXPORTED / formats.FEATURES_FILE, images.shape[1:])
    write_json(
        REPORT,
        {"dataset": origin["dataset"], "about": [said], "files": files, "detected_out_of_distribution": [shares]},
    )
    write_csv(TIMING / "export.csv", pd.DataFrame(times))
    print(f"{EXPORTED}: {len(files)} files of {run}.")


def size(path: Path) -> int:
    """The bytes of a file, or of all files of a folder."""
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )


if __name__ == "__main__":
    main()
