"""This machine's cores, divided among the stages that run at once: none waits for the threads of another.

A stage that runs alone has all of them. Results do not depend on it: a stage has as many threads as `threads` of
params.yaml says, on however many cores.
"""

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

PROGRAM = "stages.cluster.step"  # which runs a stage
PAUSE = 0.5  # seconds between two looks at what runs


def shares_of(cores: list[int], count: int) -> list[list[int]]:
    """Divide cores among `count` stages, one or more: neighbours go together; if there are too few, stages share one."""
    if count > len(cores):
        return [[cores[number % len(cores)]] for number in range(count)]
    ends = [len(cores) * number // count for number in range(count + 1)]
    return [cores[low:high] for low, high in itertools.pairwise(ends)]


def running() -> list[psutil.Process]:
    """The programs by which workers of this process run stages now, the first one first."""
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if PROGRAM in process.cmdline():
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


def bind(process: psutil.Process, cores: list[int]) -> None:
    """Let a process and all that it started compute on these cores alone."""
    with suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error, OSError):
                for thread in one.threads():
                    os.sched_setaffinity(thread.id, cores)


@contextmanager
def divided() -> Iterator[None]:
    """A context in which the stages that workers of this process run have cores of their own, if the system can do it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores, ended = sorted(os.sched_getaffinity(0)), threading.Event()

    def watch() -> None:
        before: list[psutil.Process] = []
        changed = True
        while not ended.wait(PAUSE):
            now = running()
            if now != before or changed:  # and once more: a thread may have begun meanwhile
                for process, share in zip(now, shares_of(cores, len(now)) if now else [], strict=True):
                    bind(process, share)
            before, changed = now, now != before

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
