"""The exported files classify as Keras does, need nothing of the project, and say what they are."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from scipy.special import expit, softmax

from stages import export, models
from stages.base.errors import InputError
from stages.export import last_commit
from stages.inference import formats, measure
from stages.inference.classifier import STRANGE, Classifier
from stages.trained import features, prediction, saving
from tests.conftest import block_of, commit, run
from tests.models import custom, nested, separable, small

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 7, 7, 1), dtype=np.uint8).repeat(4, 1).repeat(4, 2)  # blocks
VIEWS = "flip_and_shift"
ABOUT = {"dataset": "2024", "classes": list("abcdefghij"), "run": "a-0", "test_time_augmentation": "flip"}
EXPORTED = Path("data/exported")


@pytest.fixture(autouse=True)
def float32():
    saving.set_precision("float32")


def build(name: str) -> keras.Model:
    """A model as stage `export` gets it, with weights that are not the first ones, but always the same."""
    own = {"custom": (custom, {"units": 3}), "separable": (separable, {"filters": 4}), "nested": (nested, {})}
    if name in own:
        architecture, keys = own[name]
        block = architecture.Parameters(**dict(block_of("plain")) | keys)
    elif name == "small":
        architecture, block = small, block_of("small")
    else:
        architecture, block = models.load(name), models.read_block(name)
    keras.utils.set_random_seed(0)
    model, rng = architecture.build(block, IMAGES, 10), np.random.default_rng(0)
    weights = model.get_weights()
    model.set_weights([rng.uniform(0.8, 1.2, old.shape) * old + rng.uniform(0, 0.01, old.shape) for old in weights])
    return saving.copied(model, saving.TO_KERAS, float32=True)


def temperature(model: keras.Model) -> float:
    """One by which the probabilities of the classes are neither all alike nor 0 and 1."""
    return float(np.ptp(model.predict_on_batch(IMAGES)) / 8)


def head_of(model: keras.Model, images: np.ndarray = IMAGES) -> formats.Head:
    """Weights of the model's layers by which images are neither all strange nor all familiar."""
    layers = features.with_features(model).predict_on_batch(images)[2]
    weights = np.random.default_rng(0).normal(size=layers.shape[1]) / (layers.std(axis=0) + 1) / layers.shape[1] ** 0.5
    return weights.astype(np.float32), -float((layers @ weights).mean())


def check(path: Path, model: keras.Model) -> None:
    """Check that a file says what Keras says: the softmax of the mean logits of the views, divided by the temperature."""
    found, images_per_second = measure.classify_all(path, IMAGES)
    weights, views = zip(*prediction.views_of(IMAGES, VIEWS if "tta" in path.name else "none"), strict=True)
    logits = np.average([model.predict_on_batch(view) for view in views], axis=0, weights=weights)
    tolerance = 0.05 if "int8" in path.name else 1e-4
    np.testing.assert_allclose(found, softmax(logits.astype(np.float64) / temperature(model), axis=1), atol=tolerance)
    assert 0.2 < found.max(axis=1).mean() < 0.99
    np.testing.assert_allclose(measure.load(path)(IMAGES[:1].astype(np.float32)), found[:1], atol=1e-4)
    assert images_per_second > 0


def strangeness(path: Path) -> np.ndarray:
    """That of the images, by an exported file with the runtime of its format."""
    pixels = IMAGES.astype(np.float32)
    if path.suffix == ".onnx":
        return Classifier(path).strangeness(pixels)
    if path.suffix == ".tflite":
        return tf.lite.Interpreter(str(path)).get_signature_runner()(pixels=pixels)["strangeness"]
    return (
        tf.saved_model.load(str(path)).signatures["serving_default"](pixels=tf.constant(pixels))["strangeness"].numpy()
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[keras.Model, Path]:
    """A model with every layer that the project's share, and a folder with all of its files."""
    saving.set_precision("float32")
    model, folder = build("small"), tmp_path_factory.mktemp("exported")
    for file in formats.FILES:
        formats.write(file, model, VIEWS, temperature(model), folder / file, ABOUT, head_of(model))
    return model, folder


@pytest.mark.parametrize("file", formats.FILES)
def test_every_file_says_what_keras_says_and_what_it_is(file, written):
    model, folder = written
    check(folder / file, model)
    if file.endswith(".onnx"):
        classifier = Classifier(folder / file)
        said = classifier.metadata
        if file == formats.FEATURES_FILE:
            expected, _ = features.features_and_probabilities(model, IMAGES)
            np.testing.assert_allclose(classifier.features(IMAGES), expected, rtol=1e-3, atol=1e-4)
    elif file.endswith(".tflite"):
        said = json.loads(zipfile.ZipFile(folder / file).read("metadata.json"))
    else:
        said = json.loads((folder / file / "assets.extra/metadata.json").read_text())
    assert said == ABOUT
    weights, bias = head_of(model)
    layers = features.with_features(model).predict_on_batch(IMAGES)[2]
    found, tolerance = strangeness(folder / file), 0.1 if "int8" in file else 1e-4
    np.testing.assert_allclose(found, expit(layers @ weights + bias), atol=tolerance)
    assert 0.1 < (found > 0.5).mean() < 0.9


@pytest.mark.parametrize(("size", "augmentation"), [(8, "shift"), (56, "flip_and_shift")])
def test_views_of_images_in_color_of_any_size_are_those_of_keras(size, augmentation, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, size, size, 3), dtype=np.uint8)
    model = small.build(block_of("small"), images, 3)
    formats.write(
        "model-tta.onnx", model, augmentation, 1.0, tmp_path / "model-tta.onnx", ABOUT, head_of(model, images)
    )
    found, _ = measure.classify_all(tmp_path / "model-tta.onnx", images)
    np.testing.assert_allclose(found, prediction.predict(model, images, augmentation).probabilities, atol=1e-4)


