"""The exported files classify as Keras does, need nothing of the project, say what they are, and are always the same."""

import hashlib
import json
import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers, ops
from scipy.special import softmax

from stages import export
from stages.common.errors import InputError
from stages.common.workspace import commit_of
from stages.inference import formats, measure
from stages.inference.classifier import Classifier
from stages.trained import prediction, saving
from tests.conftest import block_of, commit, run
from tests.models import custom, nested, separable, small

IMAGES = np.random.default_rng(0).integers(0, 256, size=(40, 28, 28, 1), dtype=np.uint8)
ABOUT = {"classes": ["a", "b"], "run": "own-0", "out_of_distribution": {"threshold": 0.5}}
EXPORTED = Path("data/exported")


@pytest.fixture(autouse=True)
def float32():
    saving.set_precision("float32")


def network(*steps) -> keras.Model:
    inputs = x = keras.Input((28, 28, 1))
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x)


def of_block(architecture) -> keras.Model:
    """A model of the tests, with weights that are not the first ones."""
    own = {custom: {"units": 3}, separable: {"filters": 4}, small: dict(block_of("small")), nested: {}}[architecture]
    parameters = architecture.Parameters(**dict(block_of("plain")) | own)
    model = architecture.build(parameters, IMAGES)
    rng = np.random.default_rng(0)
    model.set_weights([weight + rng.uniform(0, 0.1, weight.shape) for weight in model.get_weights()])
    return saving.copied(model, saving.TO_KERAS, float32=True)


BUILDERS = {
    "small": lambda: of_block(small),
    "custom": lambda: of_block(custom),
    "nested": lambda: of_block(nested),
    "separable": lambda: of_block(separable),
    "grouped": lambda: network(
        layers.Rescaling(1 / 255),
        layers.Conv2D(6, 3),
        layers.Conv2D(6, 3, groups=3),
        layers.Flatten(),
        layers.Dense(10),
    ),
    "attention": lambda: network(
        layers.Rescaling(1 / 255),
        layers.Reshape((49, 16)),
        lambda x: layers.MultiHeadAttention(2, 8)(x, x),
        layers.LayerNormalization(),
        layers.GlobalAveragePooling1D(),
        layers.Dense(10),
    ),
    "augmenting": lambda: network(  # only while it trains
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomContrast(0.1),
        layers.GaussianNoise(0.1),
        layers.Flatten(),
        layers.Dense(10, activation="tanh"),
    ),
    "transposed": lambda: network(
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, strides=2, activation="silu"),
        layers.Conv2DTranspose(4, 3, strides=2),
        layers.GlobalMaxPooling2D(),
        layers.Dense(10),
    ),
}


def expected(model: keras.Model, augmentation: str, temperature: float) -> np.ndarray:
    """What Keras says: the softmax of the mean logits of the views, divided by the temperature."""
    views = prediction.views_of(IMAGES, augmentation)
    logits = np.average(
        [model.predict(view, verbose=0) for _, view in views], axis=0, weights=[weight for weight, _ in views]
    )
    return softmax(logits.astype(np.float64) / temperature, axis=1)


@pytest.mark.parametrize("file", formats.FILES)
@pytest.mark.parametrize("name", BUILDERS)
def test_every_model_in_every_format_says_what_keras_says(name, file, tmp_path):
    model, path = BUILDERS[name](), tmp_path / file
    formats.write(file, model, "flip_and_shift", 0.7, path, ABOUT)
    found, images_per_second = measure.classify_all(path, IMAGES)
    views = "flip_and_shift" if "tta" in file else "none"
    tolerance = 0.15 if "int8" in file else 1e-4
    np.testing.assert_allclose(found, expected(model, views, 0.7), atol=tolerance)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert images_per_second > 0


@pytest.mark.parametrize("augmentation", prediction.VIEWS)
def test_the_views_in_the_graph_are_those_of_test_time_augmentation(augmentation, tmp_path):
    model = of_block(small)
    formats.write("model-tta.onnx", model, augmentation, 1.3, tmp_path / "model.onnx", ABOUT)
    found, _ = measure.classify_all(tmp_path / "model.onnx", IMAGES)
    np.testing.assert_allclose(found, expected(model, augmentation, 1.3), atol=1e-4)


