"""Where stages run: on this machine's cores, on hosts that are reached by SSH, or on a Dask cluster that is there."""

import logging
import pickle
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import dask
from distributed import Client, Scheduler, Security, SpecCluster, SSHCluster, Worker

from stages.cluster import worker
from stages.cluster.cores import divided
from stages.common.errors import InputError

for name in ("distributed", "distributed.client", "distributed.gc"):  # what matters of it is told by `stages.parallel`
    logging.getLogger(name).setLevel(logging.CRITICAL + 1)
FOLDER = Path(".dvc/tmp/parallel")  # of the workers' copies, in the project on each machine
COPIES = FOLDER / "here"  # of the workers of this machine; those that others reach by SSH have the folder itself
LONELY = 60  # seconds in which a worker has to come, and after which a cluster by SSH ends that nobody uses any more

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
# In one process, no worker can be lost, though all of it may be stopped for long: Ctrl-Z, a laptop that is closed.
STAYING = {"distributed.scheduler.worker-ttl": None}


class ByValue:
    """A function that is pickled with its code: schedulers and workers need not have the module that defines it."""

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, *given: object) -> object:
        return self.function(*given)

    def __reduce__(self) -> tuple[Callable, tuple[bytes]]:
        return pickle.loads, (cloudpickle.dumps(self.function),)


@contextmanager
def on_this_machine(count: int) -> Iterator[Client]:
    """A cluster of `count` workers in this process, named by numbers from 1, to which nobody else can connect."""
    workers = {
        number: {
            "cls": Worker,
            "options": {
                "name": number,
                "nthreads": 1,
                "local_directory": str(COPIES),
                "dashboard_address": "127.0.0.1:0",
            },
        }
        for number in range(1, count + 1)
    }
    scheduler = {"cls": Scheduler, "options": {"protocol": "inproc", "dashboard_address": "127.0.0.1:0"}}
    with (
        dask.config.set(SETTINGS | STAYING),
        SpecCluster(workers=workers, scheduler=scheduler) as cluster,
        Client(cluster) as client,
        divided(),
    ):
        yield client


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


def shares_on_hosts(client: Client) -> dict[str, list[str]]:
    """The names of the GPUs of each worker, by the worker's name: those of its host, divided among the host's workers."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    found = client.run(ByValue(worker.gpus_here))
    groups: dict[tuple, list[str]] = {}
    for address, gpus in found.items():
        groups.setdefault((workers[address]["host"], *gpus), []).append(address)
    return {
        str(workers[address]["name"]): found[address][place :: len(addresses)]
        for addresses in groups.values()
        for place, address in enumerate(addresses)
    }


@contextmanager
def by_ssh(hosts: list[str], folder: str) -> Iterator[Client]:
    """A cluster with a worker on each host, and its scheduler on the first. Its connections are encrypted.

    Args:
        hosts: Names of hosts on which `ssh HOST` needs no password; `~/.ssh/config` may say more of them.
        folder: A clone of the project on each host, in which `make installed-parallel` was typed.

    Raises:
        InputError: A host cannot be reached, or has no such clone.
    """
    cloudpickle.register_pickle_by_value(worker)  # workers elsewhere get its code, and need not have this project
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
    cloudpickle.register_pickle_by_value(worker)  # workers elsewhere get its code, and need not have this project
    try:
        client = Client(address)
    except (OSError, ValueError, TypeError) as error:  # the last where Dask's configuration names no certificates
        raise InputError(f"no scheduler answers at {address}: {error}. `dask scheduler` starts one.") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=LONELY)
        except TimeoutError:
            raise InputError(f"no worker came to {address}: `dask worker {address} --nthreads 1` starts one.") from None
        yield client
