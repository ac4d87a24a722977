"""A saved model is the same model when it is loaded, needs nothing of the project, and says where it comes from."""

import base64
import json
import marshal
import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

from stages import models
from stages.common.environment import processor, threads
from stages.common.errors import InputError
from stages.layers import fast
from stages.layers.initializers import Dirac
from stages.trained import saving
from stages.trained.precision import use_bfloat16
from stages.trained.saving import conditions, copied, load_model, save_model
from tests.conftest import ROOT, block_of
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


@keras.saving.register_keras_serializable("tests")
class Registered(Scaled):
    """The same, but registered."""


class Shares(layers.Layer):
    """Tells Keras of one object twice, which Keras names by its address in memory."""

    def __init__(self, once=None, again=None, **options):
        super().__init__(**options)
        self.rule = keras.initializers.HeNormal(seed=1)

    def call(self, inputs):
        return inputs

    def get_config(self):
        rules = (keras.saving.serialize_keras_object(self.rule) for _ in range(2))
        return super().get_config() | dict(zip(("once", "again"), rules, strict=True))


class Forgetful(Scaled):
    """Does not tell Keras its argument."""

    def get_config(self):
        return {name: value for name, value in super().get_config().items() if name != "units"}


def network(*steps, shape: tuple[int, ...] = (28, 28, 1)) -> keras.Model:
    inputs = x = keras.Input(shape)
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x)


def head(*steps) -> keras.Model:
    return network(
        layers.Rescaling(1 / 255), *steps, layers.GlobalAveragePooling2D(), layers.Dense(10, dtype="float32")
    )


def inside(filters: int, *deeper) -> keras.Model:
    """A model, to put into another, with layers of the project's."""
    convolution = fast.Conv2D(filters, 3, padding="same", kernel_initializer=Dirac())
    return network(convolution, fast.BatchNormalization(), layers.ReLU(), *deeper, shape=(7, 7, filters))


def called_twice(inner: keras.Model):
    return lambda x: layers.Add()([inner(x), inner(layers.ReLU()(x))])


def sequence() -> keras.Model:
    return keras.Sequential([keras.Input((7, 7, 4)), fast.Conv2D(4, 3, padding="same"), fast.BatchNormalization()])


PATCHES = {"filters": 4, "kernel_size": 4, "strides": 4}  # (B, 7, 7, 4)
BUILDERS = {
    "custom": lambda: head(layers.Conv2D(**PATCHES), Scaled(3)),
    "registered": lambda: head(layers.Conv2D(**PATCHES), Registered(3)),
    "nested": lambda: head(layers.Conv2D(**PATCHES), inside(4), called_twice(inside(4)), layers.Conv2D(2, 1)),
    "two levels": lambda: head(layers.Conv2D(**PATCHES), inside(4, inside(4), inside(4)), inside(4)),
    "nested sequence": lambda: head(layers.Conv2D(**PATCHES), sequence(), sequence()),
    "nested with a custom layer": lambda: head(layers.Conv2D(**PATCHES), inside(4, Scaled(3))),
    "separable": lambda: head(
        layers.SeparableConv2D(6, 3, strides=2), layers.DepthwiseConv2D(3), layers.SeparableConv2D(4, 1)
    ),
    "shared": lambda: head(layers.Conv2D(**PATCHES), *[fast.Conv2D(4, 3, padding="same")] * 2),
    "sequence": lambda: keras.Sequential(
        [keras.Input((28, 28, 1)), fast.Conv2D(2, 3), layers.Flatten(), layers.Dense(10)]
    ),
}
OWN = {"Scaled": Scaled, "Registered": Registered}


def trained(name: str) -> keras.Model:
    """A model whose weights, those of its normalizations included, are not the first ones."""
    model = BUILDERS[name]()
    rng = np.random.default_rng(0)
    model.set_weights([weight + rng.uniform(0, 0.5, weight.shape) for weight in model.get_weights()])
    return model


def layers_in(model: keras.Model) -> list[type]:
    return [type(layer) for layer in model._flatten_layers(include_self=False)]


@pytest.mark.parametrize("name", BUILDERS)
def test_a_loaded_model_is_the_one_that_was_saved(name, tmp_path):
    model = trained(name)
    save_model(model, tmp_path / "model.keras", {})
    keras.utils.clear_session()
    loaded = load_model(tmp_path / "model.keras", OWN)
    assert loaded.count_params() == model.count_params()
    np.testing.assert_allclose(
        loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), rtol=1e-4, atol=1e-5
    )
    quick, slow = (fast.Conv2D, fast.BatchNormalization), (layers.Conv2D, layers.BatchNormalization)
    assert [kind for kind in layers_in(loaded) if kind in quick] == [
        quick[slow.index(kind)] if kind in slow else kind for kind in layers_in(model) if kind in quick + slow
    ]