class Spectrum(layers.Layer):
    """A layer that neither ONNX nor LiteRT has."""

    def call(self, inputs):
        real, imaginary = ops.fft2((inputs[..., 0], ops.zeros_like(inputs[..., 0])))
        return real + imaginary


class Inverse(layers.Layer):
    """A layer of two inputs with an operation that neither ONNX nor LiteRT has."""

    def call(self, first, second):
        return ops.erfinv(ops.tanh(first + second))


@pytest.mark.parametrize("file", ["model.onnx", "model.tflite"])
def test_a_layer_of_two_inputs_and_the_operation_that_is_missing_are_named(file, tmp_path):
    inputs = keras.Input((28, 28, 1))
    first = layers.Dense(10)(layers.Flatten()(inputs))
    model = keras.Model(inputs, layers.Dense(10)(Inverse(name="inverse")(first, layers.Dense(10)(first))))
    named = r"its layer inverse \(Inverse\) cannot be converted \(the format has no operation Erfinv\)"
    with pytest.raises(InputError, match=named):
        formats.write(file, model, "none", 1, tmp_path / file, ABOUT)


@pytest.mark.fault(
    "A layer that a format does not have ends the export in a converter's traceback.", "A sentence names the layer."
)
@pytest.mark.parametrize("file", ["model.onnx", "model.tflite"])
def test_a_layer_that_cannot_be_converted_is_named(file, tmp_path, capfd):
    augmented = layers.Rescaling(1 / 255), layers.RandomFlip()
    model = network(*augmented, Spectrum(name="spectrum"), layers.Flatten(), layers.Dense(10))
    with pytest.raises(InputError, match=rf"cannot be exported as {file}: its layer spectrum \(Spectrum\) cannot be"):
        formats.write(file, model, "none", 1.0, tmp_path / file, ABOUT)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""


@pytest.mark.fault("A file that says something else than Keras is shipped.", "The export fails and names the file.")
@pytest.mark.parametrize(("difference", "refused"), [(0.0009, False), (0.0011, True), (float("nan"), True)])
def test_a_file_that_differs_from_keras_is_refused(difference, refused):
    if refused:
        with pytest.raises(InputError, match=r"model\.onnx gives probabilities that differ from Keras's by up to"):
            export.refuse_difference(Path("model.onnx"), difference)
    else:
        export.refuse_difference(Path("model.onnx"), difference)
    export.refuse_difference(Path("model-int8.tflite"), difference)


def test_the_comparison_finds_the_largest_difference():
    expected = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = export.compare(np.array([[0.9, 0.1], [0.55, 0.45]]), expected, np.array([0, 1]))
    assert found == {"largest_difference": 0.35, "same_class": 0.5, "val_accuracy": 0.5, "val_accuracy_of_keras": 1.0}


# --- In the graph ---


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / EXPORTED).rglob("*"))
        if path.is_file()
    }


def test_the_report_of_the_export_is_true(finished):
    report = json.loads((finished / "reports/export.json").read_text())
    with np.load(finished / "data/prepared/val.npz") as arrays:
        images, labels = arrays["images"][..., None], arrays["labels"]
    selection = json.loads((finished / "reports/selection.json").read_text())
    temperatures = json.loads((finished / "reports/temperatures.json").read_text())["temperatures"]
    (about,) = report["about"]
    assert about["run"] == selection["run"]
    assert about["calibration"]["temperature"] == temperatures[selection["selected"]]
    assert {row["file"] for row in report["files"]} == set(formats.FILES)
    for row in report["files"]:
        found, _ = measure.classify_all(finished / EXPORTED / row["file"], images)
        assert row["val_accuracy"] == pytest.approx((found.argmax(axis=1) == labels).mean(), abs=1e-6)
        assert "int8" in row["file"] or (row["largest_difference"] < 1e-3 and row["same_class"] > 0.99)
        if row["file"].endswith(".onnx"):  # the share that is stated is that of what `Classifier.answer` says
            classifier = Classifier(finished / EXPORTED / row["file"])
            if classifier.augmentation == "none":
                found = np.maximum(found, classifier.probabilities(images[:, :, ::-1]))
            alarms = (found.max(axis=1) < classifier.threshold).mean()
            assert alarms == pytest.approx(classifier.false_alarm_rate, abs=0.01)
    assert all(0 <= share <= 1 for share in report["detected_out_of_distribution"][0].values())


