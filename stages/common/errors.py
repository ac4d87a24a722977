"""Errors that the user can fix, and the entry point that prints them as a sentence instead of a traceback."""

import errno
import functools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from stages.common import progress

ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED, UNREAD = 130, 141  # exit statuses after Ctrl-C and a closed pipe, as those of shells
GRACE = 5  # seconds
TRACEBACK = "TRACEBACK"  # if this environment variable is set, errors show their traceback; also with --traceback


class InputError(Exception):
    """An input is wrong. The message says what and where, the value found, the value expected, and what to do."""


def entry_point(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a stage's `main`: `InputError` and `OSError` become one sentence on stderr and exit status 1; Ctrl-C, 130."""

    @functools.wraps(main)
    def guarded() -> None:
        for stream in (sys.stdout, sys.stderr):  # escape characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
        show_traceback = "--traceback" in sys.argv or bool(os.environ.get(TRACEBACK))
        sys.argv = [argument for argument in sys.argv if argument != "--traceback"]
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            if Path.cwd() != ROOT:
                raise InputError(
                    f"stages run from the project's root: you are in {Path.cwd()}, type `cd {ROOT}` first."
                )
            with progress.report_progress():
                main()
        except BrokenPipeError:  # `... | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes to it when it ends
            sys.exit(UNREAD)
        except (InputError, OSError) as error:
            if show_traceback:
                traceback.print_exc()
            sys.exit(f"error: {sentence(error)}")
        except KeyboardInterrupt:
            print("stopped; nothing half-written is left. Type the command again to go on.", file=sys.stderr)
            sys.exit(INTERRUPTED)
        finally:
            signal.signal(signal.SIGINT, before)

    return guarded


def interrupt(*_: object) -> None:
    """Handle Ctrl-C: raise `KeyboardInterrupt`, and end the process `GRACE` seconds later if it still runs.

    Libraries lose exceptions that are raised in some of their callbacks; then a training would go on.
    """
    timer = threading.Timer(GRACE, os._exit, [INTERRUPTED])
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt


def sentence(error: InputError | OSError) -> str:
    """The sentence that is printed for an error: what is wrong and what to do."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} is missing. Type `dvc repro`, which creates missing files."
    return f"{cause(error)} To see the traceback, type the command again with {TRACEBACK}=1 before it."


def cause(error: OSError) -> str:
    """What went wrong with a file, the disk or the network, and how to find the reason."""
    where = error.filename or "a file"
    message = f"{where}: {error.strerror or ' '.join(str(error).split()) or type(error).__name__}."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"may not read or write {message} `ls -ld` shows the owner and the permissions."
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk is full: cannot write {message} `df -h .` and `df -i .` show the free space."
    if error.errno in {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}:
        return f"cannot read or write {message} Move what lies there, or in the place of a folder above it, away."
    if error.filename is None and error.errno is None:
        return f"{type(error).__name__}: {message.removeprefix('a file: ')}"
    return f"cannot read or write {message}"
