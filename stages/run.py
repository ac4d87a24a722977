"""`make run`: run `dvc repro`, which runs what changed, and print the table of models.

What a killed DVC left is repaired first. Each stage prints its position in the run, the time since the start and an
estimate of the remaining time, from the durations of earlier runs (`reports/timing/stages.csv`).
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from stages.check import check
from stages.page.tables import for_terminal
from stages.runner import lock_file
from stages.runner.checkpoint import remove_recorded
from stages.runner.commands import keep_seconds, repro
from stages.runner.entry import entry_point
from stages.runner.notes import show_notes
from stages.runner.orphans import RUN_VARIABLE
from stages.runner.plan import read_plan
from stages.runner.progress import PLAN_VARIABLE, expected, read_seconds


def run(names: list[str]) -> int:
    """Run `dvc repro`, which runs the stages of these names; return its exit status."""
    seconds = read_seconds()
    plan = {"started": time.time(), "stages": {name: expected(name, seconds) for name in names}, "took": {}}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "plan.json"
        path.write_text(json.dumps(plan), encoding="utf-8")
        os.environ[PLAN_VARIABLE] = str(path)
        status = repro()
        keep_seconds(json.loads(path.read_text(encoding="utf-8"))["took"])
    return status


@entry_point
def main() -> None:
    os.environ[RUN_VARIABLE] = str(os.getpid())  # the stages end with this process
    check()  # whose errors are clearer than DVC's, and come before anything is removed
    show_notes()
    names = list(read_plan([]).needs)
    if not names:
        print("Nothing changed: no stage has to run.")
    elif status := run(names):
        sys.exit(status)
    remove_recorded()
    lock_file.keep_copy()
    print(for_terminal())


if __name__ == "__main__":
    main()
