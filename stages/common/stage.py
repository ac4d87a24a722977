"""A stage's entry in `dvc.yaml`: what it reads and what it writes; and that it stays as it was while the stage runs.

DVC reads parameters, code and data when a stage has ended, and records them with the results. An edit during a run would be
recorded for results that it had no part in. So a stage compares what it reads at its end with what it was at its start.
"""

import errno
import glob
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from stages.common.cache import cache_folder, digest, links, recorded, remedy
from stages.common.errors import InputError
from stages.common.files import read_text, refuse_a_full_disk, try_to_write
from stages.common.parameters import load_yaml
from stages.common.start import edited
from stages.common.workspace import prepare_to_record, refuse_lost_results

NAMED = 5  # changes that an error names
OF_PARAMETERS = " of params.yaml"
READ: dict[str, dict[str, str]] = {}  # what the stage that runs read at its start, by its name: see `read_at_start`


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
    entry, content = load_yaml(Path("dvc.yaml"))["stages"].get(kind), load_yaml(Path("params.yaml"))
    values = item_of(entry, item, content) if entry else None
    if values is None:
        raise InputError(f"dvc.yaml and params.yaml define no stage {name}: `dvc stage list` shows all.")

    def filled(text: str) -> str:
        return re.sub(r"\$\{(.*?)\}", lambda key: str(values.get(key[1], value_of(content, key[1]))), text)

    def listed(kind: str) -> list[tuple[str, dict]]:
        return [next(iter(one.items())) if isinstance(one, dict) else (one, {}) for one in entry.get(kind, [])]

    written = [
        path for part in ("outs", "metrics", "plots") for path, options in listed(part) if not options.get("persist")
    ]
    return Stage(
        name,
        tuple(filled(key) for key, _ in listed("params")),
        tuple(Path(filled(path)) for path, _ in listed("deps")),
        tuple(Path(filled(path)) for path in written),
    )


def item_of(entry: dict, item: str, content: dict) -> dict[str, Any] | None:
    """The values of an entry's `matrix` for one of its items, such as `cnn-0`; None if it has no such item."""
    matrix = entry.get("matrix", {})
    axes = [value_of(content, axis[2:-1]) if isinstance(axis, str) else axis for axis in matrix.values()]
    for values in itertools.product(*axes):
        if "-".join(map(str, values)) == item:
            return {f"item.{key}": value for key, value in zip(matrix, values, strict=True)}
    return None


def value_of(content: Any, key: str) -> Any:
    """The value of a dotted key in nested mappings; None if it is missing."""
    for name in key.split("."):
        content = content.get(name) if isinstance(content, dict) else None
    return content


def fingerprint(stage: Stage) -> dict[str, str]:
    """What a stage reads: each value of its parameters as JSON, each file of its dependencies as an MD5."""
    content = load_yaml(Path("params.yaml"))
    found = {}
    for key in stage.parameters:
        found |= {name + OF_PARAMETERS: value for name, value in leaves(key, value_of(content, key))}
    for path in stage.dependencies:
        found |= {str(file): digest(file) for file in files_of(path)}
    return found


def read_at_start(stage: Stage) -> dict[str, str]:
    """The `fingerprint` of a stage when it began, whatever is edited since; of a stage that does not run, as it is now."""
    return READ.get(stage.name) or fingerprint(stage)


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


@contextmanager
def checked(stage: Stage) -> Iterator[None]:
    """A context in which a stage runs: it can write its results, and what it reads is as recorded and stays as it was.

    Raises:
        InputError: DVC could not record its results: see `refuse_lost_results`. It reads a damaged file. Or what it
            reads changed while it ran: then its results are removed, so that DVC cannot record them.
        OSError: It cannot write: see `prepare_to_write`.
    """
    refuse_lost_results(Path.cwd())
    prepare_to_write(stage)
    before = fingerprint(stage)
    refuse_damaged(before)
    if early := sorted(edited() & before.keys()):  # the code that runs is the one before
        raise InputError(what_changed(stage, early, {}, {}))
    READ[stage.name] = before
    try:
        yield
    finally:
        del READ[stage.name]
    after = fingerprint(stage)
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if changed:
        for path in stage.results:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise InputError(what_changed(stage, changed, before, after))


def refuse_damaged(found: dict[str, str]) -> None:
    """Raise `InputError` if a file that a stage reads is not the result that `dvc.lock` records.

    DVC notices edits by a file's time and size, and has run the stage that made the file again; it does not notice damage.
    """
    for path, known in recorded().items():
        if found.get(path, "") not in {"", known.md5}:
            raise InputError(
                f"{path} is damaged, or was edited: its MD5 is {found[path]}, but dvc.lock records {known.md5}. "
                f"{remedy(Path(path))} To keep an edit, type `dvc commit`."
            )


def what_changed(stage: Stage, changed: list[str], before: dict[str, str], after: dict[str, str]) -> str:
    """The sentence about what changed while a stage ran."""
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    first = changed[0]
    values = f" (from {before.get(first)} to {after.get(first)})" if first.endswith(OF_PARAMETERS) else ""
    consequence = "so they were removed" if stage.results else "so it failed"  # `fetch` keeps what it has
    return (
        f"{', '.join(changed[:NAMED])}{more} changed while {stage.name} ran{values}. DVC would record its results for what "
        f"is there now, {consequence}. Type the command again, and edit while no stage runs."
    )


def prepare_to_write(stage: Stage) -> None:
    """Remove partly written results that a killed process left; try to write wherever the stage, DVC and git will write.

    Raises:
        OSError: A folder cannot be made or written, a disk has no space for as much as the stage wrote the last time, or a
            folder lies where a result belongs.
    """
    for path in stage.results:
        for left in path.parent.glob(f".{glob.escape(path.stem)}.part*{glob.escape(path.suffix)}"):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    for folder in dict.fromkeys([*(path.parent for path in stage.results), Path(tempfile.gettempdir())]):
        try_to_write(folder)
    prepare_to_record(Path.cwd())
    known = recorded()
    sizes = {path: known[path.as_posix()].size if path.as_posix() in known else 0 for path in stage.results}
    cache = cache_folder(Path.cwd())
    places = [(path.parent, size) for path, size in sizes.items()]
    copied = not links(Path.cwd())  # by DVC, into its cache
    places += [(cache, size if copied else 0) for size in sizes.values()]
    by_disk: dict[int, list[tuple[Path, int]]] = {}
    for folder, size in places:
        by_disk.setdefault(folder.stat().st_dev, []).append((folder, size))
    for written in by_disk.values():
        refuse_a_full_disk(written[0][0], sum(size for _, size in written), len(written))
