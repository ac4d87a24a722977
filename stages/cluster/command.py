"""What the commands that use a cluster share: their options, the cluster that these ask for, and one command at a time."""

import argparse
import fcntl
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from distributed import Client

from stages.cluster import archive, clusters
from stages.cluster.worker import Project
from stages.common.cache import cache_folder, setting
from stages.common.commands import dvc
from stages.common.errors import InputError
from stages.common.parameters import read_parameters


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where stages run: jobs, scheduler, ssh and folder."""
    parser.add_argument("--jobs", type=int, default=2, help="stages that run at once on this machine (default: 2)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="use a Dask cluster that is there: tcp://HOST:8786")
    parser.add_argument("--ssh", metavar="HOST,HOST", help="start a worker on each host by SSH")
    parser.add_argument("--folder", default=str(Path.cwd()), help="of the project on these hosts (default: as here)")


def refuse_options(given: argparse.Namespace) -> None:
    """Raise `InputError` if one of the options of `add_options` has a wrong value."""
    if given.jobs < 1:
        raise InputError(f"--jobs is {given.jobs}, but must be 1 or more.")
    if given.scheduler and given.ssh:
        raise InputError("--scheduler uses a cluster that is there, --ssh starts one: give one of them.")
    if given.scheduler or given.ssh:
        refuse_without_remote()


def refuse_without_remote() -> None:
    """Raise `InputError` if data cannot travel to other machines, because DVC has no default remote."""
    if not setting(Path.cwd(), "core", "remote")[0]:
        raise InputError(
            "data travels to other machines by DVC's default remote, and there is none. Type `dvc remote add --default "
            "storage ssh://HOST/FOLDER`, for example, and `git add .dvc/config`."
        )


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
