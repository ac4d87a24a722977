"""Several machines: workers with folders, homes and caches of their own, to which data travels by a DVC remote."""

import getpass
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import psutil
import pytest

from stages.common.files import read_text
from tests.conftest import ENVIRONMENT, commit, edit, processes_in, ran, run, wait_until
from tests.soak import hashes
from tests.test_parallel import ANY, start
from tests.test_remote import MOUNTS, SSHD, Server, web

OUR_ADDRESS, THEIR_ADDRESS = "10.77.0.1", "10.77.0.2"
DASK = (sys.executable, "-m")


class Cluster:
    """A Dask scheduler and workers on this machine, each worker as if on a machine of its own."""

    def __init__(self, folder: Path, host: str = "127.0.0.1"):
        self.folder, self.processes = folder, {}
        self.begin("scheduler", "distributed.cli.dask_scheduler", "--host", host, "--port", "0")
        wait_until(lambda: "Scheduler at:" in read_text(folder / "scheduler.log"))
        self.address = re.search(r"Scheduler at:\s*(\S+)", read_text(folder / "scheduler.log"))[1]

    def begin(self, name: str, *command: str, before: tuple[str, ...] = ()) -> None:
        """Start a module, after the words `before` of a command that starts another."""
        home = self.folder / name
        home.mkdir()
        with (self.folder / f"{name}.log").open("w") as log:
            self.processes[name] = subprocess.Popen(
                [*before, *DASK, *command, "--no-dashboard"],
                cwd=home,
                env=ENVIRONMENT | {"HOME": str(home)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def add_worker(self, name: str, *options: str, before: tuple[str, ...] = (), nanny: str = "--no-nanny") -> None:
        own = ("--name", name, "--nthreads", "1", nanny, "--local-directory", str(self.folder / name / "dask"))
        self.begin(name, "distributed.cli.dask_worker", self.address, *own, *options, before=before)
        wait_until(lambda: "Registered to" in read_text(self.folder / f"{name}.log"))

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()


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


def copies_in(folder: Path) -> list[str]:
    """The copies of a project in a worker's folder, from which they may be removed meanwhile."""
    return [place for place, _, files in os.walk(folder) if "dvc.yaml" in files]


def place_of(log: str, stage: str) -> str:
    """The last worker on which a stage ran."""
    return re.findall(rf"{stage} runs (?:again, )?on worker (\S+)", log)[-1]


@pytest.mark.fault(
    "A machine is lost in the middle of a stage.",
    "The stage runs on another one, at most three times; the results are the same bytes.",
)
def test_a_stage_whose_worker_is_lost_runs_elsewhere(shared, cluster):
    cluster.add_worker("one")
    cluster.add_worker("two")
    edit(shared, lambda content: content["models"]["small"].update(epochs=4))
    process = start(shared, "--scheduler", cluster.address, "select")
    log = shared.parent / "log"
    wait_until(lambda: "train@small-0 runs on worker" in log.read_text())
    lost = place_of(log.read_text(), "train@small-0")
    cluster.kill(lost)
    assert process.wait(120) == 0, log.read_text()
    assert f"worker {lost} was lost" in log.read_text()
    assert place_of(log.read_text(), "train@small-0") != lost
    assert ran(run(shared, "dvc", "repro", "select")) == set()
    before = hashes(shared)
    run(shared, "dvc", "repro", "--force", "--single-item", "train@small-0")
    assert hashes(shared) == before


@pytest.mark.fault(
    "The process of a worker is killed; the one that watches over it, as `dask worker` has it by default, starts another.",
    "The stage runs on that one; nothing of the first goes on.",
)
def test_a_stage_whose_worker_is_started_again_runs_there(shared, cluster):
    cluster.add_worker("one", nanny="--nanny")
    edit(shared, lambda content: content["models"]["small"].update(epochs=20, patience=None))
    process = start(shared, "--scheduler", cluster.address, "train@small-0")
    log = shared.parent / "log"
    wait_until(lambda: "train@small-0 runs on worker one" in log.read_text())

    def steps() -> list[psutil.Process]:
        below = psutil.Process(cluster.processes["one"].pid).children(recursive=True)
        return [one for one in below if "stages.cluster.step" in command_of(one)]

    wait_until(steps)
    step = steps()[0]
    step.parent().kill()
    wait_until(lambda: not step.is_running() or step.status() == psutil.STATUS_ZOMBIE)
    assert process.wait(120) == 0, log.read_text()
    assert "train@small-0 runs again, on worker one" in log.read_text()
    assert ran(run(shared, "dvc", "repro", "train@small-0")) == set()


@pytest.mark.fault(
    "A machine is lost after a stage has ended on it, and before others have used the results.",
    "What had ended there is not run again: its results are at the remote.",
)
def test_what_had_ended_on_a_lost_worker_does_not_run_again(shared, cluster):
    cluster.add_worker("one")
    cluster.add_worker("two")
    edit(shared, lambda content: content["models"]["plain"].update(epochs=1))
    edit(shared, lambda content: content["models"]["small"].update(epochs=60, patience=None))
    process = start(shared, "--scheduler", cluster.address, "select")
    log = shared.parent / "log"
    wait_until(lambda: all(text in log.read_text() for text in ("train@plain-0 ended", "train@small-0 runs")))
    cluster.kill(place_of(log.read_text(), "train@plain-0"))
    assert process.wait(240) == 0, log.read_text()
    assert "was lost" in log.read_text()
    assert " again" not in log.read_text()
    assert ran(run(shared, "dvc", "repro", "select")) == set()


@pytest.mark.fault(
    "A command that uses a cluster (`--scheduler`) is killed.",
    "Its stages end on all workers, and its copies of the project go; nothing of it reaches workers that come later.",
)
def test_nothing_is_left_at_a_cluster_when_the_command_is_gone(shared, cluster):
    cluster.add_worker("one")
    edit(shared, lambda content: content["models"]["small"].update(epochs=3000, patience=None))
    process = start(shared, "--scheduler", cluster.address, "train@small-0")
    wait_until(lambda: "train@small-0 runs" in (shared.parent / "log").read_text())
    assert copies_in(cluster.folder / "one")
    process.kill()
    process.wait()
    wait_until(lambda: not copies_in(cluster.folder / "one"), 30)
    wait_until(lambda: not [one for one in processes_in(cluster.folder) if "stages.train" in command_of(one)], 30)
    cluster.add_worker("two")
    assert not copies_in(cluster.folder / "two")


@pytest.mark.fault(
    "A worker lacks the packages that this project needs, or Dask's configuration names no certificates for `tls://`.",
    "A sentence says so; nothing runs.",
)
def test_a_worker_without_packages_is_told(shared, cluster):
    broken = cluster.folder / "broken"
    broken.mkdir()
    (broken / "configobj.py").write_text('raise ModuleNotFoundError("No module named configobj")')
    cluster.add_worker("one", before=("env", f"PYTHONPATH={broken}"))
    edit(shared, lambda content: content["models"]["plain"].update(epochs=1))
    printed = run(shared, *ANY, "--scheduler", cluster.address, "train@plain-0", succeeds=False)
    assert "error: the cluster cannot take the project: ModuleNotFoundError('No module named configobj')" in printed
    assert "Traceback" not in printed
    printed = run(shared, *ANY, "--scheduler", "tls://127.0.0.1:1", "train@plain-0", succeeds=False)
    assert "error: no scheduler answers at tls://127.0.0.1:1" in printed


@pytest.mark.fault(
    "A stage kills its worker wherever it runs, as one that needs more memory than any machine has.",
    "It runs on three others; then it has failed, and a sentence says so.",
)
def test_a_stage_that_kills_its_workers_fails(shared, cluster):
    for name in ("one", "two", "three", "four"):
        cluster.add_worker(name)
    kills = 'def main() -> None:\n    os.kill(int(os.environ["FASHION_MNIST_RUN"]), 9)\n'
    code = shared / "stages" / "eda.py"
    code.write_text("import os\n" + code.read_text().replace("def main() -> None:\n", kills, 1))
    printed = run(shared, *ANY, "--scheduler", cluster.address, "eda", succeeds=False)
    assert len(re.findall("eda runs (?:again, )?on worker", printed)) == 4
    assert "its worker was lost 4 times" in printed
    assert "no worker is left" in printed


@pytest.fixture
def network() -> Iterator[str]:
    """A network of its own for one worker, connected with this machine by a cable; yields the name of both."""
    name = f"fm{os.getpid() % 100000}"
    ours, theirs = f"{name}a", f"{name}b"
    try:
        for command in (
            f"netns add {name}",
            f"link add {ours} type veth peer name {theirs}",
            f"link set {theirs} netns {name}",
            f"addr add {OUR_ADDRESS}/24 dev {ours}",
            f"link set {ours} up",
            f"-n {name} addr add {THEIR_ADDRESS}/24 dev {theirs}",
            f"-n {name} link set {theirs} up",
            f"-n {name} link set lo up",
        ):
            made = subprocess.run(["ip", *command.split()], capture_output=True, check=False)
            if made.returncode:
                pytest.skip(f"this user may make no networks: {made.stderr.decode()}")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ip") is None, reason="the program ip is not installed")
@pytest.mark.fault(
    "A machine is cut from the network in the middle of a stage.",
    "After half a minute of silence its stage runs on another one. The machine that was cut off ends the stage, too.",
)
def test_a_stage_whose_worker_is_cut_off_runs_elsewhere(shared, tmp_path, network):
    cluster = Cluster(tmp_path, OUR_ADDRESS)
    try:
        cluster.add_worker("far", before=("ip", "netns", "exec", network))
        edit(shared, lambda content: content["models"]["small"].update(epochs=200))
        process = start(shared, "--scheduler", cluster.address, "train@small-0")
        log = shared.parent / "log"
        wait_until(lambda: "train@small-0 runs on worker far" in log.read_text())
        cluster.add_worker("near")
        subprocess.run(["ip", "link", "set", f"{network}a", "down"], check=True)
        wait_until(lambda: "worker far was lost" in log.read_text(), 120)
        assert process.wait(240) == 0, log.read_text()
        assert place_of(log.read_text(), "train@small-0") == "near"
        wait_until(lambda: [p for p in processes_in(tmp_path / "far") if p.pid != cluster.processes["far"].pid] == [])
    finally:
        for name in cluster.processes:
            cluster.kill(name)


@dataclass
class Hosts:
    """Two hosts, `one` and `two`, each with an sshd and a clone of its own in what is the same folder to each."""

    home: Path
    folder: Path
    servers: dict[str, Server]

    def start(self, name: str, variables: str = "") -> None:
        """Start the sshd of a host, with variables of its own such as `NAME=VALUE`, and a home."""
        folder = self.servers[name].folder
        (folder / "home").mkdir(exist_ok=True)
        self.servers[name].settings = f"SetEnv HOME={folder}/home {variables}"
        self.servers[name].start(mount=f"mount --bind '{folder}/project' '{self.folder}'")

    @property
    def environment(self) -> dict[str, str]:
        """Of the command that reaches these hosts."""
        return {"HOME": str(self.home), "SSH_AUTH_SOCK": ""}

    def options(self, *names: str) -> tuple[str, ...]:
        """The options of `stages.parallel` for these hosts."""
        return "--ssh", ",".join(names), "--folder", str(self.folder)

    def processes(self) -> list[psutil.Process]:
        """What runs on the hosts for a command."""
        return [one for one in psutil.process_iter() if str(self.folder) in " ".join(command_of(one))]


@pytest.fixture
def hosts(shared, tmp_path) -> Iterator[Hosts]:
    """Hosts by SSH, the first of which has the project's default remote, too."""
    made = Hosts(tmp_path / "home", tmp_path / "project", {})
    ssh, known = made.home / ".ssh", ""
    for folder in (ssh, made.folder):
        folder.mkdir(parents=True)
    ssh.chmod(0o700)
    make_key(ssh / "right")
    try:
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            make_key(folder / "host")
            shutil.copy(ssh / "right.pub", folder)
            run(tmp_path, "git", "clone", "--quiet", str(shared), str(folder / "project"))
            (folder / "project" / ".venv").symlink_to(sys.prefix)
            made.servers[name] = Server(folder)
            made.start(name)
            port = made.servers[name].port
            with (ssh / "config").open("a") as file:
                file.write(f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n")
                file.write(f"  IdentityFile {ssh}/right\n")
            known += f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}"
        (ssh / "known_hosts").write_text(known)
        options = (
            ("url", f"ssh://127.0.0.1{tmp_path}/storage"),
            ("user", getpass.getuser()),
            ("keyfile", f"{ssh}/right"),
        )
        for option, value in (*options, ("port", str(made.servers["one"].port))):
            run(shared, "dvc", "remote", "modify", "--local", "storage", option, value)
        yield made
    finally:
        for server in made.servers.values():
            server.kill()


def colleague(shared: Path, hosts: Hosts) -> Path:
    """A clone on a third machine, after `dvc pull` of what `export` made and needs."""
    commit(shared, "Results")
    folder = shared.parent / "colleague"
    run(shared.parent, "git", "clone", "--quiet", str(shared), str(folder))
    shutil.copy(shared / ".dvc/config.local", folder / ".dvc")
    run(folder, "dvc", "cache", "dir", "--local", str(folder / ".dvc/cache"))
    run(folder, "dvc", "pull", "--with-deps", "export", **hosts.environment)
    return folder


def make_key(path: Path) -> None:
    """Make a pair of keys."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(path)
    key.write_public_key(f"{path}.pub")
    path.chmod(0o600)


needs_hosts = pytest.mark.skipif(
    not (SSHD and MOUNTS), reason="no sshd is installed, or this user may not mount folders"
)


@needs_hosts
@pytest.mark.fault(
    "A host that is named to `--ssh` cannot be reached, or lacks the project.", "A sentence says so; nothing runs."
)
def test_hosts_by_ssh_run_stages_and_leave_nothing(shared, hosts):
    edit(shared, lambda content: content["models"]["small"].update(epochs=1))
    edit(shared, lambda content: content["models"]["plain"].update(epochs=1))
    here = hosts.environment
    printed = run(shared, *ANY, *hosts.options("one", "two"), "export", **here)
    assert place_of(printed, "train@small-0") != place_of(printed, "train@plain-0")
    assert "files of small-0" not in printed  # what `export` prints: `dvc repro` has run nothing, but collected
    assert ran(run(shared, "dvc", "repro", "export")) == set()
    assert ran(run(colleague(shared, hosts), "dvc", "repro", "export", **here)) == set()
    assert all((server.folder / "project/.dvc/cache/runs").exists() for server in hosts.servers.values())
    wait_until(lambda: not hosts.processes(), 20)
    edit(shared, lambda content: content["models"]["small"].update(epochs=2))
    printed = run(shared, *ANY, "--ssh", "one", "--folder", "/nothing", "select", succeeds=False, **here)
    assert "the hosts one cannot be used" in printed
    hosts.servers["two"].kill()
    printed = run(shared, *ANY, *hosts.options("one", "two"), "select", succeeds=False, **here)
    assert "the hosts one, two cannot be used" in printed
    assert "Traceback" not in printed


@needs_hosts
@pytest.mark.fault(
    "A command with `--ssh` is killed in the middle of a stage, or cannot reach one of the hosts.",
    "After a minute or so, nothing of it runs on any host; the next one goes on.",
)
@pytest.mark.slow
def test_nothing_runs_on_hosts_when_their_command_is_gone(shared, hosts):
    edit(shared, lambda content: content["models"]["small"].update(epochs=3000, patience=None))
    process = start(shared, *hosts.options("one"), "train@small-0", **hosts.environment)
    log = shared.parent / "log"
    wait_until(lambda: "train@small-0 runs on worker" in log.read_text())
    process.kill()
    process.wait()
    wait_until(lambda: not hosts.processes(), 180)
    edit(shared, lambda content: content["models"]["small"].update(epochs=1))
    run(shared, *ANY, *hosts.options("one"), "train@small-0", **hosts.environment)
    edit(shared, lambda content: content["models"]["small"].update(epochs=2))
    run(shared, *ANY, *hosts.options("one", "nowhere"), "train@small-0", succeeds=False, **hosts.environment)
    wait_until(lambda: not hosts.processes(), 120)  # the scheduler on `one`, too


@needs_hosts
def test_trainings_by_ssh_run_where_the_gpus_are(shared, hosts):
    hosts.servers["two"].kill()
    hosts.start("two", "CUDA_VISIBLE_DEVICES=0")
    edit(shared, lambda content: content["models"]["plain"].update(epochs=1))
    edit(shared, lambda content: content["models"]["small"].update(epochs=1))
    stages = ("train@plain-0", "train@small-0", "eda")
    edit(shared, lambda content: content["eda"].update(samples_per_class=5))
    printed = run(shared, *ANY, *hosts.options("two", "one", "two"), *stages, **hosts.environment)
    assert place_of(printed, "train@plain-0") == place_of(printed, "train@small-0")  # one GPU, one worker that has it


@needs_hosts
@pytest.mark.slow
def test_a_search_by_ssh(shared, hosts):
    edit(shared, lambda content: content["models"]["small"].update(epochs=1))
    options = ("--trials", "2", "--seeds", "2", *hosts.options("one", "two"))
    printed = run(shared, "python", "-m", "stages.search", "small", *options, **hosts.environment)
    assert len(read_text(shared / "reports/search/small.csv").splitlines()) == 3
    assert "Running stage" not in run(shared, *shlex.split(printed.strip().splitlines()[-1]), **hosts.environment)


@pytest.mark.fault(
    "The scheduler of a cluster is lost in the middle of a stage.",
    "A sentence says so; the stage stops; the next `make run` goes on from what had ended.",
)
def test_a_lost_scheduler_is_told(shared, cluster):
    cluster.add_worker("one")
    cluster.add_worker("two")
    edit(shared, lambda content: content["eda"].update(samples_per_class=5))
    edit(shared, lambda content: content["models"]["small"].update(epochs=3000, patience=None))
    process = start(shared, "--scheduler", cluster.address, "eda", "train@small-0")
    log = shared.parent / "log"
    wait_until(lambda: all(text in log.read_text() for text in ("eda ended", "train@small-0 runs")))
    cluster.kill("scheduler")
    assert process.wait(60) == 1
    assert "train@small-0 does not run: the connection to the scheduler was lost" in log.read_text()
    assert "Traceback" not in log.read_text()
    wait_until(lambda: not [one for one in processes_in(cluster.folder) if "stages.train" in command_of(one)])
    assert ran(run(shared, "dvc", "repro", "eda")) == set()


def command_of(process: psutil.Process) -> list[str]:
    """The command line of a process; empty if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_training_runs_where_the_gpus_are(shared, cluster):
    cluster.add_worker("one")
    cluster.add_worker("gpu", "--resources", "GPU=1")
    edit(shared, lambda content: content["models"]["plain"].update(epochs=1))
    edit(shared, lambda content: content["models"]["small"].update(epochs=1))
    printed = run(shared, *ANY, "--scheduler", cluster.address, "train@plain-0", "train@small-0")
    assert {place_of(printed, "train@plain-0"), place_of(printed, "train@small-0")} == {"gpu"}
    edit(shared, lambda content: content.update(devices=2))
    printed = run(shared, *ANY, "--scheduler", cluster.address, "train@plain-0", succeeds=False)
    assert "no worker offers so many GPUs: the most is 1" in printed


@pytest.mark.fault(
    "The only worker with GPUs is lost, and others are left.",
    "A sentence says that trainings wait for one; they run when one comes.",
)
def test_the_loss_of_the_last_worker_with_gpus_is_told(shared, cluster):
    cluster.add_worker("one")
    cluster.add_worker("gpu", "--resources", "GPU=1")
    edit(shared, lambda content: content["models"]["small"].update(epochs=20, patience=None))
    process = start(shared, "--scheduler", cluster.address, "train@small-0")
    log = shared.parent / "log"
    wait_until(lambda: "train@small-0 runs on worker gpu" in log.read_text())
    cluster.kill("gpu")
    wait_until(lambda: "the last worker with GPUs is gone: trainings wait" in log.read_text())
    cluster.add_worker("another", "--resources", "GPU=1")
    assert process.wait(120) == 0, log.read_text()
    assert place_of(log.read_text(), "train@small-0") == "another"


@pytest.mark.fault(
    "The runs of one table come from different processors, as in a cluster of several machines.",
    "The results name the processor, and the table says which runs come from which.",
)
def test_runs_from_different_processors_are_told(dry_workspace):
    path = dry_workspace / "reports/metrics/val/plain-0.json"
    text = path.read_text()
    assert "different processors" not in run(dry_workspace, "python", "-m", "stages.table")
    metrics = json.loads(text)
    metrics["conditions"][0]["processor"] = "Another"
    path.write_text(json.dumps(metrics))
    try:
        printed = run(dry_workspace, "python", "-m", "stages.table")
    finally:
        path.write_text(text)
    assert "different processors" in printed
    assert "Another: plain-0" in printed


@pytest.mark.fault(
    "DVC's default remote does not answer, or there is no scheduler at the address.",
    "A sentence says so; nothing runs.",
)
def test_no_remote_and_no_scheduler_are_told(shared):
    edit(shared, lambda content: content["models"]["plain"].update(epochs=1))
    soon = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"}
    printed = run(shared, *ANY, "--scheduler", "tcp://127.0.0.1:1", succeeds=False, **soon)
    assert "no scheduler answers at tcp://127.0.0.1:1" in printed
    assert "Traceback" not in printed
    run(shared, "dvc", "remote", "modify", "storage", "url", "/dev/null/storage")
    printed = run(shared, *ANY, "--scheduler", "tcp://127.0.0.1:1", succeeds=False)
    assert "could not send the data to its default remote" in printed


def test_an_http_remote_serves_other_machines_too(shared, cluster):
    cluster.add_worker("one")
    cluster.add_worker("two")
    storage = shared.parent / "storage"
    storage.mkdir()
    with web(storage) as address:
        run(shared, "dvc", "remote", "modify", "storage", "url", address)
        run(shared, "dvc", "remote", "modify", "storage", "method", "PUT")
        edit(shared, lambda content: content["models"]["small"].update(epochs=1))
        printed = run(shared, *ANY, "--scheduler", cluster.address, "select")
    assert "train@small-0 runs on worker" in printed
    assert ran(run(shared, "dvc", "repro", "select")) == set()


@pytest.mark.fault(
    "A search runs on other machines, whose processors may give other digits.",
    "The command that it prints restores the model that was trained there, byte by byte.",
)
def test_the_result_of_a_search_elsewhere_is_restored(shared, cluster):
    cluster.add_worker("one")
    edit(shared, lambda content: content["models"]["small"].update(epochs=2))  # as in no test that shares this cache
    options = ("--trials", "2", "--seeds", "2", "--scheduler", cluster.address)
    *_, line = run(shared, "python", "-m", "stages.search", "small", *options).strip().splitlines()
    (row,) = (
        row for row in read_text(shared / "reports/search/small.csv").splitlines() if row.startswith("1,complete")
    )
    assert "Running stage" not in run(shared, *shlex.split(line))
    assert hashes(shared)["data/models/small-0.keras"] in row
