"""What a worker of a Dask cluster does: it runs `dvc repro STAGE` in a copy of the project of its own.

DVC puts the results into its cache and into its cache of runs. From there, `dvc repro` restores them in the project, and
the next stages restore them in the copies of other workers. Dask sends the code of this file to the workers, which may lie
on machines without this project: it imports nothing of it.
"""

import contextlib
import io
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

from configobj import ConfigObj
from distributed import Worker, WorkerPlugin, get_worker

LOG = ".dvc/tmp/log"
RUNS = ".dvc/tmp/runs.json"  # what stages.cluster.step reads and writes on another machine
TRIALS = "trials"  # of the messages: a trial's history so far
PAUSE = 0.1  # seconds between two looks at a running stage
PATIENCE = 10  # seconds for a stage to end when it is told to


class Done(TypedDict):
    """What became of a stage.

    Keys: `stage`, its name; `status`, its exit status, or None if it did not run, because a stage failed that it needs;
    `log`, what it printed; `worker`, where it ran; `runs`, if workers have caches of their own: its entry in DVC's cache of
    runs and those of the stages that it needs, by their paths in the cache.
    """

    stage: str
    status: int | None
    log: str
    worker: str
    runs: dict[str, str]


class Trial(TypedDict):
    """What became of a stage that ran with other values of parameters.

    Keys: `status`, `log`, `worker` and `runs`: see `Done`; `seconds`, from its start to its end; `files`, the text of the
    results that were asked for, by path.
    """

    status: int
    log: str
    worker: str
    runs: dict[str, str]
    seconds: float
    files: dict[str, str]


class Project(WorkerPlugin):
    """Copies of the project on each worker: one for each stage that it runs at once.

    Attributes:
        free: The folders of the copies in which no stage runs.
        shared: Whether their cache is the project's; otherwise data travels by DVC's default remote.
    """

    def __init__(
        self, archive: bytes, inside: str, cache: str | None, gpus: dict[int, list[str]], settings: dict[str, str]
    ):
        """A project to be copied.

        Args:
            archive: A tar archive.
            inside: The project's folder inside it.
            cache: The folder of DVC's cache, for workers on the same machine; None: each machine has one of its own.
            gpus: The names of each worker's GPUs, by the worker's name; empty for workers whose environment says it.
            settings: More of DVC's configuration: `section.key`, and the value.
        """
        self.archive, self.inside, self.cache, self.gpus, self.settings = archive, inside, cache, gpus, settings
        self.name = uuid.uuid4().hex[:8]
        self.shared = cache is not None

    def setup(self, worker: Worker) -> None:
        """Unpack the project, as a worker begins."""
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

    def teardown(self, worker: Worker) -> None:
        """Remove the copies, as a worker ends."""
        shutil.rmtree(Path(worker.local_directory) / self.name, ignore_errors=True)


def configure(folder: Path, values: dict[str, object]) -> None:
    """Set values in DVC's configuration of a copy."""
    configuration = ConfigObj(str(folder / ".dvc" / "config.local"), encoding="utf-8", create_empty=True)
    for name, value in values.items():
        section, _, key = name.rpartition(".")
        configuration.setdefault(section, {})[key] = str(value)
    configuration.write()


def own_cache(place: Path) -> Path:
    """DVC's cache on a machine of its own: that of the project around a worker's folder, or one beside the folder."""
    around = next((folder for folder in place.parents if (folder / ".dvc" / "config").is_file()), None)
    return around / ".dvc" / "cache" if around else place.parent / "dvc-cache"


def run_stage(token: str, name: str, *needed: Done) -> Done:
    """Run a stage on this worker, in a copy of the project of this name, unless a stage failed that it needs."""
    worker = get_worker()
    project: Project = worker.plugins[token]
    done = Done(stage=name, status=None, log="", worker=str(worker.name), runs={})
    if any(other["status"] != 0 for other in needed):
        return done
    worker.log_event(token, {"name": name, "where": str(worker.name), "when": time.time()})
    folder = project.free.get()
    try:
        runs, log = folder / RUNS, folder / LOG
        runs.parent.mkdir(exist_ok=True)
        if not project.shared:
            runs.write_text(json.dumps({path: text for other in needed for path, text in other["runs"].items()}))
        done["status"] = run_step(folder, name, project.gpus.get(worker.name), log)
        done["log"] = log.read_text(encoding="utf-8", errors="replace")
        if done["status"] < 0:
            done["log"] += (
                f"\nIt was killed ({signal.Signals(-done['status']).name}), as by a system that is out of memory."
            )
        if done["status"] == 0 and not project.shared:
            done["runs"] = json.loads(runs.read_text())
    finally:
        project.free.put(folder)
    return done


def run_trial(token: str, name: str, values: list[str], history: str, results: list[str]) -> Trial:
    """Run a stage with other values of parameters, and tell of each change of its history while it runs.

    Args:
        token: The name of the plugin.
        name: Of the stage.
        values: As for `dvc exp run --set-param`.
        history: The path of a file that the stage writes again and again.
        results: Paths of other files, whose text is wanted in the end.
    """
    worker, began = get_worker(), time.monotonic()
    project: Project = worker.plugins[token]
    folder = project.free.get()
    key, watched = worker.get_current_task(), folder / history
    seen = watched.read_bytes() if watched.exists() else b""

    def look() -> None:
        nonlocal seen
        with contextlib.suppress(FileNotFoundError):
            if seen != (seen := watched.read_bytes()) and seen.endswith(b"\n"):  # else half of it is copied
                told = {"key": key, "history": seen.decode(), "seconds": time.monotonic() - began}
                worker.log_event(f"{TRIALS}-{token}", told)

    try:
        runs, log = folder / RUNS, folder / LOG
        runs.parent.mkdir(exist_ok=True)
        if not project.shared:
            runs.write_text("{}")
        status = run_step(folder, name, project.gpus.get(worker.name), log, values, look)
        return Trial(
            status=status,
            log=log.read_text(encoding="utf-8", errors="replace"),
            worker=str(worker.name),
            runs={} if status or project.shared else json.loads(runs.read_text()),
            seconds=time.monotonic() - began,
            files={} if status else {path: (folder / path).read_text() for path in (history, *results)},
        )
    finally:
        project.free.put(folder)


def run_step(
    folder: Path,
    name: str,
    gpus: list[str] | None,
    log: Path,
    values: Sequence[str] = (),
    look: Callable[[], None] = lambda: None,
) -> int:
    """Run a stage in a copy and return the exit status; stop it if nobody waits for it any more.

    Args:
        folder: The copy.
        name: The stage.
        gpus: The names of the GPUs that it may use; None: as the worker's environment says.
        log: The file for what it prints.
        values: Of parameters, for this run alone.
        look: Called again and again while the stage runs.
    """
    environment = {key: value for key, value in os.environ.items() if key not in {"BASH_ENV", "ENV"}}
    environment["SHELL"] = "/bin/sh"
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    environment["FASHION_MNIST_RUN"] = str(os.getpid())
    worker = get_worker()
    key = worker.get_current_task()
    if values:  # what is tried is stopped, or is tried again: no checkpoint may be left of it
        environment["FASHION_MNIST_CHECKPOINT_SECONDS"] = "1000000000"
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
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
            time.sleep(PAUSE)
    finally:
        stop(process)
    return process.returncode


def stop(process: subprocess.Popen) -> None:
    """End a command of DVC and its stage, if they run."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