@pytest.mark.fault(
    "A model whose own layer holds layers trains in bfloat16, then cannot be loaded.", "It is loaded in its precision."
)
@pytest.mark.parametrize("name", ["custom", "nested with a custom layer", "shared"])
def test_a_model_of_bfloat16_is_loaded_in_bfloat16(name, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "use_bfloat16", lambda precision: True)
    with saving.dtype_policy("bfloat16"):
        model = trained(name)
    save_model(model, tmp_path / "model.keras", {})
    loaded = load_model(tmp_path / "model.keras", OWN)
    assert conditions(loaded)["precision"] == "bfloat16"
    np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))
    assert keras.config.dtype_policy().name == "float32"  # for what is created next


@pytest.mark.parametrize("name", [name for name in BUILDERS if "custom" not in name and name != "registered"])
def test_keras_alone_loads_what_has_no_layer_of_its_own(name, tmp_path):
    model = trained(name)
    save_model(model, tmp_path / "model.keras", {})
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = archive.read("config.json").decode()
    assert "stages." not in config
    assert "fashion_mnist>" not in config  # under which the project's layers are registered
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert all(kind.__module__.startswith("keras.") for kind in layers_in(loaded))
    np.testing.assert_allclose(
        loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), rtol=1e-4, atol=1e-4
    )


def test_every_layer_that_the_models_share_is_saved_as_kerass(tmp_path):
    model = small.build(block_of("small"), IMAGES)
    save_model(model, tmp_path / "model.keras", {})
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert all(kind.__module__.startswith("keras.") for kind in layers_in(loaded))
    assert {fast.Conv2D, fast.BatchNormalization} <= set(layers_in(load_model(tmp_path / "model.keras")))


@pytest.mark.parametrize("name", models.names())
def test_a_saved_model_of_the_project_is_the_same_when_it_is_loaded(name, tmp_path):
    _, blocks = models.read_all(ROOT / "params.yaml")
    model = models.load(name).build(blocks[name], IMAGES)
    save_model(model, tmp_path / "model.keras", {})
    loaded = load_model(tmp_path / "model.keras", models.custom_objects(name))
    assert loaded.count_params() == model.count_params()
    np.testing.assert_allclose(
        loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), rtol=1e-4, atol=1e-4
    )


def test_the_same_model_is_the_same_file_and_the_saved_one_stays_as_it_was(tmp_path):
    for place in ("once.keras", "again.keras"):
        keras.utils.clear_session()  # the names of layers start anew
        keras.utils.set_random_seed(0)
        model = BUILDERS["nested"]()
        before = layers_in(model), model.get_weights()
        save_model(model, tmp_path / place, {"seed": 0})
        assert layers_in(model) == before[0]
        for weight, earlier in zip(model.get_weights(), before[1], strict=True):
            np.testing.assert_array_equal(weight, earlier)
    assert (tmp_path / "once.keras").read_bytes() == (tmp_path / "again.keras").read_bytes()


def test_no_address_in_memory_is_in_the_file(tmp_path):
    save_model(head(layers.Conv2D(**PATCHES), Shares(), Shares()), tmp_path / "model.keras", {})
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = archive.read("config.json").decode()
    assert re.findall(r'"shared_object_id": (\d+)', config) == ["1", "1", "2", "2"]
    load_model(tmp_path / "model.keras", {"Shares": Shares})


@pytest.mark.fault(
    "Nobody knows which processor, precision and versions a number belongs to.",
    "The model's `origin.json`, the metrics and the report tell.",
)
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_saved_model_says_where_it_comes_from(precision, tmp_path):
    if precision == "mixed_bfloat16" and not use_bfloat16("auto"):
        pytest.skip("this machine does not compute in bfloat16")
    keras.config.set_dtype_policy(precision)
    model = small.build(block_of("small"), IMAGES)
    save_model(model, tmp_path / "model.keras", {"model": "small", "seed": 0})
    np.testing.assert_array_equal(load_model(tmp_path / "model.keras").predict(IMAGES), model.predict(IMAGES))
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        origin = json.loads(archive.read("origin.json"))
    assert origin == {"model": "small", "seed": 0, **conditions(model)}
    assert origin["precision"] == precision.removeprefix("mixed_")
    assert origin["processor"] == processor()
    assert origin["threads"] == threads()
    assert origin["versions"]["keras"] == keras.__version__


