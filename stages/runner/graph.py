"""A stage's entry in `dvc.yaml`: what it reads and what it writes."""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from stages.base.errors import InputError
from stages.parameters.schema import PARAMETERS, load_yaml
from stages.runner.dvc_files import digest, read_text

CODE = Path("stages")


@dataclass(frozen=True)
class Stage:
    """A stage's entry in `dvc.yaml`.

    Attributes:
        name: As DVC prints it: `train@cnn-0`.
        parameters: Dotted names of keys in `params.yaml`.
        dependencies: Files and folders that it reads.
        results: Files that it writes, and that DVC removes before it runs.
    """

    name: str
    parameters: tuple[str, ...]
    dependencies: tuple[Path, ...]
    results: tuple[Path, ...]


def read_stage(name: str) -> Stage:
    """A stage's entry in `dvc.yaml`, with the values of `params.yaml` in the places of `${...}`.

    Raises:
        InputError: `dvc.yaml` has no such stage.
    """
    kind, _, item = name.partition("@")
    entry, content = load_yaml(Path("dvc.yaml"))["stages"].get(kind), load_yaml(PARAMETERS)
    values = items_of(entry, content).get(item) if entry else None
    if values is None:
        raise InputError(f"dvc.yaml and params.yaml define no stage {name}: `dvc stage list` shows all.")

    def filled(kind: str) -> list[str]:
        paths = [one if isinstance(one, str) else next(iter(one)) for one in entry.get(kind, [])]
        return [
            re.sub(r"\$\{(.*?)\}", lambda key: str(values.get(key[1], value_of(content, key[1]))), path)
            for path in paths
        ]

    results = [path for kind in ("outs", "metrics", "plots") for path in filled(kind)]
    return Stage(name, tuple(filled("params")), tuple(map(Path, filled("deps"))), tuple(map(Path, results)))


def defined() -> set[str]:
    """The names of all stages that `dvc.yaml` and `params.yaml` define. Raises `InputError` if one is not valid YAML."""
    entries, content = load_yaml(Path("dvc.yaml"))["stages"], load_yaml(PARAMETERS)
    return {f"{kind}@{item}" if item else kind for kind, entry in entries.items() for item in items_of(entry, content)}


def items_of(entry: dict, content: dict) -> dict[str, dict[str, Any]]:
    """The values of an entry's `matrix` for each of its items, such as `cnn-0`; without a matrix, of the empty item."""
    matrix = entry.get("matrix", {})
    axes = [value_of(content, axis[2:-1]) or () if isinstance(axis, str) else axis for axis in matrix.values()]
    return {
        "-".join(map(str, values)): {f"item.{key}": value for key, value in zip(matrix, values, strict=True)}
        for values in itertools.product(*axes)
    }


def value_of(content: Any, key: str) -> Any:
    """The value of a dotted key in nested mappings; None if it is missing."""
    for name in key.split("."):
        content = content.get(name) if isinstance(content, dict) else None
    return content


def fingerprint(stage: Stage, code: Path = CODE) -> dict[str, str]:
    """What a stage reads: each value of its parameters as JSON, each file of its dependencies as an MD5.

    Args:
        stage: Its entry.
        code: The folder that holds `stages/`, or a copy of it.
    """
    content = load_yaml(PARAMETERS)
    found = {}
    for key in stage.parameters:
        found |= {f"{name} of {PARAMETERS}": value for name, value in leaves(key, value_of(content, key))}
    for path in stage.dependencies:
        is_code = path.is_relative_to(CODE)
        place = code / path.relative_to(CODE) if is_code else path
        found |= {str(path / file.relative_to(place)): digest(file) for file in files_of(place)}
    return found


def leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """The values inside a value, with their dotted keys."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(f"{key}.{name}", inner)
    else:
        yield key, json.dumps(value, default=str)


def files_of(path: Path) -> list[Path]:
    """A file, or the files of a folder without those that `.dvcignore` leaves out, such as bytecode."""
    if not path.is_dir():
        return [path]
    patterns = [line for line in read_text(Path(".dvcignore")).splitlines() if line and not line.startswith("#")]

    def is_left_out(file: Path) -> bool:
        return any(fnmatch(part, pattern) for part in file.relative_to(path).parts for pattern in patterns)

    return sorted(file for file in path.rglob("*") if file.is_file() and not is_left_out(file))
