"""Stage `check`: refuse a bad `params.yaml` before anything runs.

It is the first stage of `dvc.yaml`, reads all of `params.yaml` and writes nothing. Without it, the stage that reads a
mistyped key would find it: after DVC removed that stage's results, and perhaps after minutes of training another model.
"""

import re
import sys
from pathlib import Path

from stages import models
from stages.common import lock_file
from stages.common.entry import entry_point
from stages.common.environment import versions
from stages.common.progress import stage_name
from stages.common.workspace import refuse_before_training, remove_stale_locks
from stages.tuning.ranges import read_ranges

REQUIREMENTS = Path("requirements.txt")


def other_versions(pins: str) -> list[str]:
    """The packages whose installed version is not the pinned one, which follows in brackets: `numpy 2.3.1 (2.4.6)`."""
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", pins, re.MULTILINE))
    return [
        f"{name} {found} ({pinned[name]})" for name, found in versions().items() if pinned.get(name, found) != found
    ]


@entry_point
def main() -> None:
    sections, blocks = models.read_all()
    read_ranges(sections.search, blocks)
    if not stage_name():  # not while DVC runs this
        for repaired in (remove_stale_locks(Path.cwd()), lock_file.repair(), lock_file.remove_damaged_runs()):
            if repaired:
                print(f"note: {repaired}", file=sys.stderr)
    refuse_before_training(Path.cwd())
    others = other_versions(REQUIREMENTS.read_text(encoding="utf-8")) if REQUIREMENTS.exists() else []
    if others:
        print(f"note: results may differ in their last digits from those of the pinned versions: {', '.join(others)}.")
    print(f"params.yaml is valid; models: {', '.join(blocks)}")


if __name__ == "__main__":
    main()
