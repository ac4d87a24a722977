"""What a worker of a Dask cluster does: it runs `dvc repro STAGE` in a copy of the project of its own.

DVC puts the results into its cache and into its cache of runs. From there, `dvc repro` restores them in the project, and
the next stages restore them in the copies of other workers. Dask sends the code of this file to the workers, which may lie
on machines without this project: it imports nothing of it.
"""

import contextlib
import io
import itertools
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from configobj import ConfigObj
from distributed import Scheduler, SchedulerPlugin, Worker, WorkerPlugin, get_worker
from distributed.utils import sync
from dvc.config import Config

LOG = ".dvc/tmp/log"
RUNS = ".dvc/tmp/runs.json"  # what stages.cluster.step reads and writes on another machine
PLAN = ".dvc/tmp/plan.json"  # into which a stage writes how long it took: see stages.common.progress
GPU = "GPU"  # the name of the resource that a worker offers: how many GPUs it has for itself
TRIALS = "trials"  # of the messages: a trial's history so far
PAUSE = 0.1  # seconds between two looks at a running stage
PATIENCE = 10  # seconds for a stage to end when it is told to


class Done(TypedDict):
    """What became of a stage.

    Keys: `stage`, its name; `status`, its exit status, or None if it did not run, for a reason that `log` says; `log`, what
    it printed; `worker`, where it ran; `runs`, if workers have caches of their own: its entry in DVC's cache of runs and
    those of the stages that it needs, by their paths in the cache; `seconds`, from its start to its end; `took`, its own
    seconds, or None if DVC's cache had its results; `files`, of a trial: the text of the results that were asked for, by
    path.
    """

    stage: str
    status: int | None
    log: str
    worker: str
    runs: dict[str, str]
    seconds: float
    took: float | None
    files: dict[str, str]


def not_run(name: str, why: str) -> Done:
    """What became of a stage that did not run."""
    return Done(stage=name, status=None, log=why, worker="", runs={}, seconds=0, took=None, files={})


class Project(WorkerPlugin):
    """Copies of the project on each worker: one for each stage that it runs at once.

    Attributes:
        free: The folders of the copies in which no stage runs.
        shared: Whether their cache is the project's; otherwise data travels by DVC's default remote.
    """

    def __init__(
        self, archive: bytes, inside: str, cache: str | None, gpus: dict[str, list[str]], settings: dict[str, str]
    ):
        """A project to be copied.

        Args:
            archive: A tar archive.
            inside: The project's folder inside it.
            cache: The folder of DVC's cache, for workers on the same machine; None: each machine has one of its own.
            gpus: The names of each worker's GPUs, by the worker's name; empty for workers that offer GPUs themselves.
            settings: More of DVC's configuration: `section.key`, and the value.
        """
        self.archive, self.inside, self.cache, self.gpus, self.settings = archive, inside, cache, gpus, settings
        self.name = uuid.uuid4().hex[:8]
        self.shared = cache is not None

    async def setup(self, worker: Worker) -> None:
        """Unpack the project, as a worker begins, and offer the worker's GPUs."""
        place = Path(worker.local_directory)
        self.free = queue.SimpleQueue()
        for number in range(worker.state.nthreads):
            copy = place / self.name / str(number)
            with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
                archive.extraction_filter = getattr(tarfile, "data_filter", None)  # missing in Python 3.11.0 to 3.11.3
                archive.extractall(copy)
            values = {"cache.dir": self.cache or own_cache(place), "core.site_cache_dir": copy / "site"}
            configure(copy / self.inside, values | self.settings)
            self.free.put(copy / self.inside)
        if gpus := self.gpus.get(str(worker.name)):
            await worker.set_resources(**{GPU: len(gpus)})

    def teardown(self, worker: Worker) -> None:
        """Remove the copies, as a worker ends."""
        shutil.rmtree(Path(worker.local_directory) / self.name, ignore_errors=True)


class Departure(SchedulerPlugin):
    """Removes the copies of a project from all workers when the command is gone, however it ended."""

    def __init__(self, token: str, client: str):
        """The name of the workers' plugin, and Dask's name for the command's connection with the scheduler."""
        self.name, self.token, self.client = f"{token}-departure", token, client

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Do so if this client is the command's."""
        if client == self.client:
            if self.token in scheduler.worker_plugins:
                scheduler.loop.add_callback(scheduler.unregister_worker_plugin, None, self.token)
            scheduler.remove_plugin(self.name)


def configure(folder: Path, values: dict[str, object]) -> None:
    """Set values in DVC's configuration of a copy."""
    configuration = ConfigObj(str(folder / ".dvc" / "config.local"), encoding="utf-8", create_empty=True)
    for name, value in values.items():
        section, _, key = name.rpartition(".")
        configuration.setdefault(section, {})[key] = str(value)
    configuration.write()


def own_cache(place: Path) -> str:
    """DVC's cache on a machine of its own: that of the project around a worker's folder, or one beside the folder."""
    around = next((folder for folder in place.parents if (folder / ".dvc" / "config").is_file()), None)
    configured = Config(around and str(around / ".dvc"), validate=False).get("cache", {}).get("dir")
    return os.path.expanduser(configured or (around / ".dvc" / "cache" if around else place.parent / "dvc-cache"))


