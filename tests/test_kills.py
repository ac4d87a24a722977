"""SIGKILL at random moments of `make run`, again and again: it goes on, and ends with the results of an undisturbed run.

`KILLS=40 SEED=7 python -m pytest -n 0 -m slow tests/test_kills.py` tries more moments, or others.
"""

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from stages.cluster.here import LOGS
from stages.runner.checkpoint import CHECKPOINT_VARIABLE
from tests.conftest import hashes, processes_in, run, start, wait_until

KILLS, SEED = int(os.environ.get("KILLS", "6")), int(os.environ.get("SEED", "0"))
VICTIMS = {"everything": "-m", "make run": "stages.run", "stage": "stages.start"}  # a word of the command


def programs(folder: Path, word: str) -> list[psutil.Process]:
    """The Python processes in a folder that have this word in their command."""
    found = []
    for process in processes_in(folder):
        with suppress(psutil.Error):
            found += [process] if {word, "-m"} <= set(process.cmdline()) else []
    return found


def without_results(finished: Path, folder: Path) -> Path:
    """A copy of a project as it was before its first run."""
    results = [folder / path for path in hashes(finished)]
    shutil.copytree(
        finished, folder, ignore=shutil.ignore_patterns(".git", "cache", "tmp", "*.log", "timing", "dvc.lock")
    )
    for path in results:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    return folder


def attempt(folder: Path, victim: str, begun: set[str], chance: random.Random) -> int:
    """Start `make run`, and kill a part of it, or all, in a new stage, or as DVC records it. Returns the exit status."""
    process = start(folder, "stages.run", **{CHECKPOINT_VARIABLE: "0"})

    def new_stages() -> set[str]:
        return {path.stem for path in (folder / LOGS).glob("*.log")} - begun

    if victim:
        wait_until(lambda: new_stages() or process.poll() is not None, 600)
        if chance.random() < 0.5:  # in the stage
            time.sleep(chance.uniform(0, 8))
        else:  # when DVC records it
            wait_until(lambda: not programs(folder, "stages.start"), 600)
            time.sleep(chance.uniform(0, 0.5))
        begun |= new_stages()
        if victim == "everything" and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        for one in programs(folder, VICTIMS[victim]) or programs(folder, VICTIMS["make run"]):
            with suppress(psutil.Error):
                one.kill()
        wait_until(lambda: not processes_in(folder), 60)  # the rest has to end by itself
        (folder / ".git/index.lock").unlink(missing_ok=True)  # as a sentence would say
    return process.wait()


def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_results(finished, tmp_path):
    folder, chance, begun = without_results(finished, tmp_path / "workspace"), random.Random(SEED), set()
    statuses = [attempt(folder, chance.choice(list(VICTIMS)), begun, chance) for _ in range(KILLS)]
    assert attempt(folder, "", begun, chance) == 0, (folder / "log").read_text()
    assert any(statuses)
    assert hashes(folder) == hashes(finished)
    assert not processes_in(folder)
    left = [path for pattern in ("*.part*", "*.checkpoint", "index.lock") for path in folder.rglob(pattern)]
    assert not [path for path in left if not path.name.startswith(".lock.copy.part")]
    assert "up to date" in run(folder, "dvc", "status")
