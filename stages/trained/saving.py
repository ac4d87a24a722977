"""Saved models: one `.keras` file per model, with its origin; equal models give byte-identical files."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import keras

from stages.base.environment import machine
from stages.base.errors import Damaged, InputError
from stages.base.files import DAMAGED, atomic_write
from stages.layers import fast
from stages.results.origin import read_origin
from stages.trained.on_tensorflow import gpu_names
from stages.trained.precision import use_bfloat16

FAST = {keras.layers.BatchNormalization: fast.BatchNormalization, keras.layers.Conv2D: fast.Conv2D}
TO_KERAS = {ours: of_keras for of_keras, ours in FAST.items()}


def save_model(model: keras.Model, path: Path, origin: dict) -> None:
    """Write `model` to a file for `keras.saving.load_model`: layers and weights, without optimizer, loss and metrics.

    This project's layers are replaced by Keras's own with the same weights, so that the file loads without the project. A
    model with other custom layers needs its file in `stages/models`. Keras writes the date into the file; here it is
    removed, so that equal models give byte-identical files. `origin.json` is added, with `origin` and the `conditions`:
    `unzip -p FILE origin.json`.
    """
    with atomic_write(path) as temporary:
        copied(model, TO_KERAS).save(temporary)
        with zipfile.ZipFile(temporary) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        metadata = json.loads(members["metadata.json"])
        metadata.pop("date_saved", None)
        members["metadata.json"] = json.dumps(metadata).encode()
        members["origin.json"] = json.dumps(origin | conditions(model), indent=2).encode()
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)  # a ZipInfo without a date says 1980


def load_model(path: Path, custom_objects: dict[str, type] | None = None) -> keras.Model:
    """Load a saved model, and replace Keras's layers by this project's faster layers.

    A model that was trained in bfloat16 computes in float32 on a machine without instructions for it.

    Args:
        path: A file from `save_model`.
        custom_objects: The classes of the model's own layers, by name: see `stages.models.custom_objects`.

    Raises:
        Damaged: The file is not a model.
    """
    precision = read_origin(path)["precision"]
    try:
        with dtype_policy(precision):  # for layers inside custom layers, whose dtype no file says
            model = keras.saving.load_model(path, custom_objects=custom_objects)
        in_bfloat16 = precision == "bfloat16" and use_bfloat16("auto")
        with dtype_policy("bfloat16" if in_bfloat16 else "float32"):
            return copied(model, FAST, float32=not in_bfloat16)
    except (*DAMAGED, OSError, TypeError) as error:
        raise Damaged(path, error) from None


@contextmanager
def dtype_policy(precision: str) -> Iterator[None]:
    """Create layers with the dtype policy of a precision, "float32" or "bfloat16"; afterwards with the one before."""
    before = keras.config.dtype_policy()
    set_precision(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def set_precision(precision: str) -> None:
    """From now on, create layers that compute in a precision, "float32" or "bfloat16"; weights stay float32."""
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")


def conditions(model: keras.Model) -> dict:
    """What the results of `model` depend on besides code, data and parameters.

    Returns:
        `precision` ("bfloat16" if a layer computes in it, else "float32"), `backend`, and the keys of
        `stages.base.environment.machine`. On a machine with GPUs, `processor` names them first.
    """
    precisions = {layer.compute_dtype for layer in model._flatten_layers()}
    precision = "bfloat16" if "bfloat16" in precisions else "float32"
    found = {"precision": precision, "backend": keras.backend.backend(), **machine()}
    return found | {"processor": ", ".join([*dict.fromkeys(gpu_names()), found["processor"]])}


def copied(
    model: keras.Model, classes: Mapping[type, type] = MappingProxyType({}), float32: bool = False
) -> keras.Model:
    """A copy of `model` with the same weights, not compiled.

    Args:
        classes: Layers of a class that is a key are replaced by layers of its value, also inside nested models.
        float32: Whether layers that compute in bfloat16 compute in float32 instead.

    Raises:
        InputError: A layer cannot be created from its `get_config`.
    """

    def copied_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model) and hasattr(layer, "inputs"):
            return copied(layer, classes, float32)
        try:
            config = layer.get_config()
            if type(layer) in classes and "kernel_initializer" in config:  # which may be this project's
                config["kernel_initializer"] = "zeros"  # the weights come below
            if float32:
                config["dtype"] = "float32"
            return classes.get(type(layer), type(layer)).from_config(config)
        except Exception as error:  # whatever a layer of the model's own may raise
            reason = " ".join(str(error).split())
            raise InputError(
                f"the layer {layer.name} of {model.name} cannot be saved and loaded: {reason} Give its class a "
                "`get_config` with all arguments of its `__init__`; a Lambda has to be written as a class."
            ) from error

    if isinstance(model, keras.Sequential):
        bare = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    else:
        bare = keras.Model(model.input, model.output, name=model.name)
    copy = keras.models.clone_model(bare, clone_function=copied_layer)
    copy.set_weights(model.get_weights())
    return copy
