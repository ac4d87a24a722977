"""Stages on the workers of a Dask cluster that is there, however it was started: `dask ssh`, Slurm, Kubernetes.

Workers need the packages of this project, not the project. They get it as an archive; data travels by DVC's default remote.
"""

import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import dask
from distributed import Client, Future, get_worker
from dvc.repo import Repo

from stages.base.environment import PACKAGES
from stages.base.errors import InputError
from stages.cluster import copies
from stages.cluster.copies import Outcome, Results, run_in_copy
from stages.cluster.pool import alone, pack
from stages.runner.plan import Plan

WAIT_SECONDS = 60  # for the first worker
SETTINGS = {"distributed.admin.large-graph-warning-threshold": "1GB"}  # the archive is large


def run_on_worker(archive: tuple[bytes, str], name: str, results: Results) -> Outcome:
    """Run a stage in a copy of the project on this worker; end it when nobody waits for it any more."""
    worker = get_worker()
    key = worker.get_current_task()

    def look(_: Path) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state != "executing":
            raise RuntimeError("nobody waits for it any more")

    return run_in_copy(archive, Path(worker.local_directory, "copies"), name, ["--remote"], results, look)


class Workers:
    """Runs the stages of a plan on the workers of a cluster, as `Pool` does in copies on this machine."""

    slots, remote = math.inf, True  # Dask lets stages wait

    def __init__(self, client: Client, plan: Plan, archive: tuple[bytes, str]):
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        most = max(one["resources"].get("GPU", 0) for one in workers)
        self.resources = {name: {"GPU": count} for name, count in plan.devices.items() if count <= most}
        self.client, self.archive = client, client.submit(lambda: archive, pure=False)  # repeated if its worker is lost

    def submit(self, name: str, results: Results) -> Future:
        """Run a stage on a worker, with files that are newer than the archive; return a future of what became of it."""
        return self.client.submit(
            lambda *given: run_on_worker(*given),  # Dask sends the code of a function without a name
            self.archive,
            name,
            results,
            key=f"{name}/{self.archive.key}",
            resources=self.resources.get(name),
        )


@contextmanager
def workers_at(address: str, plan: Plan) -> Iterator[Workers]:
    """The workers of a cluster, by the address of its scheduler: `tcp://HOST:8786`.

    Raises:
        InputError: Nothing answers there, no worker comes, one has other packages, or data cannot travel.
    """
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # `stages.run` tells what matters of it
    for module in (copies, sys.modules[__name__]):
        cloudpickle.register_pickle_by_value(module)
    with alone(), Repo(_wait_for_lock=True) as repo, dask.config.set(SETTINGS):
        if not repo.config["core"].get("remote"):
            raise InputError(
                "data travels to other machines by DVC's default remote, and there is none: type `dvc remote add "
                "--default storage ssh://HOST/FOLDER`, for example, and `git add .dvc/config`."
            )
        try:
            repo.push()
        except Exception as error:  # of DVC, or of any library for any kind of remote
            raise InputError(f"DVC's default remote takes no data: {error}. `dvc push -v` shows more.") from None
        try:
            client = Client(address)
            client.wait_for_workers(1, timeout=WAIT_SECONDS)
        except (OSError, ValueError, TypeError) as error:  # the last where Dask's configuration names no certificates
            raise InputError(
                f"no worker is at {address}: {error}. `dask scheduler`, `dask worker` start them."
            ) from None
        with client:
            refuse_other_packages(client)
            yield Workers(client, plan, pack(repo))


def refuse_other_packages(client: Client) -> None:
    """Raise `InputError` if a worker has another Python than this process, or other versions of packages."""
    names = ("python", "dvc", *PACKAGES)
    found = client.get_versions(packages=names[1:])

    def versions(packages: dict[str, str | None]) -> dict[str, str | None]:
        return {name: packages[name] for name in names} | {"python": packages["python"].rsplit(".", 3)[0]}  # 3.12

    ours = versions(found["client"]["packages"])
    for worker, one in found["workers"].items():
        theirs = versions(one["packages"])
        if other := [f"{name} {theirs[name]} (here {ours[name]})" for name in names if theirs[name] != ours[name]]:
            raise InputError(f"worker {worker} has {', '.join(other)}: install requirements-parallel.txt there.")
