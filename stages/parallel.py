"""`make run JOBS=4`: run stages that do not need each other at once, on this machine or on several.

DVC says what has to run. Workers of a Dask cluster run each stage, as soon as what it needs is there, in copies of the
project, and so fill DVC's cache. Then `dvc repro` restores all results in the project. What was edited and is not committed
counts as it does for `dvc repro`; what is edited from now on counts the next time.
"""

import argparse
import fcntl
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from distributed import Client
from dvc.exceptions import DvcException

from stages.cluster import archive, clusters
from stages.cluster.execution import run_plan
from stages.cluster.plan import Plan, read_plan
from stages.cluster.step import restore
from stages.cluster.worker import Done, Project
from stages.common.cache import cache_folder, setting
from stages.common.checkpoint import remove_recorded
from stages.common.commands import dvc, repro, run_stage
from stages.common.entry import entry_point
from stages.common.errors import InputError
from stages.common.notes import notes
from stages.common.parameters import read_parameters
from stages.common.progress import read_seconds

LINES = 15  # of a failed stage's log that are shown


def arguments() -> argparse.Namespace:
    """The options of the command line: jobs, targets, scheduler, ssh and folder.

    Raises:
        InputError: An option has a wrong value.
    """
    parser = argparse.ArgumentParser(description="Run stages in parallel, then collect their results with `dvc repro`.")
    parser.add_argument("--jobs", type=int, default=2, help="stages that run at once on this machine (default: 2)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="use a Dask cluster that is there: tcp://HOST:8786")
    parser.add_argument("--ssh", metavar="HOST,HOST", help="start a worker on each host by SSH")
    parser.add_argument("--folder", default=str(Path.cwd()), help="of the project on these hosts (default: as here)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as for `dvc repro` (default: all)")
    given = parser.parse_args()
    if given.jobs < 1:
        raise InputError(f"--jobs is {given.jobs}, but must be 1 or more.")
    if given.scheduler and given.ssh:
        raise InputError("--scheduler uses a cluster that is there, --ssh starts one: give one of them.")
    return given


@contextmanager
def alone() -> Iterator[None]:
    """A context in which no other process runs stages in parallel in this project, with an empty folder for copies.

    Raises:
        InputError: Another process does.
    """
    clusters.FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with clusters.FOLDER.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
        except BlockingIOError:
            raise InputError(
                "another process runs stages in parallel here: type this again when it has ended."
            ) from None
        shutil.rmtree(clusters.FOLDER, ignore_errors=True)
        try:
            yield
        finally:
            shutil.rmtree(clusters.FOLDER, ignore_errors=True)


def plan_of(targets: list[str]) -> Plan:
    """What has to run; see `read_plan`. Raises `InputError` where DVC raises an error of its own."""
    try:
        return read_plan(tuple(targets))
    except DvcException as error:
        raise InputError(f"{error}. `dvc stage list` shows all stages.") from None


def refuse_without_remote() -> None:
    """Raise `InputError` if data cannot travel to other machines, because DVC has no default remote."""
    if not setting(Path.cwd(), "core", "remote")[0]:
        raise InputError(
            "data travels to other machines by DVC's default remote, and there is none. Type `dvc remote add --default "
            "storage ssh://HOST/FOLDER`, for example, and `git add .dvc/config`."
        )


def collect(targets: list[str], plan: Plan, ended: list[Done]) -> int:
    """Restore the results in the project by `dvc repro`; return the exit status of it all.

    If stages failed, `dvc repro` is asked for the others alone: it would run these again.
    """
    runs = {path: text for done in ended for path, text in done["runs"].items()}
    if runs:
        restore(runs)
    failed = [done["stage"] for done in ended if done["status"] != 0]
    whole = [name for name in plan.targets if name not in failed] if failed else targets
    status = repro("--quiet", *whole)
    for done in ended:
        if done["status"]:
            lines = done["log"].rstrip().splitlines()
            print(f"\n{done['stage']} failed on worker {done['worker']}. The end of what it printed:", file=sys.stderr)
            print("\n".join(f"  {line}" for line in lines[-LINES:]), file=sys.stderr)
            print(f"To run it again: {shlex.join(['dvc', 'repro', done['stage']])}", file=sys.stderr)
    return status or int(bool(failed))


def workers_for(given: argparse.Namespace) -> tuple[AbstractContextManager[Client], Project]:
    """The cluster that the options ask for, and the project for its workers.

    Raises:
        InputError: The project's data cannot be sent to other machines.
    """
    content, inside = archive.pack(Path.cwd())
    if not (given.scheduler or given.ssh):
        gpus = clusters.shares_of(clusters.gpus_here(), given.jobs, read_parameters("devices"))
        project = Project(content, inside, str(cache_folder(Path.cwd())), dict(enumerate(gpus, 1)))
        return clusters.on_this_machine(gpus), project
    if dvc("push", "--quiet").returncode:
        raise InputError("DVC could not send the data to its default remote; the cause is printed above.")
    cluster = clusters.at(given.scheduler) if given.scheduler else clusters.by_ssh(given.ssh.split(","), given.folder)
    return cluster, Project(content, inside, None, {})


@entry_point
def main() -> None:
    given = arguments()
    run_stage("check", quiet=True)  # whose errors are clearer than DVC's
    for note in notes(Path.cwd()):
        print(f"note: {note}", flush=True)
    if given.scheduler or given.ssh:
        refuse_without_remote()
    with alone():
        plan = plan_of(given.targets)
        if plan.here and (status := repro(*plan.here)):
            sys.exit(status)
        ended = []
        if plan.needs:
            cluster, project = workers_for(given)
            with cluster as client:
                client.register_plugin(project)
                ended = run_plan(client, plan, read_seconds())
        status = collect(given.targets, plan, ended)
    remove_recorded()
    if status:
        sys.exit(status)
    run_stage("table")


if __name__ == "__main__":
    main()
