"""What the commands that use a cluster share: their options, the cluster that these ask for, and one command at a time."""

import argparse
import fcntl
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed import Client

from stages.cluster import archive, clusters
from stages.cluster.worker import Departure, Project, gpus_here
from stages.common.cache import cache_folder, setting
from stages.common.commands import dvc
from stages.common.errors import InputError
from stages.common.parameters import read_parameters

JOBS = 2  # stages that run at once, unless an option says otherwise


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where stages run: jobs, scheduler, ssh and folder."""
    parser.add_argument("--jobs", type=int, help=f"stages that run at once on this machine (default: {JOBS})")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="use a Dask cluster that is there: tcp://HOST:8786")
    parser.add_argument("--ssh", metavar="HOST,HOST", help="start a worker on each host by SSH")
    parser.add_argument("--folder", default=str(Path.cwd()), help="of the project on these hosts (default: as here)")


def refuse_options(given: argparse.Namespace) -> None:
    """Raise `InputError` if one of the options of `add_options` has a wrong value."""
    if given.jobs is not None and given.jobs < 1:
        raise InputError(f"--jobs is {given.jobs}, but must be 1 or more.")
    if sum(option is not None for option in (given.jobs, given.scheduler, given.ssh)) > 1:
        raise InputError(
            "--jobs is for this machine, --scheduler for a cluster that is there, --ssh for hosts: give one."
        )
    for name, value in (("scheduler", given.scheduler), ("ssh", given.ssh)):
        if value is not None and not value.strip(" ,"):
            raise InputError(f"--{name} is {value!r}, which names nothing: see --help.")
    if "@" in (given.ssh or ""):
        raise InputError(f"--ssh is {given.ssh!r}: give hosts alone, and their users in ~/.ssh/config (`User NAME`).")
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
        shutil.rmtree(clusters.COPIES, ignore_errors=True)
        try:
            yield
        finally:
            shutil.rmtree(clusters.COPIES, ignore_errors=True)
            with suppress(OSError):  # others have workers here
                clusters.FOLDER.rmdir()


@contextmanager
def workers_for(given: argparse.Namespace, lost: tuple[str, ...] = ()) -> Iterator[tuple[Client, str]]:
    """The cluster that the options ask for, with copies of the project on its workers, and the copies' name.

    The copies know nothing of earlier results of the stages `lost`: see `stages.cluster.plan.Plan`.

    Raises:
        InputError: There is no such cluster, or the project cannot be sent to it.
    """
    content, inside = archive.pack(Path.cwd(), lost)
    if not (given.scheduler or given.ssh):
        jobs = given.jobs or JOBS
        shares = clusters.shares_of(gpus_here(), jobs, read_parameters("devices"))
        if len(shares) < jobs:
            print(f"note: this machine has GPUs for {len(shares)} stages at once.", flush=True)
        gpus = {str(number): share for number, share in enumerate(shares, 1)}
        project = Project(content, inside, str(cache_folder(Path.cwd())), gpus, {})
        cluster = clusters.on_this_machine(len(shares))
    else:
        if dvc("push", "--quiet").returncode:
            raise InputError("DVC could not send the data to its default remote; the cause is printed above.")
        project = Project(content, inside, None, {}, absolute_remote())
        hosts = [host.strip() for host in (given.ssh or "").split(",") if host.strip()]
        cluster = clusters.at(given.scheduler) if given.scheduler else clusters.by_ssh(hosts, given.folder)
    with cluster as client:
        refuse_other_pythons(client)
        if given.ssh:
            project.gpus = clusters.shares_on_hosts(client)
        try:
            register(client, project)
            yield client, project.name
        finally:
            # The scheduler is gone, or a worker did not take the project.
            with suppress(OSError, TimeoutError, KeyError, ValueError):
                client.unregister_worker_plugin(project.name)


def register(client: Client, project: Project) -> None:
    """Send the project to all workers of a cluster. Raises `InputError` if one of them cannot unpack it."""
    try:
        client.register_plugin(Departure(project.name, client.id))
        client.register_plugin(project)
    except Exception as error:  # of Python, where a package is missing, of the disk, or of Dask's settings
        raise InputError(
            f"the cluster cannot take the project: {error}. Workers need the packages of requirements-parallel.txt "
            "(`make installed-parallel`) and a folder that they may write to."
        ) from None


def absolute_remote() -> dict[str, str]:
    """For the copies: the whole path of DVC's default remote, if it is a folder here."""
    section = f'remote "{setting(Path.cwd(), "core", "remote")[0]}"'
    url, relative_to = setting(Path.cwd(), f"'{section}'", "url")
    return {} if "://" in url or not url else {f"{section}.url": os.path.abspath(relative_to / os.path.expanduser(url))}


def refuse_other_pythons(client: Client) -> None:
    """Raise `InputError` if a worker has another Python than this process: they could not understand each other."""
    ours = platform.python_version_tuple()[:2]
    for address, found in client.get_versions()["workers"].items():
        theirs = found["host"]["python"].split(".")[:2]
        if tuple(theirs) != ours:
            raise InputError(
                f"worker {address} runs Python {'.'.join(theirs)}, but this is Python {'.'.join(ours)}: make its "
                "environment with the same Python."
            )
