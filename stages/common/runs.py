"""Runs: a run is one model trained with one seed. The paths of all files of runs, and functions to read and write them."""

import argparse
import json
import zipfile
from pathlib import Path

import numpy as np

from stages.common.cache import remedy
from stages.common.environment import versions
from stages.common.errors import InputError
from stages.common.files import DAMAGED, atomic_write, read_json
from stages.common.parameters import read_parameters, unknown

METRICS = Path("reports/metrics")  # val/RUN.json, which also has the network's numbers, and test/RUN.json
HISTORY = Path("reports/history")  # RUN.csv
TIMING = Path("reports/timing")  # train/RUN.csv and evaluate/RUN.csv: wall times, kept apart, since they never repeat
PER_CLASS = Path("reports/per_class")  # RUN.csv
CONFUSION = Path("reports/confusion")  # RUN.csv
ROBUSTNESS = Path("reports/robustness")  # RUN.csv
OOD = Path("reports/ood")  # RUN.csv
MODELS = Path("data/models")  # RUN.keras, and RUN.txt, its layers
PREDICTIONS = Path("data/predictions")  # val/RUN.npz and test/RUN.npz: see load_predictions
FOLDS = Path("data/folds/probabilities.npz")  # see load_folds
FOLD_MODEL = Path("data/folds/model.keras")  # trained without the first fold
SELECTION = Path("reports/selection.json")  # the chosen model, its best run, and why; the runs of every model
SELECTED = Path("data/selected/model.keras")
TEMPERATURES = Path("reports/temperatures.json")  # of each model, fitted on validation
EXPERIMENTS = Path("reports/experiments.csv")

OF_ORIGIN = ("model", "parameters", "seed", "split_sha256", "versions")  # of what a saved model's origin says
LARGEST_ORIGIN = 1_000_000  # bytes
ENSEMBLE = "ensemble"  # the name of the ensemble in tables of models; no model may have it


def run_name(model: str, seed: int) -> str:
    """The name of a run, as in DVC's stage names: `cnn-0`."""
    return f"{model}-{seed}"


def read_metrics(split: str, run: str) -> dict:
    """A run's metrics on `"val"` or `"test"`; see `with_network`. Raises `InputError` if the file is missing."""
    path = METRICS / split / f"{run}.json"
    if not path.exists():
        raise InputError(f"{path} is missing. Type `dvc repro`, which trains and evaluates missing runs.")
    return with_network(read_json(path))


def with_network(metrics: dict) -> dict:
    """Metrics to which the items of their `network` (parameters, multiply_adds, epochs) are added as keys.

    In the file, `network` is a list, because `dvc metrics` does not print lists: its table stays as narrow as a terminal.
    """
    return metrics | metrics.get("network", [{}])[0]


def mixed_processors() -> str:
    """A sentence that names the processors of the runs in `reports/metrics`; empty if it was the same for all of them."""
    found: dict[str, list[str]] = {}
    for model in read_parameters("models"):
        for seed in read_parameters("seeds"):
            for split in ("val", "test"):
                path = METRICS / split / f"{run_name(model, seed)}.json"
                for condition in read_json(path).get("conditions", []) if path.exists() else []:
                    runs = found.setdefault(condition["processor"], [])
                    runs += [run_name(model, seed)] if run_name(model, seed) not in runs else []
    if len(found) < 2:
        return ""
    listed = "; ".join(f"{processor}: {', '.join(runs)}" for processor, runs in sorted(found.items()))
    return f"These runs come from different processors, which give slightly different numbers. {listed}."


def training_warnings() -> str:
    """The warnings of the trainings in `reports/metrics`, in one line each; empty if there are none."""
    found = []
    for model in read_parameters("models"):
        for seed in read_parameters("seeds"):
            path = METRICS / "val" / f"{run_name(model, seed)}.json"
            warnings = read_json(path).get("warnings", []) if path.exists() else []
            found += [f"warning: {run_name(model, seed)}: {warning}." for warning in warnings]
    return "\n".join(found)


