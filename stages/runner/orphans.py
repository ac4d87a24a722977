"""A stage ends when DVC does: without DVC, nobody records its results, and it would write over those of a later run.

So does a command when the `make` ends that started it, even if that is killed.
"""

import os
import re
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

RUN_VARIABLE = "FASHION_MNIST_RUN"  # the environment variable in which `make run` puts its process ID
POLL_SECONDS = 0.3  # seconds
ORPHANED = 1  # exit status


def ancestors() -> list[psutil.Process]:
    """The processes that this stage must not outlive: DVC, the shell by which it starts a stage, and `make run`.

    Raises:
        psutil.NoSuchProcess: One of them has ended already. Then this stage is the child of another one, such as `init`.
    """
    found = [psutil.Process().parent()]
    while found[-1] and not is_python(found[-1]):  # whatever shell the user has
        found.append(found[-1].parent())
    if not found[-1]:
        raise psutil.NoSuchProcess(os.getppid())
    if os.environ.get(RUN_VARIABLE, "").isdecimal():
        found.append(psutil.Process(int(os.environ[RUN_VARIABLE])))
    return [process for process in found if process]


def is_python(process: psutil.Process) -> bool:
    """Whether a process is Python, as DVC is, or a DVC that was installed as a program of its own."""
    return bool(re.match("python|dvc", Path((process.cmdline() or [""])[0]).name, re.IGNORECASE))


def is_forced() -> bool:
    """Whether DVC was told to run stages that did not change: `dvc repro --force`. Its queue does not tell."""
    try:
        arguments = [argument for process in ancestors() for argument in process.cmdline()]
    except psutil.Error:
        return False
    return any(argument == "--force" or re.fullmatch("-[fipsPRkqv]*f[fipsPRkqv]*", argument) for argument in arguments)


def is_running(process: psutil.Process) -> bool:
    """Whether a process still runs; one that has ended but was not waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end_with_dvc() -> None:
    """From now on, end this process without writing anything more as soon as one of its `ancestors` is gone."""
    try:
        watched = ancestors()
    except psutil.Error:  # DVC has ended already
        watched = []
    end_with(watched, "DVC has ended, so this stage ends, too. Nothing is recorded. Type the command again.")


def end_with_make() -> None:
    """From now on, end this process as soon as the `make` ends that started it, if one did."""
    with suppress(psutil.Error):
        if makes := [process for process in psutil.Process().parents()[:2] if process.name() in {"make", "gmake"}]:
            end_with(makes, "make has ended, so this command ends, too. Type it again to go on.")


def end_with(watched: list[psutil.Process], sentence: str) -> None:
    """From now on, end this process as soon as one of those that are `watched` is gone; print the sentence."""

    def watch() -> None:
        while watched and all(map(is_running, watched)):
            time.sleep(POLL_SECONDS)
        try:
            print(f"error: {sentence}", file=sys.stderr, flush=True)
        finally:
            os._exit(ORPHANED)

    threading.Thread(target=watch, daemon=True).start()