def test_a_model_of_a_gpu_names_it(monkeypatch):
    monkeypatch.setattr(saving, "gpu_names", lambda: ["NVIDIA A", "NVIDIA A", "NVIDIA B"])
    assert conditions(small.build(block_of("small"), IMAGES))["processor"] == f"NVIDIA A, NVIDIA B, {processor()}"


@pytest.mark.parametrize("name", ["custom", "nested", "separable"])
def test_a_model_of_bfloat16_computes_in_float32_where_the_machine_has_none(name, tmp_path, monkeypatch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = BUILDERS[name]()
    keras.config.set_dtype_policy("float32")  # as in the process that loads it
    save_model(model, tmp_path / "model.keras", {})
    monkeypatch.setattr(saving, "use_bfloat16", lambda precision: False)
    loaded = load_model(tmp_path / "model.keras", OWN)
    assert conditions(model)["precision"] == "bfloat16"
    assert conditions(loaded)["precision"] == "float32"
    for weight, saved in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, saved)


@pytest.mark.parametrize("steps", [[Forgetful(3)], [layers.Lambda(lambda x: x)], [inside(4, Forgetful(3))]])
def test_a_layer_that_keras_cannot_make_again_is_named_and_leaves_no_file(steps, tmp_path):
    model = head(layers.Conv2D(**PATCHES), *steps)
    with pytest.raises(
        InputError, match=r"the layer (forgetful|lambda)\w* of .* cannot be saved and loaded: .*get_config"
    ):
        save_model(model, tmp_path / "model.keras", {})
    assert not list(tmp_path.iterdir())


def test_a_copy_has_the_same_weights_but_its_own():
    model = trained("nested")
    model.compile("adam", "mse")
    copy = copied(model)
    np.testing.assert_allclose(copy.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), rtol=1e-5, atol=1e-6)
    assert not copy.compiled
    copy.set_weights([0 * weight for weight in copy.get_weights()])
    assert np.any(model.predict(IMAGES, verbose=0))


def no_model(path: Path) -> None:
    path.write_text("no model")


def no_configuration(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")


@pytest.mark.parametrize("make", [None, no_model, no_configuration])
def test_a_file_that_is_no_model_is_refused(make, tmp_path):
    path = tmp_path / "model.keras"
    if make:
        make(path)
    with pytest.raises(InputError, match=r"model\.keras (is missing|has no origin).*dvc repro"):
        load_model(path)


def foreign(model: keras.Model, path: Path, change) -> None:
    """Save a model, and put other content into its configuration."""
    save_model(model, path, {})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    members["config.json"] = change(config)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def with_lambda(config: dict) -> str:
    """With a Lambda layer, whose code would write a file."""
    code = (lambda images: Path("pwned").touch() or images).__code__
    held = base64.b64encode(marshal.dumps(code)).decode()
    function = {"class_name": "__lambda__", "config": {"code": held, "defaults": None, "closure": None}}
    config["config"]["layers"][1] |= {
        "module": "keras.layers",
        "class_name": "Lambda",
        "registered_name": None,
        "config": {"name": config["config"]["layers"][1]["name"], "function": function},
    }
    return json.dumps(config)


def with_function(config: dict) -> str:
    """With a layer that is a function of another module."""
    config["config"]["layers"][1] |= {
        "module": "os",
        "class_name": "system",
        "registered_name": "system",
        "config": "touch pwned",
    }
    return json.dumps(config)


def too_large(config: dict) -> str:
    """A bomb: a few hundred kilobytes that unpack to hundreds of megabytes."""
    return json.dumps(config) + " " * 300_000_000


@pytest.mark.fault(
    "A saved model holds code (a Lambda, a function of another module), or unpacks to far more than it has.",
    "It is refused; the code does not run.",
)
@pytest.mark.parametrize("change", [with_lambda, with_function, too_large])
def test_a_hostile_model_is_refused(change, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    foreign(trained("nested"), tmp_path / "model.keras", change)
    with pytest.raises(InputError, match=r"model\.keras cannot be loaded"):
        load_model(tmp_path / "model.keras")
    assert not Path("pwned").exists()


def test_a_model_without_the_classes_of_its_layers_is_refused(tmp_path):
    save_model(trained("custom"), tmp_path / "model.keras", {})
    with pytest.raises(InputError, match=r"(?s)cannot be loaded: .*Scaled"):
        load_model(tmp_path / "model.keras")
