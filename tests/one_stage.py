"""A stage that takes no time, for tests of what starts and guards stages: in the fixture `project`, `stages/mine.py`.

It counts to three, with a checkpoint, and writes `data/result` from `data/input` and `stages/base/part.py`, which it
loads late, as stages load TensorFlow. It shows how far it is by files `at-PLACE`, and waits while a test has put a file
`wait-PLACE`.
"""

import importlib
import time
from pathlib import Path

import numpy as np

from stages.base.files import write_text
from stages.parameters.schema import read


def reach(place: object) -> None:
    Path(f"at-{place}").touch()
    until = time.monotonic() + 300
    while Path(f"wait-{place}").exists() and time.monotonic() < until:
        time.sleep(0.01)


def main(checkpoint=None) -> None:
    reach("loading")
    part = importlib.import_module("stages.base.part")
    print(f"at rate {read('rate', int)}", flush=True)
    known = checkpoint.restore("counting") if checkpoint else None
    first = int(known["next"]) if known else 0
    print(f"counts from {first}", flush=True)
    for count in range(first, 3):
        reach(count)
        if checkpoint:
            checkpoint.keep("counting", lambda reached=count + 1: {"next": np.array(reached)})
    write_text(Path("data/result"), part.WORD + Path("data/input").read_text())
    reach("end")
