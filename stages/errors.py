"""Errors that the user can mend, and the front door that tells them as a sentence instead of a traceback."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class InputError(Exception):
    """Something the user gave is wrong: the text says what, where, what was found, what is expected and what to do."""


def front_door(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a stage's `main`: an error that the user can mend becomes one sentence on stderr and exit status 1."""

    @functools.wraps(main)
    def guarded() -> None:
        try:
            if Path.cwd() != ROOT:
                raise InputError(
                    f"stages run from the project's root: you are in {Path.cwd()}, type `cd {ROOT}` first."
                )
            main()
        except InputError as error:
            sys.exit(f"error: {error}")
        except FileNotFoundError as error:
            sys.exit(f"error: {error.filename} is missing. Type `dvc repro`, which makes what is not there.")
        except OSError as error:
            where = error.filename or "a file"
            sys.exit(
                f"error: cannot read or write {where}: {error.strerror or error}. Check that it exists, that you may "
                "write there (`ls -ld` shows the rights) and that the disk is not full (`df -h .`)."
            )

    return guarded
