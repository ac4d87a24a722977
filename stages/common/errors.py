"""Errors that the user can fix, as sentences."""

import errno
import os
import shlex
from pathlib import Path

TRACEBACK = "TRACEBACK"  # if this environment variable is set, errors show their traceback; also with --traceback


class InputError(Exception):
    """An input is wrong. The message says what and where, the value found, the value expected, and what to do."""


def printable(text: str) -> str:
    """A text with its control characters escaped: a file's name or a server's answer could move the cursor with them."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def sentence(error: InputError | OSError) -> str:
    """The sentence that is printed for an error: what is wrong and what to do."""
    if isinstance(error, InputError):
        return printable(str(error))
    if isinstance(error, FileNotFoundError) and error.filename:
        return printable(f"{error.filename} is missing. Type `dvc repro`, which creates missing files.")
    return printable(f"{cause(error)} To see the traceback, type the command again with {TRACEBACK}=1 before it.")


def cause(error: OSError) -> str:
    """What went wrong with a file, the disk or the network, and how to find the reason."""
    where = error.filename or "a file"
    message = f"{where}: {error.strerror or ' '.join(str(error).split()) or type(error).__name__}."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"may not read or write {message} `ls -ld` shows the owner and the permissions."
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        folder = shlex.quote(str(folder_of(where)))
        return f"the disk is full: cannot write {message} `df -h {folder}` and `df -i {folder}` show the free space."
    if error.errno in {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}:
        return f"cannot read or write {message} Move what lies there, or in the place of a folder above it, away."
    if error.filename is None and error.errno is None:
        return f"{type(error).__name__}: {message.removeprefix('a file: ')}"
    return f"cannot read or write {message}"


def folder_of(where: str) -> Path:
    """The nearest folder that exists, of a file or folder."""
    return next(place for place in (Path(where), *Path(os.path.abspath(where)).parents) if place.is_dir())
