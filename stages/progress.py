"""How far a run of several stages is: `make run` leaves a plan, and each stage says its place in it.

The plan is a JSON file, named by the environment variable `FASHION_MNIST_PLAN`: `started`, seconds since 1970; `stages`,
the commands to come, in order, each with the seconds that it may take, or null; `names`, what DVC calls their stages;
`took`, the seconds of those that are done, by command.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLAN = "FASHION_MNIST_PLAN"
PATIENCE = 60  # seconds after which what was seen of the pace counts as much as what was expected


def command() -> str:
    """The command of this process, as in `dvc.yaml` behind `stages.`: `train cnn --seed 0`."""
    return " ".join([Path(sys.argv[0]).stem, *sys.argv[1:]])


def spelled(seconds: float) -> str:
    """`2:31`, minutes and seconds, or `1:02:31`."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}" if minutes >= 60 else f"{minutes}:{second:02}"


def left(plan: dict, place: int) -> float | None:
    """Seconds that the commands from `place` on may take; None where nothing is known of one of them.

    What is expected was measured elsewhere or at another time, so it is scaled by what the commands so far took, the more
    the longer they took.
    """
    coming = list(plan["stages"].values())[place:]
    if None in coming:
        return None
    known = [(seconds, plan["stages"].get(name)) for name, seconds in plan["took"].items()]
    before = sum(expected for _, expected in known if expected)
    took = sum(seconds for seconds, expected in known if expected)
    return sum(coming) * (took + PATIENCE) / (before + PATIENCE)


def headline(plan: dict, command: str) -> str:
    """`[7 of 21] train@cnn-0; 1:20 since the start, about 4:10 to go`."""
    place = list(plan["stages"]).index(command)
    time_left = left(plan, place)
    to_go = "" if time_left is None else f", about {spelled(time_left)} to go"
    elapsed = spelled(time.time() - plan["started"])
    return f"[{place + 1} of {len(plan['stages'])}] {plan['names'][command]}; {elapsed} since the start{to_go}"


@contextmanager
def of_this_stage() -> Iterator[None]:
    """Says this stage's place in the plan, if there is one that holds it, and keeps how long it took."""
    path = Path(os.environ.get(PLAN, ""))
    if not path.is_file():
        yield
        return
    plan = json.loads(path.read_text(encoding="utf-8"))
    if command() in plan["stages"]:
        print(headline(plan, command()), flush=True)
    yield
    import psutil  # here: a Python without the packages gets as far as this file

    plan["took"][command()] = round(time.time() - psutil.Process().create_time(), 1)
    path.write_text(json.dumps(plan), encoding="utf-8")
