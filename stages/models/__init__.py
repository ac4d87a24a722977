"""The models: one file per architecture, named like its block in `params.yaml`.

A model's file holds

- `Parameters`, a subclass of `stages.models.block.Block`, with the keys of the model's block in `params.yaml`;
- `build(parameters, images) -> keras.Model`, from images (B, 28, 28, 1) with pixels 0-255 to logits (B, 10). `images` are
  the training images, uint8 (N, 28, 28, 1), for statistics such as the mean pixel;
- any layers of its own, before or after these.
"""

import ast
import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from stages.common import parameters
from stages.common.errors import InputError
from stages.common.runs import ENSEMBLE
from stages.models.block import Block

NO_MODELS = {"__init__", "block"}  # files in this folder that are not models


def names() -> list[str]:
    """The names of the models that have a file in this folder, sorted."""
    return sorted({path.stem for path in Path(__path__[0]).glob("[a-zA-Z]*.py")} - NO_MODELS)


def load(name: str) -> ModuleType:
    """The module `stages.models.NAME`, which loads Keras.

    Raises:
        InputError: It cannot be loaded, or lacks `Parameters` or `build`.
    """
    try:
        module = importlib.import_module(f"stages.models.{name}")
    except Exception as error:  # an unfinished file may raise anything
        raise cannot_be_loaded(name, error) from error
    refuse_without(name, set(vars(module)))
    return module


def parameters_of(name: str) -> type[Block]:
    """The class `Parameters` of a model's file, without running the rest of the file: Keras is not loaded.

    Only the statements are run that define or change `Parameters` and the names that it uses.

    Raises:
        InputError: They fail, or the file lacks `Parameters` or `build`.
    """
    path = Path(__path__[0]) / f"{name}.py"
    module = ModuleType(f"{__name__}.{name}.parameters")
    module.__file__, module.__package__ = str(path), __name__
    sys.modules[module.__name__] = module  # where pydantic looks up the names in annotations
    try:
        statements = ast.parse(path.read_text(encoding="utf-8"), str(path)).body
        needed, used = [], {"Parameters", "annotations"}  # `from __future__ import annotations`, if it is there
        while found := [one for one in statements if one not in needed and defined(one) & used]:
            needed += found
            used |= {name for one in found for name in read_by(one)}
        body = [one for one in statements if one in needed]
        exec(compile(ast.Module(body, []), str(path), "exec"), vars(module))
    except Exception as error:  # whatever an unfinished file may raise
        raise cannot_be_loaded(name, error) from error
    refuse_without(name, set().union(*map(defined, statements)))
    return module.Parameters


def read_by(statement: ast.stmt) -> set[str]:
    """The names whose values a statement reads, without the names that it defines."""
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def defined(statement: ast.stmt) -> set[str]:
    """The names that a top-level statement defines or changes; `SIZES.append(3)` changes `SIZES`."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            found.add(first_name(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            found.add(first_name(node.value.func))
    return found


def first_name(node: ast.expr) -> str:
    """The name `a` of the expressions `a`, `a.b` and `a[b]`; empty for other expressions."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def cannot_be_loaded(name: str, error: Exception) -> InputError:
    """The error for a model's file that cannot be loaded."""
    return InputError(
        f"stages/models/{name}.py cannot be loaded: {type(error).__name__}: {error}. Fix it, or remove it and its block."
    )


def refuse_without(name: str, found: set[str]) -> None:
    """Raise `InputError` unless a model's file defines `Parameters` and `build`."""
    for part in ("Parameters", "build"):
        if part not in found:
            raise InputError(
                f'stages/models/{name}.py has no {part}; stages/models/__init__.py says what it must hold, and "Add a '
                'model" in README.md shows an example.'
            )


def read_block(name: str) -> Block:
    """A model's block of `params.yaml`. Raises `InputError` if it, or the rest of the file, is wrong."""
    blocks = parameters.read_parameters("models")
    if name not in blocks:
        raise InputError(f"params.yaml has no block models.{name}; {parameters.unknown(name, list(blocks), 'models')}")
    faults: list[str] = []
    block = validate_block(name, blocks[name], faults)
    parameters.refuse(faults)
    return block


def read_all(path: Path = Path("params.yaml")) -> tuple[parameters.Parameters, dict[str, Block]]:
    """Read and check all of `params.yaml`: its sections, and each model's block as an object of the model's class.

    Raises:
        InputError: The file has errors, a block has no file, or a file has no block. The message lists all errors.
    """
    content = parameters.load_yaml(path)
    sections, faults = parameters.check(content)
    blocks, given = {}, content.get("models") if isinstance(content, dict) else None
    if isinstance(given, dict) and not parameters.names_that_are_no_text(content):
        shared = content.get("defaults") or {}
        known = faults_of_defaults(shared, faults) if isinstance(shared, dict) else frozenset()
        blocks = {name: validate_block(name, block, faults, shared, known) for name, block in given.items()}
        faults += [
            f"stages/models/{name}.py has no block models.{name}: add one (copy another model's and adapt it), or remove "
            "the file."
            for name in names()
            if name not in given
        ]
    parameters.refuse(faults, path)
    return sections, blocks


def faults_of_defaults(shared: dict, faults: list[str]) -> frozenset:
    """Check the section `defaults`, add a sentence to `faults` for each error, and return the keys with errors."""
    found: list[str] = []
    parameters.validate(Block, shared, ("defaults",), found)
    found = [fault for fault in found if " is missing; " not in fault]  # a block may add it
    faults += found
    return frozenset(
        key for key in shared if any(re.match(rf"defaults\.{re.escape(key)}[. ]", fault) for fault in found)
    )


def validate_block(
    name: str, block: Any, faults: list[str], shared: Mapping = MappingProxyType({}), known: frozenset = frozenset()
) -> Block | None:
    """A block as an object of its model's class; or None, with sentences added to `faults`, if it has errors.

    Args:
        shared: The section `defaults`.
        known: Its keys whose errors are reported already. They are not reported again in blocks that inherit them.
    """
    if name == ENSEMBLE:
        faults.append(f"models.{name} has the name of the row of the ensemble: give the block, and its file, another.")
    elif not name.isidentifier():
        better = re.sub(r"\W", "_", name)
        faults.append(f"models.{name} is no name for a Python module: use letters, digits and _, such as {better}.")
    elif name not in names():
        faults.append(
            f"models.{name} has no file stages/models/{name}.py; {parameters.unknown(name, names(), 'models')} "
            "Write the file, or remove the block."
        )
    else:
        given = block if isinstance(block, dict) else {}
        inherited = frozenset(
            key for key in known if [given.get(key)] == [shared[key]]
        )  # lists: else NaN differs from NaN
        try:
            return parameters.validate(parameters_of(name), block, ("models", name), faults, inherited)
        except InputError as error:
            faults.append(str(error))
    return None


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
