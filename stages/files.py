"""Writing files whole: beside, then renamed, so that no reader ever sees half of one."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.errors import InputError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the same folder; renames it to `path` at the end, removes it if anything fails.

    Its name is this process's own: two that write the same file do not meet, the last one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.part{os.getpid()}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all; NaN and infinity raise `ValueError`."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The parsed content of a JSON file. Raises `InputError` where it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON ({error}). Type `git checkout {path}` or delete it, then `dvc repro`."
        ) from None


def write_csv(path: Path, table: Any) -> None:
    """Write a pandas table without its index; floats to six decimals, which is more than anything here can measure."""
    with written_whole(path) as beside:
        table.to_csv(beside, index=False, float_format="%.6f", lineterminator="\n")
