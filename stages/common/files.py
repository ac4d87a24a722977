"""Atomic writes: a file is written under a temporary name, then renamed, so that readers never see a partial file."""

import errno
import json
import os
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.common.cache import remedy
from stages.common.errors import InputError

PROBE = 2**18  # bytes that are written, and removed, to see that a folder can be written


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


# What NumPy, `zipfile` and `json` raise when they read a damaged file, or a foreign one.
DAMAGED = (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def try_to_write(folder: Path) -> None:
    """Write a file of `PROBE` bytes into a folder, which is made if it is missing, and remove the file.

    Raises:
        OSError: That is not possible; the error names the folder.
    """
    probe = folder / f".probe.part{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".probe.part*"):  # by a process that was killed
            left.unlink(missing_ok=True)
        try:
            probe.write_bytes(bytes(PROBE))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def refuse_a_full_disk(folder: Path, size: int, number: int) -> None:
    """Raise `OSError` if a folder's disk has no space for `number` files of `size` bytes in all."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    lacks = ""
    if disk.f_blocks > 0 and free < size:  # some file systems do not tell their size,
        lacks = f"{size / 1e6:.1f} MB are needed, as the last time, {free / 1e6:.1f} MB are free"
    if disk.f_files > 0 and disk.f_favail < number:  # or have no fixed number of files
        lacks = f"{number} files have to be written, {disk.f_favail} more are possible"
    if lacks:
        raise OSError(errno.ENOSPC, lacks, str(folder))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, atomically."""
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8; empty if there is no file."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, atomically. Raises `ValueError` for NaN and infinity."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises `InputError` if it is not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}). {remedy(path)}") from None


def write_csv(path: Path, table: Any) -> None:
    """Write a pandas table atomically, without its index, with six decimals for floats."""
    with atomic_write(path) as beside:
        table.to_csv(beside, index=False, float_format="%.6f", lineterminator="\n")
