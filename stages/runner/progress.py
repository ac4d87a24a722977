"""The progress of `make run`: it writes a plan, and each stage prints its position in the plan.

The plan is a JSON file; the environment variable `FASHION_MNIST_PLAN` holds its path. Its keys: `started`, seconds since
1970; `stages`, DVC's names of the planned stages in order, each with its expected seconds or null; `took`, the seconds of
those that are done.
"""

import csv
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from stages.base.files import write_text
from stages.runner.checkpoint import Checkpoint

PLAN_VARIABLE = "FASHION_MNIST_PLAN"
SECONDS = Path("reports/timing/stages.csv")  # one row per stage: its name, seconds in the last run
WEIGHT_SECONDS = 60  # seconds after which the measured speed counts as much as the expected one


def read_seconds() -> dict[str, float]:
    """The seconds of each stage in the last run; empty if there was none."""
    if not SECONDS.exists():
        return {}
    with SECONDS.open(encoding="utf-8", newline="") as file:
        return {row["stage"]: float(row["seconds"]) for row in csv.DictReader(file)}


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


def seconds_left(plan: dict, place: int) -> float | None:
    """The estimated seconds of the stages from `place` on; None if the duration of one is unknown.

    Expected durations may come from another machine. They are scaled by the ratio of measured to expected seconds of the
    stages that are done. The ratio counts more the longer these took.
    """
    coming = list(plan["stages"].values())[place:]
    if None in coming:
        return None
    known = [(seconds, plan["stages"].get(name)) for name, seconds in plan["took"].items()]
    before = sum(expected for _, expected in known if expected)
    took = sum(seconds for seconds, expected in known if expected)
    return sum(coming) * (took + WEIGHT_SECONDS) / (before + WEIGHT_SECONDS)


def headline(plan: dict, name: str) -> str:
    """The line that a stage prints: `[7 of 21] train@cnn-0; 1:20 since the start, about 4:10 to go`."""
    place = list(plan["stages"]).index(name)
    time_left = seconds_left(plan, place)
    to_go = "" if time_left is None else f", about {format_seconds(time_left)} to go"
    elapsed = format_seconds(time.time() - plan["started"])
    return f"[{place + 1} of {len(plan['stages'])}] {name}; {elapsed} since the start{to_go}"


@contextmanager
def report_progress(name: str, kept: Checkpoint | None) -> Iterator[None]:
    """Print a stage's position in the plan, if it is in one, and write its duration into the plan.

    A stage that went on from a checkpoint did not take its whole time.
    """
    path = Path(os.environ.get(PLAN_VARIABLE, ""))
    if not path.is_file():
        yield
        return
    plan = json.loads(path.read_text(encoding="utf-8"))
    if name in plan["stages"]:
        print(headline(plan, name), flush=True)
    yield
    if not (kept and kept.restored):
        plan["took"][name] = round(time.time() - psutil.Process().create_time(), 1)
        write_text(path, json.dumps(plan))
