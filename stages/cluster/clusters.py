"""Where stages run: on this machine's cores, on hosts that are reached by SSH, or on a Dask cluster that is there."""

import itertools
import logging
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
from distributed import Client, Scheduler, Security, SpecCluster, SSHCluster, Worker

from stages.common.errors import InputError

logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)  # what matters of it is told by `stages.parallel`
FOLDER = Path(".dvc/tmp/parallel")  # of the workers' copies, in the project on each machine
LONELY = 60  # seconds in which a worker has to come, and after which a cluster by SSH ends that nobody uses any more
GPU = "GPU"  # the name of the resource that a worker offers: how many GPUs it has for itself

# Dask takes half a second for the duration of what it does not know, and would let stages wait behind others. The memory of
# a stage, which is a process of its own, is not Dask's to watch.
SETTINGS = {
    "distributed.scheduler.unknown-task-duration": "60s",
    "distributed.scheduler.allowed-failures": 3,  # a stage whose worker is lost runs elsewhere, at most so many times
    "distributed.scheduler.http.routes": [],  # no pages of Dask's: they are neither encrypted nor protected
    "distributed.worker.http.routes": [],
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
}


@contextmanager
def on_this_machine(shares: list[list[str]]) -> Iterator[Client]:
    """A cluster of workers in this process, to which nobody else can connect.

    Args:
        shares: The GPUs of each worker: see `shares_of`.
    """
    workers = {
        number: {
            "cls": Worker,
            "options": {
                "name": number,
                "nthreads": 1,
                "local_directory": str(FOLDER),
                "resources": {GPU: len(gpus)},
                "dashboard_address": "127.0.0.1:0",
            },
        }
        for number, gpus in enumerate(shares, 1)
    }
    scheduler = {"cls": Scheduler, "options": {"protocol": "inproc", "dashboard_address": "127.0.0.1:0"}}
    with (
        dask.config.set(SETTINGS),
        SpecCluster(workers=workers, scheduler=scheduler) as cluster,
        Client(cluster) as client,
    ):
        yield client


def gpus_here() -> list[str]:
    """The names by which CUDA knows this machine's GPUs, of those that this process may use."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        names = [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
        return list(itertools.takewhile(lambda name: name and not name.startswith("-"), names))
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", check=False).stdout
    return [str(number) for number, _ in enumerate(re.findall(r"^GPU \d", listed, re.MULTILINE))]


def shares_of(gpus: list[str], jobs: int, devices: int) -> list[list[str]]:
    """Divide GPUs among workers.

    Args:
        gpus: Names of GPUs; empty on a machine without.
        jobs: How many workers there should be, 1 or more.
        devices: How many GPUs a training needs.

    Returns:
        For each worker, the names of its GPUs. Where there are GPUs, no more workers than have enough of them.
    """
    count = min(jobs, max(1, len(gpus) // devices)) if gpus else jobs
    return [gpus[number::count] for number in range(count)]


@contextmanager
def by_ssh(hosts: list[str], folder: str) -> Iterator[Client]:
    """A cluster with a worker on each host, and its scheduler on the first. Its connections are encrypted.

    Args:
        hosts: Names of hosts on which `ssh HOST` needs no password; `~/.ssh/config` may say more of them.
        folder: A clone of the project on each host, in which `make installed-parallel` was typed.

    Raises:
        InputError: A host cannot be reached, or has no such clone.
    """
    keys = Security.temporary().get_tls_config_for_role("scheduler")
    encryption = {"distributed.comm.require-encryption": True, "distributed.comm.tls.ca-file": keys["ca_file"]}
    for role in ("scheduler", "worker", "client"):
        encryption |= {f"distributed.comm.tls.{role}.{kind}": keys[kind] for kind in ("key", "cert")}
    with dask.config.set(SETTINGS | encryption):
        try:
            cluster = SSHCluster(
                [hosts[0], *hosts],
                worker_options={"nthreads": 1, "local_directory": f"{folder}/{FOLDER}", "death_timeout": LONELY},
                scheduler_options={"dashboard": False, "protocol": "tls", "idle_timeout": f"{LONELY} seconds"},
                remote_python=shlex.quote(f"{folder}/.venv/bin/python"),
            )
        except Exception as error:
            raise InputError(
                f"the hosts {', '.join(hosts)} cannot be used: {error}. Try `ssh {hosts[0]} {folder}/.venv/bin/python -m "
                "distributed.cli.dask_scheduler --version`; if it is missing, type `make installed-parallel` there."
            ) from None
        with cluster, Client(cluster) as client:
            yield client


@contextmanager
def at(address: str) -> Iterator[Client]:
    """A cluster that is there already, by the address of its scheduler: `tcp://HOST:8786`.

    Raises:
        InputError: Nothing answers there, or no worker comes.
    """
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise InputError(f"no scheduler answers at {address}: {error}. `dask scheduler` starts one.") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=LONELY)
        except TimeoutError:
            raise InputError(f"no worker came to {address}: `dask worker {address} --nthreads 1` starts one.") from None
        yield client
