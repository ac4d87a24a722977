"""The saved model: one `.keras` file that says where it comes from and has the same bytes for the same model."""

import contextlib
import io
import json
import math
import os
import re
import zipfile
from pathlib import Path

import keras

from stages.environment import machine
from stages.errors import InputError
from stages.files import written_whole
from stages.training import layers
from stages.training.devices import use_bfloat16

QUICK = {keras.layers.BatchNormalization: layers.BatchNormalization, keras.layers.Conv2D: layers.Conv2D}
PLAIN = {quick: plain for plain, quick in QUICK.items()}


def save_model(model: keras.Model, path: Path, origin: dict) -> None:
    """Write `model` for `keras.saving.load_model`: layers and weights, without optimizer, loss and metrics.

    In the place of this project's layers stand Keras's own, of the same weights, so that a file loads without the project.
    Keras writes the date and memory addresses (as names of shared objects) into the file; the one is taken out, the
    others are numbered, so that equal models are equal files. `origin.json` is added (read it with
    `unzip -p FILE origin.json`): `origin` and the `conditions`.
    """
    with written_whole(path) as beside:
        made_of(PLAIN, model).save(beside)
        with zipfile.ZipFile(beside) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        metadata = json.loads(members["metadata.json"])
        metadata.pop("date_saved", None)
        members["metadata.json"] = json.dumps(metadata).encode()
        members["config.json"] = number_shared_objects(members["config.json"].decode()).encode()
        members["origin.json"] = json.dumps(origin | conditions(model), indent=2).encode()
        with zipfile.ZipFile(beside, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)  # a ZipInfo without a date says 1980


def conditions(model: keras.Model) -> dict:
    """What the digits of `model`'s results depend on beside code, data and parameters.

    Returns:
        `precision` ("bfloat16" where a layer computes in it, else "float32"), `backend`, and those of
        `stages.environment.machine`.
    """
    precisions = {layer.compute_dtype for layer in model.layers}
    precision = "bfloat16" if "bfloat16" in precisions else "float32"
    return {"precision": precision, "backend": keras.backend.backend(), **machine()}


def made_of(classes: dict[type, type], model: keras.Model, float32: bool = False) -> keras.Model:
    """A copy of `model` with the same weights, whose layers of the classes that are keys are of those that are values.

    With `float32`, layers that compute in bfloat16 do so in float32 instead.
    """

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if type(layer) in classes and "kernel_initializer" in config:
            config["kernel_initializer"] = "zeros"  # whatever it was, it may be this project's; the weights come below
        if float32:
            config["dtype"] = "float32"
        return classes.get(type(layer), type(layer)).from_config(config)

    bare = keras.Model(model.inputs, model.outputs, name=model.name)  # without what `compile` gave it
    copy = keras.models.clone_model(bare, clone_function=copied)
    copy.set_weights(model.get_weights())
    return copy


def number_shared_objects(config: str) -> str:
    """Keras's JSON of a model with its `shared_object_id`s counted from 1 in the order of their appearance."""
    numbers: dict[str, int] = {}
    return re.sub(
        r'(?<="shared_object_id": )\d+', lambda match: str(numbers.setdefault(match[0], len(numbers) + 1)), config
    )


def load_model(path: Path) -> keras.Model:
    """A saved model, of this project's quicker layers where it has them. `keras.saving.load_model` gives Keras's own.

    One that was trained in bfloat16 computes in float32 on a machine without instructions for it.

    Raises `InputError` where the file is missing or is not a model.
    """
    try:
        return made_of(QUICK, keras.saving.load_model(path), float32=not use_bfloat16("auto"))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a saved model: {error} Delete it and type `dvc repro`.") from None


def multiply_adds(model: keras.Model) -> int:
    """Multiplications (each with an addition) to classify one picture, in the layers `Conv2D` and `Dense`.

    Other layers, and layers inside a nested model, are not counted.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            _, height, width, _ = layer.output.shape
            total += height * width * math.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Dense):
            total += math.prod(layer.kernel.shape)
    return total


def describe(model: keras.Model) -> str:
    """Keras's summary of the layers as text, 80 columns wide, with the multiply-adds below it."""
    lines: list[str] = []
    anew = keras.models.clone_model(model)  # whose layers were called once, and that no optimizer belongs to
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # else the terminal's width and encoding decide on the lines
            anew.summary(line_length=80, print_fn=lines.append)
    finally:
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    return "\n".join([*lines, f" Multiply-adds a picture: {multiply_adds(model):,}", ""])