def read_origin(path: Path) -> dict:
    """The origin of a saved model, from `origin.json` in its file.

    Returns:
        A dict: dataset, split_sha256, model, seed, parameters, precision, backend, processor, threads, versions.

    Raises:
        InputError: The file is missing or has no origin.
    """
    if not path.exists():
        raise InputError(f"{path} is missing. Type `dvc repro`, which trains missing models.")
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo("origin.json").file_size
            if size > LARGEST_ORIGIN:
                raise ValueError(f"its origin.json has {size:,} bytes")
            origin = json.loads(archive.read("origin.json"))
        if not isinstance(origin, dict) or any(
            not isinstance(origin.get(key, {}), dict) for key in ("parameters", "versions")
        ):
            raise ValueError("its origin.json is no mapping of what this project writes")
        return origin
    except DAMAGED as error:
        raise InputError(
            f"{path} has no origin ({error}): it is damaged, or was not saved by this project. {remedy(path)}"
        ) from None


def refuse_another_run(path: Path, run: str, parameters: dict | None = None, split_sha256: str | None = None) -> None:
    """Raise `InputError` if a saved model is not the one that is asked for, whoever put it there.

    Args:
        path: A file from `stages.trained.saving.save_model`.
        run: The name of the run that it should be.
        parameters: If given, the block that it should have been trained with.
        split_sha256: If given, of the split that it should have been trained on, with the packages that are installed.
    """
    origin = read_origin(path)
    missing = [key for key in OF_ORIGIN if key not in origin]
    if missing:
        raise InputError(
            f"{path} does not say its {', '.join(missing)}: it was not saved by this project. {remedy(path)}"
        )
    found, expected = {"run": run_name(origin["model"], origin["seed"])}, {"run": run}
    if parameters is not None:
        found |= dict.fromkeys(parameters) | origin["parameters"]
        expected |= json.loads(json.dumps(parameters))  # as the file has them: no tuples
    if split_sha256 is not None:
        packages = ("tensorflow", "keras")
        found |= {"split_sha256": origin["split_sha256"]} | {name: origin["versions"].get(name) for name in packages}
        expected |= {"split_sha256": split_sha256} | {name: versions()[name] for name in packages}
    for key, value in found.items():
        if value != expected.get(key):
            raise InputError(
                f"{path} is not the model that is asked for: its {key} is {value}, but should be {expected.get(key)}. "
                f"{remedy(path)} If it is the same again, type `dvc repro --force train@{run}`."
            )


def save_predictions(
    split: str, run: str, probabilities: np.ndarray, single_view: np.ndarray, labels: np.ndarray
) -> None:
    """Write a run's probabilities, each (N, 10), and the labels, (N,), of `"val"` or `"test"`: see `load_predictions`."""
    with atomic_write(PREDICTIONS / split / f"{run}.npz") as beside:
        np.savez(beside, probabilities=probabilities, single_view=single_view, labels=labels)


def load_predictions(split: str, run: str) -> dict[str, np.ndarray]:
    """A run's `probabilities` with its test-time augmentation and from a `single_view`, each (N, 10), and `labels` (N,).

    Raises `InputError` if the file is damaged.
    """
    path = PREDICTIONS / split / f"{run}.npz"
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except DAMAGED as error:
        raise InputError(f"{path} is damaged ({error}). {remedy(path)}") from None


def load_folds() -> dict[str, np.ndarray]:
    """The results of `folds`: `probabilities` float32 (N, 10), `labels` (N,) and `fold` (N,).

    N are the training images, then the validation images. Raises `InputError` if the file is missing or damaged.
    """
    if not FOLDS.exists():
        raise InputError(f"{FOLDS} is missing. Type `dvc repro folds`.")
    try:
        with np.load(FOLDS) as arrays:
            return {name: arrays[name] for name in ("probabilities", "labels", "fold")}
    except DAMAGED as error:
        raise InputError(f"{FOLDS} is damaged ({error}). {remedy(FOLDS)}") from None


def arguments(description: str) -> tuple[str, int]:
    """The model and the seed from the command line: `cnn --seed 0`, or DVC's name of the stage, `train@cnn-0`.

    Raises:
        InputError: The model is unknown, or the seed is out of range.
    """
    names = list(read_parameters("models"))
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", help=f"one of {', '.join(names)}; or DVC's name of the stage")
    parser.add_argument("--seed", type=int, default=0, help="a whole number, 0 or above (default: 0)")
    given = parser.parse_args()
    model, seed = given.model, given.seed
    if "@" in model:
        model, _, last = model.partition("@")[2].rpartition("-")
        seed = int(last) if last.isdecimal() else -1
    if model not in names:
        raise InputError(f"there is no model {model}; {unknown(model, names, 'models')}")
    if not 0 <= seed < 2**32:
        raise InputError(f"the seed of {given.model} is {seed}, but must be a whole number from 0 to {2**32 - 1}.")
    return model, seed
