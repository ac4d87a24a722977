"""`make run`: check the workspace, run `dvc repro`, print the table of models.

In a terminal, each stage prints its position in the run, the time since the start and an estimate of the remaining time.
The estimate uses the durations of earlier runs (`reports/timing/stages.csv`). Without a git repository, DVC is configured
to run without git.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stages.common.checkpoint import remove_recorded
from stages.common.commands import dvc, keep_seconds, repro, run_stage
from stages.common.entry import entry_point
from stages.common.notes import notes
from stages.common.orphans import RUN
from stages.common.progress import PLAN, expected, read_seconds


def planned() -> list[str]:
    """DVC's names of the stages that `dvc repro` would run if every result changed, in order."""
    done = dvc(
        "repro", "--dry", "--force-downstream", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )
    return re.findall(r"^Running stage '(.*)':$", done.stdout, re.MULTILINE)


@entry_point
def main() -> None:
    run_stage("check", quiet=True)  # whose errors are clearer than DVC's
    for note in notes(Path.cwd()):
        print(f"note: {note}", flush=True)
    seconds = read_seconds()
    plan = {"started": time.time(), "stages": {}, "took": {}}
    if sys.stdout.isatty():
        plan["stages"] = {name: expected(name, seconds) for name in planned()}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "plan.json"
        path.write_text(json.dumps(plan), encoding="utf-8")
        os.environ |= {PLAN: str(path), RUN: str(os.getpid())}
        status = repro()
        took = json.loads(path.read_text(encoding="utf-8"))["took"]
    keep_seconds(took)
    remove_recorded()
    if status:
        sys.exit(status)
    run_stage("table")


if __name__ == "__main__":
    main()
