"""`make run`: run what changed, several stages at once, and print the table of models.

DVC says what has to run; what a killed DVC left is repaired first. Each stage runs as soon as what it needs is there, as by
`dvc repro --single-item`: in the project, or, with `--scheduler`, in copies on other machines, whose results then come into
the project. What is edited meanwhile runs again at the end.
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
from stages.check import check_all
from stages.cluster.copies import Outcome, failure, files_of, put
from stages.cluster.here import jobs_for, running_here
from stages.page.tables import for_terminal, recorded_warnings
from stages.parameters.runs import Threads
from stages.parameters.schema import read
from stages.runner import lock_file
from stages.runner.checkpoint import remove_recorded
from stages.runner.commands import keep_costs
from stages.runner.entry import entry_point
from stages.runner.notes import show_notes
from stages.runner.orphans import RUN_VARIABLE
from stages.runner.plan import UNKNOWN_SECONDS, Plan, priorities, read_plan
from stages.runner.progress import expected, format_seconds, read_seconds, time_left

LOCK = "dvc.lock"
LOG_LINES = 15  # of what a failed stage printed that are shown
FIRST = 1e9  # the rank of what goes before all others, whose ranks are seconds


def arguments() -> argparse.Namespace:
    """The options of the command line: jobs, scheduler and targets. Raises `InputError` if one has a wrong value."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.run", description="Run what changed, several stages at once."
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, help="so many stages at once (default: as the cores allow)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="on the workers of a Dask cluster: tcp://HOST:8786")
    parser.add_argument("--dry", action="store_true", help="only name the stages that would run")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as for `dvc repro` (default: all)")
    given = parser.parse_args()
    if given.jobs is not None and given.jobs < 1:
        raise InputError(f"--jobs is {given.jobs}, but must be 1 or more.")
    if given.scheduler and find_spec("distributed") is None:
        raise InputError("Dask is not installed here: type `make installed-parallel`.")
    return given


def pool_for(given: argparse.Namespace, plan: Plan) -> AbstractContextManager:
    """What runs the stages: the project itself, or workers of a cluster."""
    if given.scheduler:
        return import_module("stages.cluster.machines").workers_at(given.scheduler, plan)  # loads Dask
    return running_here(given.jobs or jobs_for(read("threads", Threads)))


def run_plan(pool, plan: Plan) -> list[Outcome]:
    """Run the stages of a plan, each as soon as what it needs is there; take their results into the project.

    Where there is a choice, the longest chain goes first, but before all the shortest training: so there soon is a first
    result. One at a time, all trainings go first, from the shortest to the longest. A stage that fails stops only those
    that need it.

    Args:
        pool: `stages.cluster.here.Here`, or the workers of a cluster.
        plan: What has to run.

    Returns:
        What became of the stages that ran, in the order in which they ended.
    """
    known = read_seconds()
    seconds = {name: expected(name, known) for name in plan.needs}
    ranks = priorities(plan.needs, known)
    trainings = [name for name in plan.needs if name.startswith("train@")]
    trainings.sort(key=lambda name: seconds[name] or UNKNOWN_SECONDS)
    ranks |= {name: FIRST - place for place, name in enumerate(trainings[: None if pool.slots == 1 else 1])}
    order, began = TopologicalSorter(plan.needs), time.monotonic()
    order.prepare()
    ready, running, finished = [], {}, queue.SimpleQueue()
    ended, results = [], {}
    print(f"{len(plan.needs)} stages have to run{about(time_left(seconds, [], {}, 0))}.", flush=True)
    while True:
        ready = sorted([*ready, *order.get_ready()], key=ranks.get)
        while ready and len(running) < pool.slots:
            name = ready.pop()
            future = pool.submit(name, results | {LOCK: files_of(Path(), LOCK)} if pool.remote else {})
            running[future] = name, time.monotonic()
            future.add_done_callback(finished.put)
        if not running:
            break
        future = finished.get()
        name, _ = running.pop(future)
        done = take_results(future, name)
        ended.append(done)
        results |= done["results"]
        if done["status"] == 0:
            order.done(name)
        if done["took"]:
            keep_costs({name: done["took"]})
        elapsed = time.monotonic() - began
        left = time_left(seconds, [one["stage"] for one in ended], dict(running.values()), elapsed)
        place = f"{len(ended)} of {len(plan.needs)} at {format_seconds(elapsed)}"
        print(f"[{place}{about(left)}] {headline(done)}", flush=True)
    for name in plan.needs:
        if name not in [done["stage"] for done in ended]:
            print(f"{name} does not run: it needs a stage that failed", flush=True)
    return ended


def about(seconds: float | None) -> str:
    """The time to go as a part of a sentence; empty if it is not known."""
    return "" if seconds is None else f", about {format_seconds(seconds)} to go"


def headline(done: Outcome) -> str:
    """What became of a stage: the last line that it printed, if it ran and did not fail."""
    name, lines = done["stage"], [line for line in done["log"].splitlines() if line.strip()]
    if done["status"] or not lines:
        became = "failed" if done["status"] else "ended" if done["took"] else "was restored"
        return f"{name} {became} after {format_seconds(done['seconds'])}"
    run = name.partition("@")[2]
    return f"{name}: {lines[-1].removeprefix(f'{run}: ')}"


def take_results(future: Future[Outcome], name: str) -> Outcome:
    """Take the results of a stage that has ended on another machine into the project; return what became of it."""
    try:
        done = future.result()
        if done["entry"]:
            put(done["results"], Path())
            with Repo(_wait_for_lock=True) as repo:
                with repo.lock:
                    content = load_yaml(LOCK) if os.path.exists(LOCK) else {"schema": "2.0", "stages": {}}
                    content["stages"][name] = done["entry"]
                    write_text(Path(LOCK), dumps_yaml(content))
                if done["cached"]:
                    repo.pull(done["cached"], force=True)  # from DVC's default remote
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and end the stages
    given = arguments()
    os.environ[RUN_VARIABLE] = str(os.getpid())  # the stages end with this process
    check_all()  # whose errors are clearer than DVC's, and come before anything is removed
    show_notes()
    plan, ended = read_plan(given.targets), []
    if given.dry:
        head = "At most these would run; DVC skips or restores those whose inputs turn out the same:"
        print(*([head, *plan.needs] if plan.needs else ["Nothing changed: no stage would run."]), sep="\n")
        return
    if not plan.needs:
        print("Nothing changed: no stage has to run.")
    while plan.needs:
        with pool_for(given, plan) as pool:
            now = run_plan(pool, plan)
        again = bool(ended) or any(done["status"] for done in now)  # then not once more
        plan, ended = Plan({}, {}) if again else read_plan(given.targets), ended + now
        if plan.needs:
            print(f"note: {', '.join(plan.needs)} run again, because something was edited meanwhile.", flush=True)
    remove_recorded()
    lock_file.keep_copy()
    status = int(any(done["status"] for done in ended))
    shows_table = not status and not given.targets  # else it may be older than what ran
    tell(ended, recorded_warnings() if shows_table else "")
    if shows_table:
        print(for_terminal())
    sys.exit(status)


if __name__ == "__main__":
    main()