@pytest.mark.parametrize("file", ["model.onnx", "model.tflite"])
@pytest.mark.parametrize(
    "name", ["custom", "nested", "separable", *(pytest.param(name, marks=pytest.mark.slow) for name in models.names())]
)
def test_models_of_users_and_of_the_project_say_what_keras_says(name, file, tmp_path):
    model = build(name)
    formats.write(file, model, VIEWS, temperature(model), tmp_path / file, ABOUT, head_of(model))
    check(tmp_path / file, model)


class Inverse(layers.Layer):
    """A layer that neither ONNX nor LiteRT has."""

    def call(self, inputs):
        return ops.erfinv(ops.tanh(inputs))


@pytest.mark.parametrize(
    ("file", "layer", "reason"),
    [
        ("model.onnx", Inverse(), "the format has no operation Erfinv"),
        ("model.tflite", Inverse(), "the format has no operation Erfinv"),
        ("model.onnx", layers.GRU(4), "loops, as of recurrent layers, are not supported"),
    ],
)
def test_what_cannot_be_converted_is_told(file, layer, reason, tmp_path, capfd):
    pixels = keras.Input((28, 28, 1))
    model = keras.Model(pixels, layers.Dense(10)(layers.Flatten()(layer(layers.Reshape((28, 28))(pixels)))))
    with pytest.raises(InputError, match=rf"cannot be exported as {file} \({reason}\)"):
        formats.write(file, model, "none", 1.0, tmp_path / file, ABOUT, head_of(model))
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("difference", [0.0011, float("nan")])
def test_a_file_that_differs_from_keras_is_refused(difference):
    with pytest.raises(InputError, match=r"model\.onnx gives probabilities that differ from Keras's by up to"):
        export.refuse_difference(Path("model.onnx"), difference)
    export.refuse_difference(Path("model.onnx"), 0.0009)
    export.refuse_difference(Path("model-int8.tflite"), difference)


def test_the_comparison_finds_the_largest_difference():
    expected = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = export.compare(np.array([[0.9, 0.1], [0.55, 0.45]]), expected, np.array([0, 1]))
    accuracies = {"val_accuracy": 0.5, "val_accuracy_of_keras": 1.0}
    assert found == {"images": 2, "largest_difference": 0.35, "same_class": 0.5, **accuracies}


def test_litert_classifies_without_tensorflow(written):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    signature = interpreters.Interpreter(str(written[1] / "model.tflite")).get_signature_runner("serving_default")
    found = signature(pixels=IMAGES[:1].astype(np.float32))["probabilities"]
    np.testing.assert_allclose(found, Classifier(written[1] / "model.onnx").probabilities(IMAGES[:1]), atol=1e-4)


def test_the_commit_is_the_last_one_that_changed_the_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(tmp_path, "git", "init", "--quiet")
    (tmp_path / "dvc.yaml").write_text("code")
    commit(tmp_path, "code")
    first = run(tmp_path, "git", "rev-parse", "HEAD").strip()
    (tmp_path / "notes.md").write_text("text")
    commit(tmp_path, "notes")
    assert last_commit() == first
    (tmp_path / "dvc.yaml").write_text("changed")
    assert last_commit() == f"{first}, with uncommitted changes"


@pytest.mark.slow
def test_the_report_of_the_export_is_true(finished):
    report = json.loads((finished / "reports/export.json").read_text())
    records = np.load(finished / "data/prepared/val.npy")
    images, labels = records["image"], records["label"]
    selection = json.loads((finished / "reports/selection.json").read_text())
    temperatures = json.loads((finished / "reports/temperatures.json").read_text())["temperatures"]
    (about,) = report["about"]
    assert about["run"] == selection["run"]
    assert about["calibration"]["temperature"] == temperatures[selection["selected"]]
    assert {row["file"] for row in report["files"]} == set(formats.FILES)
    for row in report["files"]:
        found, _ = measure.classify_all(finished / EXPORTED / row["file"], images)
        assert row["images"] == len(images) or "int8" not in row["file"]  # whose accuracy may differ
        if row["images"] == len(images):
            assert row["val_accuracy"] == pytest.approx((found.argmax(axis=1) == labels).mean(), abs=1e-6)
        assert "int8" in row["file"] or (row["largest_difference"] < 1e-3 and row["same_class"] > 0.99)
        if row["file"].endswith(".onnx"):
            classifier = Classifier(finished / EXPORTED / row["file"])
            alarms = (classifier.strangeness(images) > STRANGE).mean()
            assert alarms == pytest.approx(about["out_of_distribution"]["false_alarm_rate"], abs=0.01)
            assert row["images"] < len(images) or classifier.metadata["val_accuracy"] == row["val_accuracy_of_keras"]
            assert classifier.metadata | about == classifier.metadata
    assert all(0 <= share <= 1 for share in report["detected_out_of_distribution"][0].values())


@pytest.mark.slow
def test_another_export_gives_the_same_bytes(workspace):
    found = []
    for _ in range(2):
        run(workspace, "dvc", "repro", "--force", "--single-item", "export")
        paths = [workspace / "reports/export.json", *(workspace / EXPORTED).rglob("*")]
        found.append({path: path.read_bytes() for path in paths if path.is_file()})
    assert found[0] == found[1]