def test_every_file_says_what_it_is(finished):
    folder = finished / EXPORTED
    found = {
        name: json.loads(zipfile.ZipFile(folder / name).read("metadata.json"))
        for name in ("model.tflite", "model-tta.tflite", "model-int8.tflite")
    }
    found["saved_model"] = json.loads((folder / "saved_model/assets.extra/metadata.json").read_text())
    for name in ("model.onnx", "model-tta.onnx"):
        found[name] = Classifier(folder / name).metadata
    report = json.loads((finished / "reports/export.json").read_text())
    accuracies = {row["file"]: row["val_accuracy_of_keras"] for row in report["files"]}
    for name, metadata in found.items():
        assert {**report["about"][0], **metadata, "out_of_distribution": {}} == {**metadata, "out_of_distribution": {}}
        assert set(metadata["out_of_distribution"]) == set(report["about"][0]["out_of_distribution"])
        assert metadata["val_accuracy"] == accuracies[name]
        assert len(metadata["classes"]) == 10
        assert re.fullmatch("unknown|[0-9a-f]{40}(, with uncommitted changes)?", metadata["commit"])
    assert found["model-tta.onnx"]["test_time_augmentation"] in prediction.VIEWS


def test_onnx_keeps_the_contract(finished):
    path = finished / EXPORTED / "model.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, given.type) == ("pixels", ["N", 28, 28, 1], "tensor(float)")
    assert (returned.name, returned.shape, returned.type) == ("probabilities", ["N", 10], "tensor(float)")


def test_litert_keeps_the_contract_without_tensorflow(finished):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = interpreters.Interpreter(str(finished / EXPORTED / "model.tflite"))
    signature = interpreter.get_signature_runner("serving_default")
    found = signature(pixels=IMAGES[:1].astype(np.float32))["probabilities"]
    np.testing.assert_allclose(
        found, Classifier(finished / EXPORTED / "model.onnx").probabilities(IMAGES[:1]), atol=1e-4
    )


def test_tensorflow_serving_keeps_the_contract(finished):
    loaded = tf.saved_model.load(str(finished / EXPORTED / "saved_model"))
    signature = loaded.signatures["serving_default"]
    (given,) = signature.structured_input_signature[1].values()
    assert (given.name, given.shape.as_list(), given.dtype) == ("pixels", [None, 28, 28, 1], tf.float32)
    assert list(signature.structured_outputs) == ["probabilities"]


def test_another_export_is_byte_identical(workspace):
    found = []
    for _ in range(2):
        run(workspace, "dvc", "repro", "--force", "--single-item", "export")
        found.append((hashes(workspace), (workspace / "reports/export.json").read_text()))
    (files, report), (again, other_report) = found
    assert {name for name in files if files[name] != again.get(name)} == set()
    assert report == other_report


def test_it_runs_without_the_test_set(workspace):
    for path in [*(workspace / "data/prepared").glob("test.npz"), *(workspace / "data/predictions/test").glob("*")]:
        path.unlink()
    run(workspace, "python", "-E", "-m", "stages.export")


def test_the_commit_is_the_last_one_that_changed_the_code(workspace):
    paths = ("params.yaml", "stages")
    first = commit_of(workspace, paths)
    (workspace / "notes.md").write_text("text")
    commit(workspace, "notes")
    assert commit_of(workspace, paths) == first
    (workspace / "stages/table.py").write_text("changed")
    assert commit_of(workspace, paths) == f"{first}, with uncommitted changes"
    commit(workspace, "code")
    assert commit_of(workspace, paths) == run(workspace, "git", "rev-parse", "HEAD").strip() != first
    (workspace / "stages/new.py").write_text("new")
    assert commit_of(workspace, paths).endswith(", with uncommitted changes")


def test_what_is_inside_a_loop_reads_the_renamed_values_around_it(tmp_path):
    pixels = keras.Input((28, 28, 1))
    rows = keras.layers.GRU(8)(keras.layers.Reshape((28, 28))(pixels))
    model = keras.Model(pixels, keras.layers.Dense(10)(rows))
    formats.write("model.onnx", model, "none", 1.0, tmp_path / "model.onnx", {})
    images = np.random.default_rng(0).uniform(0, 255, (3, 28, 28, 1)).astype(np.float32)
    found, _ = measure.classify_all(tmp_path / "model.onnx", images)
    np.testing.assert_allclose(found, softmax(model.predict_on_batch(images), axis=1), atol=1e-5)
