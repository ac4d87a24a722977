"""Errors that the user can mend, and the front door that tells them as a sentence instead of a traceback."""

import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from stages import progress

ROOT = Path(__file__).resolve().parents[1]
TRACEBACK = (
    "TRACEBACK"  # this environment variable, if set, shows the whole of an error; so does the option --traceback
)


class InputError(Exception):
    """Something the user gave is wrong: the text says what, where, what was found, what is expected and what to do."""


def front_door(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a stage's `main`: an error that the user can mend becomes one sentence on stderr and exit status 1."""

    @functools.wraps(main)
    def guarded() -> None:
        for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter gets its code, not a traceback
            stream.reconfigure(errors="backslashreplace")
        whole = "--traceback" in sys.argv or bool(os.environ.get(TRACEBACK))
        sys.argv = [argument for argument in sys.argv if argument != "--traceback"]
        try:
            if Path.cwd() != ROOT:
                raise InputError(
                    f"stages run from the project's root: you are in {Path.cwd()}, type `cd {ROOT}` first."
                )
            with progress.of_this_stage():
                main()
        except (InputError, OSError) as error:
            if whole:
                traceback.print_exc()
            sys.exit(f"error: {sentence(error)}")

    return guarded


def sentence(error: InputError | OSError) -> str:
    """What an error is told as, and what to do."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} is missing. Type `dvc repro`, which makes what is not there."
    return f"{cause(error)} For the whole of the error, type the command again with {TRACEBACK}=1 before it."


def cause(error: OSError) -> str:
    """What went wrong with a file, the disk or the network, and what to look at."""
    where = error.filename or "a file"
    told = f"{where}: {error.strerror or ' '.join(str(error).split()) or type(error).__name__}."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"may not read or write {told} `ls -ld` shows whose it is and who may write there."
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk is full: cannot write {told} `df -h .` and `df -i .` show how much is left."
    if error.errno in {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}:
        return f"cannot read or write {told} Move what lies there, or in the place of a folder above it, away."
    if error.filename is None and error.errno is None:
        return f"{type(error).__name__}: {told.removeprefix('a file: ')}"
    return f"cannot read or write {told}"
