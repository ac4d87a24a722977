"""`make run JOBS=4`: run stages that do not need each other at once, on this machine or on several.

DVC says what has to run. Each stage runs as soon as what it needs is there, by `dvc repro --single-item` in a copy of the
project. Then its entry in `dvc.lock` and its results come into the project. What is edited meanwhile runs again at the end.
"""

import argparse
import os
import queue
import re
import shlex
import signal
import sys
import time
from concurrent.futures import Future
from contextlib import AbstractContextManager
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from dvc.repo import Repo
from dvc.utils.serialize import dumps_yaml, load_yaml

from stages.base.errors import InputError
from stages.base.files import write_text
from stages.check import check
from stages.cluster.copies import Outcome, failure, files_of, put
from stages.cluster.pool import Pool, copies_here
from stages.page.tables import for_terminal, recorded_warnings
from stages.runner.checkpoint import remove_recorded
from stages.runner.commands import keep_seconds, repro
from stages.runner.entry import entry_point
from stages.runner.notes import show_notes
from stages.runner.orphans import RUN_VARIABLE
from stages.runner.plan import Plan, priorities, read_plan
from stages.runner.progress import format_seconds, read_seconds

LOCK = "dvc.lock"
LOG_LINES = 15  # of what a failed stage printed that are shown


def arguments() -> argparse.Namespace:
    """The options of the command line: jobs, scheduler and targets. Raises `InputError` if one has a wrong value."""
    parser = argparse.ArgumentParser(prog="python -m stages.parallel", description="Run several stages at once.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, default=2, help="so many at once on this machine (default: 2)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="on the workers of a Dask cluster: tcp://HOST:8786")
    parser.add_argument("--dry", action="store_true", help="only name the stages that would run")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as for `dvc repro` (default: all)")
    given = parser.parse_args()
    if given.jobs < 1:
        raise InputError(f"--jobs is {given.jobs}, but must be 1 or more.")
    if given.scheduler and find_spec("distributed") is None:
        raise InputError("Dask is not installed here: type `make installed-parallel`.")
    return given


def pool_for(given: argparse.Namespace, plan: Plan) -> AbstractContextManager[Pool]:
    """The copies that the options ask for, on this machine or on others."""
    if given.scheduler:
        return import_module("stages.cluster.machines").workers_at(given.scheduler, plan)  # loads Dask
    return copies_here(given.jobs)


def run_plan(pool: Pool, plan: Plan) -> list[Outcome]:
    """Run the stages of a plan, each as soon as what it needs is there; take their results into the project.

    Where there is a choice, the longest chain goes first. A stage that fails stops only those that need it.

    Returns:
        What became of the stages that ran, in the order in which they ended.
    """
    ranks = priorities(plan.needs, read_seconds())
    order, began = TopologicalSorter(plan.needs), time.monotonic()
    order.prepare()
    ready, running, finished = [], {}, queue.SimpleQueue()
    ended, results = [], {}
    while True:
        ready = sorted([*ready, *order.get_ready()], key=ranks.get)
        while ready and len(running) < pool.slots:
            name = ready.pop()
            future = pool.submit(name, results=results | {LOCK: files_of(Path(), LOCK)})
            running[future] = name
            future.add_done_callback(finished.put)
        if not running:
            break
        future = finished.get()
        name = running.pop(future)
        done = take_results(future, name, pool.remote)
        ended.append(done)
        results |= done["results"]
        if done["status"] == 0:
            order.done(name)
        told = f"{'failed' if done['status'] else 'ended'} after {format_seconds(done['seconds'])}"
        elapsed = format_seconds(time.monotonic() - began)
        print(f"[{len(ended)} of {len(plan.needs)} at {elapsed}] {name} {told}", flush=True)
    for name in plan.needs:
        if name not in [done["stage"] for done in ended]:
            print(f"{name} does not run: it needs a stage that failed", flush=True)
    return ended


def take_results(future: Future[Outcome], name: str, remote: bool) -> Outcome:
    """Take the results of a stage that has ended into the project; return what became of it.

    Args:
        future: Gives what became of the stage.
        name: Of the stage.
        remote: Whether its data is at DVC's default remote, and not in the cache.
    """
    try:
        done = future.result()
        if done["status"] == 0:
            put(done["results"], Path())
            with Repo(_wait_for_lock=True) as repo:
                with repo.lock:
                    content = load_yaml(LOCK) if os.path.exists(LOCK) else {"schema": "2.0", "stages": {}}
                    content["stages"][name] = done["entry"]
                    write_text(Path(LOCK), dumps_yaml(content))
                if done["cached"]:
                    (repo.pull if remote else repo.checkout)(done["cached"], force=True)
        return done
    except Exception as error:  # of DVC, of Dask, or of any library for any kind of remote
        return failure(name, f"{type(error).__name__}: {error}", 1)


def tell(ended: list[Outcome], told: str) -> None:
    """Print what users should know of stages that ended: warnings, once each but those of `told`, and failures."""
    lines = [line for done in ended if done["status"] == 0 for line in done["log"].splitlines()]
    for line in dict.fromkeys(lines):
        if re.match("(warning|note): ", line) and line not in told.splitlines():
            print(line, file=sys.stderr)
    for done in ended:
        if done["status"]:
            lines = [f"\n{done['stage']} failed. The end of what it printed:", *done["log"].splitlines()[-LOG_LINES:]]
            print("\n  ".join(lines), file=sys.stderr)
            print(f"To run it again: {shlex.join(['dvc', 'repro', done['stage']])}", file=sys.stderr)


@entry_point
def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and remove the copies
    given = arguments()
    os.environ[RUN_VARIABLE] = str(os.getpid())  # the stages end with this process
    check()  # whose errors are clearer than DVC's
    show_notes()
    plan, ended = read_plan(given.targets), []
    if given.dry:
        head = "At most these would run; DVC skips or restores those whose inputs turn out the same:"
        print(*([head, *plan.needs] if plan.needs else ["Nothing changed: no stage would run."]), sep="\n")
        return
    if plan.needs:
        with pool_for(given, plan) as pool:
            ended = run_plan(pool, plan)
    keep_seconds({done["stage"]: done["took"] for done in ended if done["took"] is not None})
    remove_recorded()
    status = int(any(done["status"] for done in ended))
    if ended and not status and (again := read_plan(given.targets).needs):
        print(f"note: {', '.join(again)} run again, because something was edited meanwhile.", flush=True)
        status = repro(*given.targets)
    shows_table = not status and not given.targets  # else it may be older than what ran
    tell(ended, recorded_warnings() if shows_table else "")
    if shows_table:
        print(for_terminal())
    sys.exit(status)


if __name__ == "__main__":
    main()
