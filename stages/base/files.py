"""Atomic writes: a file is written under a temporary name, then renamed, so that readers never see a partial file."""

import json
import os
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.base.errors import Damaged

# What NumPy, `zipfile` and `json` raise when they read a damaged file, or a foreign one.
DAMAGED = (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file atomically.

    Yields a temporary path in the same folder. At the end, this path is renamed to `path`; after an error, it is removed.
    The temporary name is unique. If two processes write the same file, the one that finishes last replaces the other's.
    An error of the system, such as that of a full disk, names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.part{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and error.filename in {None, str(temporary)}:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, atomically."""
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, atomically. Raises `ValueError` for NaN and infinity."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises `Damaged` if it is not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Damaged(path, f"it is not valid JSON ({error})") from None


def write_csv(path: Path, table: Any) -> None:
    """Write a pandas table atomically, without its index, with six decimals for floats."""
    with atomic_write(path) as beside:
        table.to_csv(beside, index=False, float_format="%.6f", lineterminator="\n")
