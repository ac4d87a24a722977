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
from stages.training import layers  # noqa: F401  saved models are made of them

PACKAGES = ("tensorflow", "keras", "numpy")


def save_model(model: keras.Model, path: Path, origin: dict) -> None:
    """Write `model` for `keras.saving.load_model`: layers and weights, without optimizer, loss and metrics.

    Keras writes the date and memory addresses (as names of shared objects) into the file; the one is taken out, the
    others are numbered, so that equal models are equal files. `origin.json` is added (read it with
    `unzip -p FILE origin.json`): `origin` and the versions of Python and the packages.
    """
    versions = {"backend": keras.backend.backend(), "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    with written_whole(path) as beside:
        keras.Model(model.inputs, model.outputs, name=model.name).save(beside)
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


def number_shared_objects(config: str) -> str:
    """Keras's JSON of a model with its `shared_object_id`s counted from 1 in the order of their appearance."""
    numbers: dict[str, int] = {}
    return re.sub(
        r'(?<="shared_object_id": )\d+', lambda match: str(numbers.setdefault(match[0], len(numbers) + 1)), config
    )


def load_model(path: Path) -> keras.Model:
    """A saved model. Raises `InputError` where the file is missing or is not one.

    Where `stages.training.layers` is imported, as here, `keras.saving.load_model` does the same.
    """
    try:
        return keras.saving.load_model(path)
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
