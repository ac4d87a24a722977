"""The saved model: one `.keras` file that says where it comes from and has the same bytes for the same model."""

import json
import math
import platform
import re
import zipfile
from importlib.metadata import version
from pathlib import Path

import keras

from stages.errors import InputError
from stages.files import written_whole
from stages.training import layers

PACKAGES = ("tensorflow", "keras", "numpy")
QUICK = {keras.layers.BatchNormalization: layers.BatchNormalization, keras.layers.Conv2D: layers.Conv2D}
PLAIN = {quick: plain for plain, quick in QUICK.items()}


def save_model(model: keras.Model, path: Path, origin: dict) -> None:
    """Write `model` for `keras.saving.load_model`: layers and weights, without optimizer, loss and metrics.

    In the place of this project's layers stand Keras's own, of the same weights, so that a file loads without the project.
    Keras writes the date and memory addresses (as names of shared objects) into the file; the one is taken out, the
    others are numbered, so that equal models are equal files. `origin.json` is added (read it with
    `unzip -p FILE origin.json`): `origin` and the versions of Python and the packages.
    """
    versions = {"backend": keras.backend.backend(), "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    with written_whole(path) as beside:
        made_of(PLAIN, model).save(beside)
        with zipfile.ZipFile(beside) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        metadata = json.loads(members["metadata.json"])
        metadata.pop("date_saved", None)
        members["metadata.json"] = json.dumps(metadata).encode()
        members["config.json"] = number_shared_objects(members["config.json"].decode()).encode()
        members["origin.json"] = json.dumps(origin | {"versions": versions}, indent=2).encode()
        with zipfile.ZipFile(beside, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)  # a ZipInfo without a date says 1980


def made_of(classes: dict[type, type], model: keras.Model) -> keras.Model:
    """A copy of `model` with the same weights, whose layers of the classes that are keys are of those that are values."""

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if type(layer) in classes and "kernel_initializer" in config:
            config["kernel_initializer"] = "zeros"  # whatever it was, it may be this project's; the weights come below
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

    Raises `InputError` where the file is missing or is not a model.
    """
    try:
        return made_of(QUICK, keras.saving.load_model(path))
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
    anew.summary(line_length=80, print_fn=lines.append)
    return "\n".join([*lines, f" Multiply-adds a picture: {multiply_adds(model):,}", ""])
