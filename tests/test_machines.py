"""Several machines: workers with folders, homes and caches of their own, to which data travels by a DVC remote."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dask
import psutil
import pytest
from distributed import LocalCluster

from stages import run as command
from stages.base.errors import InputError
from stages.cluster.machines import Workers, refuse_other_packages, workers_at
from stages.runner.dvc_files import read_text
from stages.runner.plan import Plan, read_plan
from tests.conftest import ENVIRONMENT, commit, edit, hashes, processes_in, ran, run, wait_until
from tests.test_parallel import ANY, at_its_start, files_in, run_here, start, toy  # noqa: F401


@pytest.fixture
def remote(toy) -> Path:  # noqa: F811
    """A project as `toy`, with a default remote in a folder."""
    run(toy, "dvc", "remote", "add", "--default", "storage", "../../storage")
    return toy


def test_stages_run_on_the_workers_of_a_cluster(remote, tmp_path):
    run_here("prepare")  # whose result the workers get
    with LocalCluster(
        2, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=None, local_directory=tmp_path
    ) as cluster:
        plan = read_plan(["train"])
        with workers_at(cluster.scheduler_address, plan) as pool:
            ended = command.run_plan(pool, plan)
        assert [done["status"] for done in ended] == [0, 0], ended
        copies = [path for path in tmp_path.rglob("dvc.yaml") if path.parent != remote]
    assert copies == []
    assert read_plan(["train"]) == Plan({}, {})
    assert (remote / "reports/metrics/b").read_text() == "b: 2\n"


def test_other_packages_are_refused():
    ours = {"python": "3.12.1.final.0", "keras": "3.15.1"}
    theirs = {"right": ours | {"python": "3.12.9.final.0"}, "wrong": ours | {"keras": "3.1"}}

    def versions(packages: tuple[str, ...]) -> dict:
        same = dict.fromkeys(packages, "1")
        workers = {name: {"packages": same | found} for name, found in theirs.items()}
        return {"client": {"packages": same | ours}, "workers": workers}

    client = SimpleNamespace(get_versions=versions)
    with pytest.raises(InputError, match=r"^worker wrong has keras 3.1 \(here 3.15.1\): install"):
        refuse_other_packages(client)
    theirs["wrong"] = ours | {"python": "3.11.1.final.0"}
    with pytest.raises(InputError, match=r"^worker wrong has python 3.11 \(here 3.12\)"):
        refuse_other_packages(client)
    theirs.pop("wrong")
    refuse_other_packages(client)


@pytest.mark.parametrize(("offered", "asked"), [([0, 1], {}), ([0, 2], {"train@a": {"GPU": 2}})])
def test_a_training_asks_for_its_gpus_where_a_worker_offers_them(offered, asked):
    workers = {number: {"resources": {"GPU": count} if count else {}} for number, count in enumerate(offered)}
    client = SimpleNamespace(scheduler_info=lambda n_workers: {"workers": workers}, submit=lambda *given, **more: None)
    assert Workers(client, Plan({}, {"train@a": 2}), (b"", ".")).resources == asked


def test_no_remote_and_no_scheduler_are_told(toy):  # noqa: F811
    def said() -> str:
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
            pytest.raises(InputError) as told,
            workers_at("tcp://127.0.0.1:1", Plan({}, {})),
        ):
            pass
        return str(told.value)

    assert "dvc remote add --default" in said()  # there is `added` in the cache, which would be sent
    run(toy, "dvc", "remote", "add", "--default", "storage", "/dev/null/storage")
    assert "takes no data" in said()
    run(toy, "dvc", "remote", "modify", "storage", "url", "../../storage")
    assert "no worker is at tcp://127.0.0.1:1" in said()


class Cluster:
    """A Dask scheduler and workers on this machine, each worker as if on a machine of its own."""

    def __init__(self, folder: Path):
        self.folder, self.processes = folder, {}
        self.begin("scheduler", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_until(lambda: "Scheduler at:" in read_text(folder / "scheduler.log"))
        self.address = re.search(r"Scheduler at:\s*(\S+)", read_text(folder / "scheduler.log"))[1]

    def begin(self, name: str, *command: str) -> None:
        home = self.folder / name
        home.mkdir()
        with (self.folder / f"{name}.log").open("w") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *command, "--no-dashboard"],
                cwd=home,
                env=ENVIRONMENT | {"HOME": str(home)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def add_worker(self, name: str) -> None:
        own = ("--name", name, "--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder / name / "dask"))
        self.begin(name, "distributed.cli.dask_worker", self.address, *own)
        wait_until(lambda: "Registered to" in read_text(self.folder / f"{name}.log"))

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def place_of(self, stage: str) -> str | None:
        """The worker on which a stage trains now."""
        for name in self.processes:
            if any(f"stages.start {stage}" in " ".join(command_of(one)) for one in processes_in(self.folder / name)):
                return name
        return None


def command_of(process: psutil.Process) -> list[str]:
    """The command line of a process; empty if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def cluster(tmp_path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    for name in made.processes:
        made.kill(name)


@pytest.fixture
def shared(workspace) -> Path:
    """A workspace with a default remote, in a folder."""
    run(workspace, "dvc", "remote", "add", "--default", "storage", str(workspace.parent / "storage"))
    commit(workspace, "Add a remote")
    return workspace


@pytest.mark.slow
def test_a_stage_whose_worker_is_lost_runs_elsewhere(shared, cluster):
    cluster.add_worker("one")
    cluster.add_worker("two")
    edit(shared, lambda content: content["models"]["small"].update(epochs=4))
    process = start(shared, "--scheduler", cluster.address, "select")
    wait_until(lambda: cluster.place_of("train"))
    cluster.kill(cluster.place_of("train"))
    assert process.wait(300) == 0, (shared.parent / "log").read_text()
    assert ran(run(shared, "dvc", "repro", "select")) == set()
    before = hashes(shared)
    run(shared, "dvc", "repro", "--force", "--single-item", "train@small-0")
    assert hashes(shared) == before


@pytest.mark.slow
def test_nothing_is_left_at_a_cluster_when_the_command_is_gone(shared, cluster):
    cluster.add_worker("one")
    edit(shared, lambda content: content["models"]["small"].update(epochs=3000, patience=None))
    process = start(shared, "--scheduler", cluster.address, "train@small-0")
    wait_until(lambda: cluster.place_of("train"))
    process.kill()
    process.wait()
    wait_until(lambda: not cluster.place_of("train"), 60)
    wait_until(lambda: not any("dvc.yaml" in files for *_, files in os.walk(cluster.folder / "one")), 60)


@pytest.mark.slow
def test_a_lost_scheduler_is_told(shared, cluster):
    cluster.add_worker("one")
    cluster.add_worker("two")
    edit(shared, lambda content: content["eda"].update(samples_per_class=5))
    edit(shared, lambda content: content["models"]["small"].update(epochs=3000, patience=None))
    process, log = start(shared, "--scheduler", cluster.address, "eda", "train@small-0"), shared.parent / "log"
    wait_until(lambda: re.search(r"\] eda: .* training images", log.read_text()) and cluster.place_of("train"))
    cluster.kill("scheduler")
    assert process.wait(120) == 1
    assert "lost the connection to the scheduler" in log.read_text()
    assert "Traceback" not in log.read_text()
    wait_until(lambda: not cluster.place_of("train"), 60)
    assert ran(run(shared, "dvc", "repro", "eda")) == set()
