"""A copy of the project, in which one stage runs. Dask sends this code to workers: it imports nothing of the project."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

LOOK_SECONDS = 0.1  # between two looks at a running stage

Results = dict[str, dict[str, bytes]]  # for the path of each result, a file or a folder: its files by their paths


class Outcome(TypedDict):
    """What became of a stage. Where it failed, there are no results."""

    stage: str  # its name
    status: int  # its exit status
    log: str  # what it printed
    seconds: float  # from its start to its end
    took: str | None  # what it took, if it ran from its beginning and was not restored: see `stages.runner.progress`
    entry: dict  # of `dvc.lock`
    cached: list[str]  # paths of its results in DVC's cache
    results: Results  # those outside of DVC's cache


def failure(name: str, log: str, status: int) -> Outcome:
    """What became of a stage that failed."""
    return Outcome(stage=name, status=status, log=log, seconds=0, took=None, entry={}, cached=[], results={})


def run_in_copy(
    archive: tuple[bytes, str],
    place: Path,
    name: str,
    options: Sequence[str],
    results: Results,
    look: Callable[[Path], None],
) -> Outcome:
    """Run a stage in a new copy of the project, which is then removed: nothing of another stage is in it.

    Args:
        archive: See `stages.cluster.pool.pack`.
        place: A folder for the copy.
        name: Of the stage.
        options: Of `step.py`: `--remote`, and values of parameters.
        results: Files that are newer than those in the archive.
        look: Called again and again, with the copy's folder, while the stage runs. If it raises an error, the stage ends.
    """
    began = time.monotonic()
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as copy:
        with tarfile.open(fileobj=io.BytesIO(archive[0])) as packed:
            packed.extraction_filter = getattr(tarfile, "data_filter", None)  # missing in Python 3.11.0 to 3.11.3
            packed.extractall(copy)
        folder = Path(copy, archive[1])
        put(results, folder)
        log = folder / ".dvc/tmp/log"
        with log.open("wb") as output:
            command = [sys.executable, ".dvc/tmp/step.py", name, *options]
            environment = os.environ | {"FASHION_MNIST_RUN": str(os.getpid())}  # a stage ends with this process
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
            process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **streams)
        try:
            while process.poll() is None:
                look(folder)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        done = failure(name, log.read_text(encoding="utf-8", errors="replace"), process.returncode)
        if process.returncode == 0:
            done |= json.loads((folder / ".dvc/tmp/done.json").read_text(encoding="utf-8"))
            done["results"] = {path: files_of(folder, path) for path in done["results"]}
        return done | {"seconds": time.monotonic() - began}


def files_of(folder: Path, path: str) -> dict[str, bytes]:
    """The content of a file, or of all files in a folder, by their paths in `folder`."""
    files = [file for file in (folder / path, *(folder / path).rglob("*")) if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def put(results: Results, folder: Path) -> None:
    """Write results into a folder, in the places of older ones; each file is renamed when it is whole."""
    for path, files in results.items():
        if (folder / path).is_dir():
            shutil.rmtree(folder / path)
        for name, content in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            beside = file.with_name(f".{file.stem}.part{os.getpid()}{file.suffix}")
            beside.write_bytes(content)
            os.replace(beside, file)
