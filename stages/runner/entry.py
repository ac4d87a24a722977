"""The entry point of commands: errors become sentences that say what to type."""

import errno
import functools
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import stages
from stages.base.errors import INTERRUPTED, TRACEBACK, Damaged, InputError, printable, stop
from stages.runner import orphans
from stages.runner.dvc_files import cache_folder, digest, recorded

ROOT = Path(stages.__file__).resolve().parents[1]
CLOSED_PIPE = 141  # exit status after a closed pipe, as that of shells
GRACE_SECONDS = 5


def entry_point(main: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command: `InputError` and `OSError` become one sentence on stderr and exit status 1; Ctrl-C, 130."""

    @functools.wraps(main)
    def guarded(*given: object) -> None:
        orphans.end_with_make()
        for stream in (sys.stdout, sys.stderr):  # escape characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            if Path.cwd() != ROOT:
                raise InputError(
                    f"commands run from the project's root: you are in {Path.cwd()}, type `cd {ROOT}` first."
                )
            main(*given)
        except BrokenPipeError:  # `... | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes to it when it ends
            sys.exit(CLOSED_PIPE)
        except (InputError, OSError) as error:
            if os.environ.get(TRACEBACK):
                traceback.print_exc()
            sys.exit(f"error: {sentence(error)}")
        except KeyboardInterrupt:
            print("stopped. Type the command again to go on.", file=sys.stderr)
            sys.exit(INTERRUPTED)
        finally:
            signal.signal(signal.SIGINT, before)

    return guarded


def interrupt(*_: object) -> None:
    """Handle Ctrl-C: raise `KeyboardInterrupt`, and end the process `GRACE_SECONDS` later if it still runs.

    Libraries lose exceptions that are raised in some of their callbacks; then a training would go on.
    """
    timer = threading.Timer(GRACE_SECONDS, stop)
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt


def sentence(error: InputError | OSError) -> str:
    """The sentence that is printed for an error: what is wrong and what to do, by the command that was typed."""
    if isinstance(error, Damaged):
        text = f"{error} {remedy(error.path)}"
    elif isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, FileNotFoundError) and error.filename:
        text = f"{error.filename} is missing. Type `dvc repro`, which creates missing files."
    else:
        text = f"{cause(error)} To see the traceback, type the command again with {TRACEBACK}=1 before it."
    return printable(text.replace("`dvc repro`", "`make run`") if os.environ.get(orphans.RUN_VARIABLE) else text)


def cause(error: OSError) -> str:
    """What went wrong with a file, the disk or the network, and how to find the reason."""
    where = error.filename or "a file"
    message = f"{where}: {error.strerror or ' '.join(str(error).split()) or type(error).__name__}."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"may not read or write {message} `ls -ld` shows the owner and the permissions."
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        places = (Path(where), *Path(os.path.abspath(where)).parents)
        folder = shlex.quote(str(next(place for place in places if place.is_dir())))
        return f"the disk is full: cannot write {message} `df -h {folder}` and `df -i {folder}` show the free space."
    if error.errno in {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}:
        return f"cannot read or write {message} Move what lies there, or in the place of a folder above it, away."
    if error.filename is None and error.errno is None:
        return f"{type(error).__name__}: {message.removeprefix('a file: ')}"
    return f"cannot read or write {message}"


def remedy(path: Path) -> str:
    """What to type when a file of the project is damaged: so that it and its copy in DVC's cache are right again.

    DVC never verifies a file in its cache: a damaged one replaces the deleted file, and even the result of a new run.
    """
    known = recorded().get(Path(os.path.relpath(path)).as_posix())
    if known is None:
        return f"Type `git checkout {shlex.quote(str(path))}` if git has it, else remove it and type `dvc repro`."
    copy = cache_folder() / "files/md5" / known["md5"][:2] / known["md5"][2:]
    damaged = [copy] if digest(copy) not in {"", known["md5"]} else []
    where = [Path(os.path.relpath(copy)) if copy.is_relative_to(Path.cwd()) else copy for copy in damaged]
    too = "Its copy in DVC's cache is damaged, too: type" if damaged else "Type"
    return f"{too} `{shlex.join(['rm', '-f', *map(str, [path, *where])])}`, then `dvc repro`."
