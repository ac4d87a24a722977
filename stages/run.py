"""`make run`: run `dvc repro`, which runs what changed, and print the table of models.

What a killed DVC left is repaired first. In a terminal, each stage prints its position in the run, the time since the start
and an estimate of the remaining time, from the durations of earlier runs (`reports/timing/stages.csv`).
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stages.page.tables import for_terminal
from stages.runner import lock_file
from stages.runner.checkpoint import remove_recorded
from stages.runner.commands import dvc, keep_seconds, repro, run_stage
from stages.runner.entry import entry_point
from stages.runner.notes import show_notes
from stages.runner.orphans import RUN
from stages.runner.progress import PLAN, expected, read_seconds


def planned() -> list[str]:
    """DVC's names of the stages that `dvc repro` would run if every result changed, in order."""
    done = dvc(
        "repro", "--dry", "--force-downstream", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )
    return re.findall(r"^Running stage '(.*)':$", done.stdout, re.MULTILINE)


@entry_point
def main() -> None:
    show_notes()
    seconds, plan = read_seconds(), {"started": time.time(), "stages": {}, "took": {}}
    if sys.stdout.isatty():
        plan["stages"] = {name: expected(name, seconds) for name in planned()}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "plan.json"
        path.write_text(json.dumps(plan), encoding="utf-8")
        os.environ |= {PLAN: str(path), RUN: str(os.getpid())}
        status = repro()
        keep_seconds(json.loads(path.read_text(encoding="utf-8"))["took"])
    remove_recorded()
    if status:  # of a params.yaml that DVC cannot use, `check` says more
        run_stage("check")
        sys.exit(status)
    lock_file.keep_copy()
    print(for_terminal())


if __name__ == "__main__":
    main()
