"""Stage `check`: refuse a bad `params.yaml` before anything runs.

It is the first stage of `dvc.yaml`, reads all of `params.yaml` and writes nothing. Without it, the stage that reads a
mistyped key would find it: after DVC removed that stage's results, and perhaps after minutes of training another model.
"""

import sys
from pathlib import Path

from stages import models
from stages.common import lock_file
from stages.common.entry import entry_point
from stages.common.environment import REQUIREMENTS, other_versions
from stages.common.files import read_text
from stages.common.progress import stage_name
from stages.common.workspace import prepare_to_record, refuse_lost_results, remove_leftovers, remove_stale_locks
from stages.tuning.ranges import read_ranges


@entry_point
def main() -> None:
    sections, blocks = models.read_all()
    read_ranges(sections.search, blocks)
    if not stage_name():  # not while DVC runs this
        here = Path.cwd()
        notes = (remove_stale_locks(here), remove_leftovers(here), lock_file.repair(), lock_file.remove_damaged_runs())
        for repaired in filter(None, notes):
            print(f"note: {repaired}", file=sys.stderr)
        refuse_lost_results(here)
        prepare_to_record(here)
    others = other_versions(read_text(REQUIREMENTS))
    if others:
        print(f"note: results may differ in their last digits from those of the pinned versions: {', '.join(others)}.")
    print(f"params.yaml is valid; models: {', '.join(blocks)}")


if __name__ == "__main__":
    main()
