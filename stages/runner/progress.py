"""How long stages take: what is expected of them, what they took, and how much time is left."""

import csv
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from stages.base.files import write_text
from stages.runner.checkpoint import Checkpoint

LOGS_VARIABLE = "FASHION_MNIST_LOGS"  # in the environment: a folder; a stage writes what it prints into NAME.log there
COSTS_VARIABLE = "FASHION_MNIST_COSTS"  # the folder in which a stage writes what it took, as NAME
COSTS = Path("reports/timing/stages.csv")  # one row per stage, of its last run
COLUMNS = ("stage", "seconds", "cpu_seconds", "memory_mib")  # the last: the highest of its process
WEIGHT_SECONDS = 60  # seconds after which the measured speed counts as much as the expected one


def read_costs() -> dict[str, list[str]]:
    """What each stage took in its last run, the cells of `COLUMNS` but the first; empty if there was none."""
    if not COSTS.exists():
        return {}
    with COSTS.open(encoding="utf-8", newline="") as file:
        return {row["stage"]: [row.get(column) or "" for column in COLUMNS[1:]] for row in csv.DictReader(file)}


def read_seconds() -> dict[str, float]:
    """The seconds of each stage in its last run."""
    return {name: float(cells[0]) for name, cells in read_costs().items()}


def expected(name: str, seconds: dict[str, float]) -> float | None:
    """The last duration of a stage in seconds, or of the same stage with another seed; None if neither is known."""
    alike = [value for other, value in seconds.items() if "@" in name and without_seed(other) == without_seed(name)]
    return seconds.get(name, alike[0] if alike else None)


def without_seed(name: str) -> str:
    """A stage's name without its seed: `train@cnn` for `train@cnn-0`."""
    return name.rpartition("-")[0]


def format_seconds(seconds: float) -> str:
    """Seconds as text: `2:31` (minutes and seconds) or `1:02:31`."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}" if minutes >= 60 else f"{minutes}:{second:02}"


def time_left(
    seconds: dict[str, float | None], ended: list[str], running: dict[str, float], elapsed: float
) -> float | None:
    """The estimated seconds to the end of a plan.

    Expected seconds may come from another machine, or from stages that ran alone. So they are scaled by the pace so far,
    which counts more the longer it is known.

    Args:
        seconds: What is expected of each stage.
        ended: The stages that have ended.
        running: When those that run began, as `time.monotonic` tells it.
        elapsed: The seconds since the plan began.

    Returns:
        None if nothing is known of a stage, or if all have ended.
    """
    if None in seconds.values() or len(ended) == len(seconds):
        return None
    done = sum(seconds[name] for name in ended)
    done += sum(min(seconds[name], time.monotonic() - start) for name, start in running.items())
    return (sum(seconds.values()) - done) * (elapsed + WEIGHT_SECONDS) / (done + WEIGHT_SECONDS)


@contextmanager
def report_costs(name: str, kept: Checkpoint | None) -> Iterator[None]:
    """Write what a stage took at its end, if it is asked for.

    A stage that went on from a checkpoint did not take its whole time.
    """
    yield
    if (folder := os.environ.get(COSTS_VARIABLE)) and not (kept and kept.restored):
        seconds, used = time.time() - psutil.Process().create_time(), resource.getrusage(resource.RUSAGE_SELF)
        memory = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts in bytes, Linux in KiB
        write_text(Path(folder, name), f"{seconds:.1f},{used.ru_utime + used.ru_stime:.1f},{memory:.0f}")
