"""A saved model is the same model when it is loaded, needs nothing of the project, and says where it comes from."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

from stages.base.environment import processor, threads
from stages.base.errors import Damaged, InputError
from stages.layers import fast
from stages.layers.initializers import Dirac
from stages.trained import saving
from stages.trained.saving import conditions, load_model, save_model
from tests.conftest import block_of
from tests.models import small

IMAGES = np.random.default_rng(0).integers(0, 256, size=(20, 28, 28, 1), dtype=np.uint8)


@pytest.fixture(autouse=True)
def float32():
    """Other tests train in bfloat16."""
    saving.set_precision("float32")


class Scaled(layers.Layer):
    """A layer of a model's own that Keras does not know, with an argument, a weight and layers inside."""

    def __init__(self, units: int, **options):
        super().__init__(**options)
        self.units = units
        self.normalization = fast.BatchNormalization()
        self.dense = layers.Dense(units)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(self.units, 2))
        super().build(shape)

    def call(self, inputs, training=None):
        return ops.matmul(self.dense(self.normalization(inputs, training=training)), self.kernel)

    def get_config(self):
        return super().get_config() | {"units": self.units}


class Forgetful(Scaled):
    """Does not tell Keras its argument."""

    def get_config(self):
        return {name: value for name, value in super().get_config().items() if name != "units"}


def network(*steps) -> keras.Model:
    inputs = x = keras.Input((28, 28, 1))
    for step in steps:
        x = step(x)
    return keras.Model(inputs, layers.Dense(10, dtype="float32")(layers.GlobalAveragePooling2D()(x)))


def inside(*steps) -> keras.Model:
    """A model, to put into another, with layers of the project's."""
    convolution = fast.Conv2D(1, 3, padding="same", kernel_initializer=Dirac())
    return keras.Sequential([keras.Input((28, 28, 1)), convolution, fast.BatchNormalization(), *steps])


def called_twice(inner: keras.Model):
    return lambda x: layers.Add()([inner(x), inner(layers.ReLU()(x))])


BUILDERS = {
    "shared": lambda: small.build(block_of("small"), IMAGES, 10),
    "own": lambda: network(Scaled(3)),
    "own, nested": lambda: network(inside(Scaled(3))),
    "nested": lambda: network(called_twice(inside(inside())), layers.SeparableConv2D(4, 3)),
    "sequence": lambda: inside(layers.Flatten(), layers.Dense(10)),
}


def trained(name: str) -> keras.Model:
    """A model whose weights, those of its normalizations included, are not the first ones."""
    model = BUILDERS[name]()
    rng = np.random.default_rng(0)
    model.set_weights([weight + rng.uniform(0, 0.5, weight.shape) for weight in model.get_weights()])
    return model


def kinds(model: keras.Model) -> list[type]:
    return [type(layer) for layer in model._flatten_layers() if not isinstance(layer, keras.Model)]


def same_predictions(one: keras.Model, other: keras.Model) -> bool:
    return np.allclose(one.predict_on_batch(IMAGES), other.predict_on_batch(IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_loaded_model_is_the_one_that_was_saved(name, tmp_path):
    model, path = trained(name), tmp_path / "model.keras"
    save_model(model, path, {})
    loaded = load_model(path, {"Scaled": Scaled})
    assert kinds(loaded) == [saving.FAST.get(kind, kind) for kind in kinds(model)]
    assert loaded.count_params() == model.count_params()
    assert same_predictions(loaded, model)
    if "own" in name:
        with pytest.raises(InputError, match=r"(?s)cannot be used: .*Scaled"):
            load_model(path)
    else:  # Keras alone loads it, too
        config = zipfile.ZipFile(path).read("config.json").decode()
        assert "stages." not in config
        assert "fashion_mnist>" not in config  # under which the project's layers are registered
        assert same_predictions(keras.saving.load_model(path), model)


@pytest.mark.parametrize("possible", [True, False])
def test_a_model_of_bfloat16_computes_in_it_where_the_machine_can(possible, tmp_path, monkeypatch):
    with saving.dtype_policy("bfloat16"):
        model = trained("own, nested")
    save_model(model, tmp_path / "model.keras", {})
    monkeypatch.setattr(saving, "use_bfloat16", lambda precision: possible)
    loaded = load_model(tmp_path / "model.keras", {"Scaled": Scaled})
    assert conditions(model)["precision"] == "bfloat16"
    assert conditions(loaded)["precision"] == ("bfloat16" if possible else "float32")
    if possible:
        np.testing.assert_array_equal(loaded.predict_on_batch(IMAGES), model.predict_on_batch(IMAGES))
    for weight, saved in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, saved)
    assert keras.config.dtype_policy().name == "float32"  # for what is created next


def test_the_same_model_is_the_same_file_and_the_saved_one_stays_as_it_was(tmp_path):
    for place in ("once.keras", "again.keras"):
        keras.utils.clear_session()  # the names of layers start anew
        keras.utils.set_random_seed(0)
        model = BUILDERS["nested"]()
        layers_before, weights_before = kinds(model), model.get_weights()
        save_model(model, tmp_path / place, {"seed": 0})
        assert kinds(model) == layers_before
        for weight, before in zip(model.get_weights(), weights_before, strict=True):
            np.testing.assert_array_equal(weight, before)
    assert (tmp_path / "once.keras").read_bytes() == (tmp_path / "again.keras").read_bytes()


def test_a_saved_model_says_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "gpu_names", lambda: ["NVIDIA A", "NVIDIA A", "NVIDIA B"])
    save_model(trained("sequence"), tmp_path / "model.keras", {"model": "small", "seed": 0})
    origin = json.loads(zipfile.ZipFile(tmp_path / "model.keras").read("origin.json"))
    assert (origin["model"], origin["seed"], origin["precision"]) == ("small", 0, "float32")
    assert origin["processor"] == f"NVIDIA A, NVIDIA B, {processor()}"
    assert origin["threads"] == threads()
    assert origin["versions"]["keras"] == keras.__version__


@pytest.mark.parametrize("step", [layers.Lambda(lambda x: x), inside(Forgetful(3))])
def test_a_layer_that_keras_cannot_make_again_is_named_and_leaves_no_file(step, tmp_path):
    named = r"the layer (forgetful|lambda)\w* of .* cannot be saved and loaded: .*get_config"
    with pytest.raises(InputError, match=named):
        save_model(network(step), tmp_path / "model.keras", {})
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(FileNotFoundError):
        load_model(path)
    path.write_bytes(b"no model")
    with pytest.raises(Damaged, match=r"model\.keras cannot be used: it has no origin"):
        load_model(path)


def test_a_hostile_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = network(layers.Lambda(lambda images: Path("pwned").touch() or images))
    model.save("model.keras")
    with zipfile.ZipFile("model.keras", "a") as archive:
        archive.writestr("origin.json", json.dumps(conditions(model)))
    Path("pwned").unlink()
    with pytest.raises(InputError, match=r"(?i)model\.keras cannot be used: .*lambda"):
        load_model(tmp_path / "model.keras")
    assert not Path("pwned").exists()