def gpus_here() -> list[str]:
    """The names by which CUDA knows this machine's GPUs, of those that this process may use."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        names = [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
        return list(itertools.takewhile(lambda name: name and not name.startswith("-"), names))
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", check=False).stdout
    return [str(number) for number, _ in enumerate(re.findall(r"^GPU \d", listed, re.MULTILINE))]


def run_stage(token: str, name: str, *needed: Done) -> Done:
    """Run a stage on this worker, in a copy of the project of this name, unless a stage failed that it needs."""
    worker = get_worker()
    if any(other["status"] != 0 for other in needed):
        return not_run(name, "it needs a stage that failed")
    if done := ended_elsewhere(token, name):
        return done
    worker.log_event(token, {"name": name, "where": str(worker.name), "when": time.time()})
    with copy_of(token) as folder:
        known = {path: text for other in needed for path, text in other["runs"].items()}
        done = run_step(token, folder, name, known)
    topics = [token, f"{name}/{token}"]
    worker.log_event(topics, {"done": done | {"log": ""}})  # before this worker begins another stage
    return done


def ended_elsewhere(token: str, name: str) -> Done | None:
    """What became of a stage that ended well on another worker, which was lost since; None if there is no such stage."""
    worker = get_worker()
    if worker.plugins[token].shared:  # in one process, no worker is lost
        return None
    told = sync(worker.loop, worker.scheduler.events, topic=f"{name}/{token}")
    return next((event["done"] for _, event in told if event["done"]["status"] == 0), None)


def run_trial(token: str, name: str, values: list[str], history: str, results: list[str]) -> Done:
    """Run a stage with other values of parameters, and tell of each change of its history while it runs.

    Args:
        token: The name of the plugin.
        name: Of the stage.
        values: As for `dvc exp run --set-param`.
        history: The path of a file that the stage writes again and again.
        results: Paths of other files, whose text is wanted in the end.
    """
    worker, began = get_worker(), time.monotonic()
    key = worker.get_current_task()

    def look() -> None:
        nonlocal seen
        with contextlib.suppress(FileNotFoundError):
            if seen != (seen := watched.read_bytes()) and seen.endswith(b"\n"):  # else half of it is copied
                told = {"key": key, "history": seen.decode(), "seconds": time.monotonic() - began}
                worker.log_event(f"{TRIALS}-{token}", told)

    with copy_of(token) as folder:
        watched = folder / history
        seen = watched.read_bytes() if watched.exists() else b""
        done = run_step(token, folder, name, {}, values, look)
        if done["status"] == 0:
            done["files"] = {path: (folder / path).read_text() for path in (history, *results)}
    return done


@contextlib.contextmanager
def copy_of(token: str) -> Iterator[Path]:
    """The folder of a copy of the project, in which no other stage runs within this context."""
    project: Project = get_worker().plugins[token]
    folder = project.free.get()
    try:
        yield folder
    finally:
        project.free.put(folder)


def run_step(
    token: str,
    folder: Path,
    name: str,
    known: dict[str, str],
    values: Sequence[str] = (),
    look: Callable[[], None] = lambda: None,
) -> Done:
    """Run a stage in a copy; stop it if nobody waits for it any more.

    Args:
        token: The name of the plugin.
        folder: The copy.
        name: The stage.
        known: The entries of the stages that it needs in DVC's cache of runs, by path, if workers have caches of their own.
        values: Of parameters, for this run alone.
        look: Called again and again while the stage runs.
    """
    worker, began = get_worker(), time.monotonic()
    project: Project = worker.plugins[token]
    key, gpus = worker.get_current_task(), project.gpus.get(str(worker.name))
    environment = {key: value for key, value in os.environ.items() if key not in {"BASH_ENV", "ENV"}}
    environment["SHELL"] = "/bin/sh"
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    environment["FASHION_MNIST_RUN"] = str(os.getpid())
    if values:  # what is tried is stopped, or is tried again: no checkpoint may be left of it
        environment["FASHION_MNIST_CHECKPOINT_SECONDS"] = "1000000000"
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    runs, log, plan = folder / RUNS, folder / LOG, folder / PLAN
    runs.parent.mkdir(exist_ok=True)
    plan.write_text(json.dumps({"started": time.time(), "stages": {}, "took": {}}))
    environment["FASHION_MNIST_PLAN"] = str(plan)
    if not project.shared:
        runs.write_text(json.dumps(known))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.cluster.step", name, *values],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            task = worker.state.tasks.get(key)
            if task is None or task.state != "executing":  # it was cancelled
                break
            look()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PAUSE)
    finally:
        stop(process)
    status, printed = process.returncode, log.read_text(encoding="utf-8", errors="replace")
    if status < 0:
        printed += f"\nIt was killed ({signal.Signals(-status).name}), as by a system that is out of memory."
    entries = {} if status or project.shared else json.loads(runs.read_text())
    return Done(
        stage=name,
        status=status,
        log=printed,
        worker=str(worker.name),
        runs=entries,
        seconds=time.monotonic() - began,
        took=None if status else json.loads(plan.read_text())["took"].get(name),
        files={},
    )


def stop(process: subprocess.Popen) -> None:
    """End a command of DVC and its stage, if they run."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
