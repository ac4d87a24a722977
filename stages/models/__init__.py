"""The models: one file per architecture, named like its block in `params.yaml`.

A model's file holds

- `Parameters`, a subclass of `stages.models.block.Block`, with the keys of the model's block in `params.yaml`;
- `build(parameters, images, classes) -> keras.Model`, from images (B, H, W, C) with pixels 0-255 to logits (B, classes).
  `images` are the training images, uint8 (N, H, W, C), for their shape and for statistics such as the mean pixel;
- any layers of its own, before or after these.

`import keras` loads Keras when something of it is first used, so a file that uses it only inside `build` is checked
quickly. `from keras import layers`, or a layer of its own, makes `python -m stages.check` a few seconds slower.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from stages.base.errors import InputError
from stages.models.block import Block
from stages.parameters.runs import Defaults, Models
from stages.parameters.schema import read, refuse, unknown, validate

NO_MODELS = {"__init__", "block"}  # files in this folder that are not models


def names() -> list[str]:
    """The names of the models that have a file in this folder, sorted."""
    return sorted({path.stem for path in Path(__path__[0]).glob("[a-zA-Z]*.py")} - NO_MODELS)


def load(name: str) -> ModuleType:
    """The module `stages.models.NAME`.

    Raises:
        InputError: It cannot be loaded, or lacks `Parameters` or `build`.
    """
    if name not in names():
        raise InputError(
            f"models.{name} has no file stages/models/{name}.py; {unknown(name, names(), 'models')} Write the file, or "
            "remove the block."
        )
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except Exception as error:  # an unfinished file may raise anything
        raise InputError(
            f"stages/models/{name}.py cannot be loaded: {type(error).__name__}: {error}. Fix it."
        ) from error
    for part in ("Parameters", "build"):
        if not hasattr(module, part):
            raise InputError(
                f"stages/models/{name}.py has no {part}; stages/models/__init__.py says what it must hold."
            )
    return module


def read_block(name: str, mirror: bool = True) -> Block:
    """A model's block of `params.yaml`, completed by `defaults`. Raises `InputError` if something is wrong.

    Where an image's mirror image does not show the same class, `mirror` is false, and the block asks for none.
    """
    blocks = read("models", Models)
    if name not in blocks:
        raise InputError(f"params.yaml has no block models.{name}; {unknown(name, list(blocks), 'models')}")
    faults: list[str] = []
    block = validate_block(name, blocks[name], read("defaults", Defaults), faults)
    refuse(faults)
    if mirror:
        return block
    views = {"flip": "none", "flip_and_shift": "shift"}.get(block.test_time_augmentation, block.test_time_augmentation)
    return block.model_copy(update={"random_flip": False, "test_time_augmentation": views})


def validate_block(name: str, block: Any, defaults: dict[str, Any], faults: list[str]) -> Block | None:
    """A block, completed by `defaults`, as an object of its model's class.

    Returns:
        None if it has errors. For each, a sentence is added to `faults`; it names the section in which the error stands.

    Raises:
        InputError: The model's file is missing or wrong.
    """
    if not isinstance(block, dict | None):  # `NAME:` alone: nothing differs from the defaults
        return validate(Block, block, faults, "models", name)
    own, kind, found = block or {}, load(name).Parameters, []
    checked = validate(kind, defaults | own, found, "models", name)
    inherited = tuple(f"models.{name}.{key}" for key in defaults if key not in own)
    faults += [
        fault.replace(f"models.{name}", "defaults", 1) if fault.startswith(inherited) else fault for fault in found
    ]
    return checked


def custom_objects(name: str) -> dict[str, type]:
    """The classes that a model's file defines, by name: what Keras needs to load a saved model with layers of its own.

    A class from another file of the project needs `@keras.saving.register_keras_serializable()` instead.
    """
    module = load(name)
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
