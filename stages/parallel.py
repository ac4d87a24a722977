"""`make run JOBS=4`: run stages that do not need each other at once, on this machine or on several.

DVC says what has to run. Workers of a Dask cluster run each stage, as soon as what it needs is there, in copies of the
project, and so fill DVC's cache. Then `dvc repro` restores all results in the project. What was edited and is not committed
counts as it does for `dvc repro`. What is edited while stages run makes `dvc repro` run them again at the end.

The cores and GPUs of this machine are divided among the stages that run at once. How many threads a stage has does not
depend on that: its results depend on it, and it is `threads` of params.yaml. The times in the reports are then longer than
those of a stage that has the machine for itself.
"""

import argparse
import os
import re
import shlex
import sys
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.lock import LockError

from stages.cluster.archive import without
from stages.cluster.command import add_options, alone, refuse_options, workers_for
from stages.cluster.display import end_of
from stages.cluster.execution import run_plan
from stages.cluster.plan import Plan, read_plan
from stages.cluster.step import restore
from stages.cluster.worker import Done
from stages.common.checkpoint import remove_recorded
from stages.common.commands import environment, keep_seconds, repro, run_stage
from stages.common.entry import entry_point
from stages.common.errors import InputError
from stages.common.files import read_text, write_text
from stages.common.lock_file import LOCK
from stages.common.notes import notes
from stages.common.orphans import RUN
from stages.common.progress import read_seconds
from stages.common.runs import training_warnings


def arguments() -> argparse.Namespace:
    """The options of the command line: jobs, targets, scheduler, ssh and folder.

    Raises:
        InputError: An option has a wrong value.
    """
    parser = argparse.ArgumentParser(
        prog="python -m stages.parallel",
        description="Run stages in parallel, then collect their results with `dvc repro`.",
    )
    add_options(parser)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as for `dvc repro` (default: all)")
    given = parser.parse_args()
    refuse_options(given)
    return given


def plan_of(targets: list[str]) -> Plan:
    """What has to run; see `read_plan`. Raises `InputError` where DVC raises an error of its own."""
    try:
        return read_plan(tuple(targets))
    except LockError:
        raise InputError("another command of DVC works here: type this again when it has ended.") from None
    except DvcException as error:
        raise InputError(f"{error}. `dvc stage list` shows all stages.") from None


def collect(targets: list[str], plan: Plan, ended: list[Done]) -> int:
    """Restore the results in the project by `dvc repro`; return the exit status of it all.

    If stages failed, `dvc repro` is asked for the others alone, by the last ones: it would run these again.
    """
    for done in ended:
        if done["status"]:
            where = f" on worker {done['worker']}" if done["worker"] else ""
            print(f"\n{done['stage']} failed{where}. The end of what it printed:", file=sys.stderr)
            print(end_of(done["log"]), file=sys.stderr)
            print(f"To run it again: {shlex.join(['dvc', 'repro', done['stage']])}", file=sys.stderr)
    runs = {path: text for done in ended for path, text in done["runs"].items()}
    if runs:
        restore(runs)
    whole = [done["stage"] for done in ended if done["status"] == 0]
    if replaced := tuple(name for name in plan.lost if name in whole):
        write_text(LOCK, without(replaced, read_text(LOCK)))
    print("collecting the results by `dvc repro`", flush=True)
    if len(whole) == len(ended):
        return 1 if repro("--quiet", *targets) else 0
    last = [name for name in whole if not any(name in plan.needs[other] for other in whole)]
    if last:
        repro("--quiet", *last)
    return 1


def warnings_of(ended: list[Done], told: str) -> list[str]:
    """The warnings and notes, once each, that stages printed which did not fail; without the lines of `told`."""
    lines = [line for done in ended if done["status"] == 0 for line in done["log"].splitlines()]
    found = dict.fromkeys(line for line in lines if re.match("(warning|note): ", line))
    return [line for line in found if line not in told.splitlines()]


@entry_point
def main() -> None:
    given = arguments()
    os.environ |= environment() | {RUN: str(os.getpid())}  # for DVC in and below this process, and for workers here
    run_stage("check", quiet=True)  # whose errors are clearer than DVC's
    for note in notes(Path.cwd()):
        print(f"note: {note}", flush=True)
    with alone():
        plan = plan_of(given.targets)
        if plan.here and repro(*plan.here):
            sys.exit(1)
        ended = []
        if plan.needs:
            with workers_for(given, plan.lost) as (client, token):
                ended = run_plan(client, plan, read_seconds(), token)
        status = collect(given.targets, plan, ended)
    keep_seconds({done["stage"]: done["took"] for done in ended if done["took"] is not None})
    remove_recorded()
    shows_table = not status and not given.targets  # else it may be older than what ran
    for line in warnings_of(ended, told=training_warnings() if shows_table else ""):
        print(line, file=sys.stderr)
    if status:
        sys.exit(status)
    if shows_table:
        run_stage("table")


if __name__ == "__main__":
    main()
