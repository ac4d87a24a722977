"""What the tests share: small drawn data, and one run of the whole graph in a temporary git repository."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages import drawn
from stages.demo import environment, make_copy
from stages.environment import use_backend

if shutil.which("git") is None:
    pytest.exit("the tests need the program git: install it, for example with `sudo apt install git`.", returncode=1)
use_backend(os.environ.get("BACKEND_OF_TESTS", "tensorflow"))
ROOT = Path(__file__).resolve().parents[1]

# Nothing of the user's configuration of git and DVC (signed commits, hooks, another cache) has a say in the tests.
CONFIGURATION = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "DVC_GLOBAL_CONFIG_DIR": "/nonexistent"}
os.environ |= CONFIGURATION
ENVIRONMENT = environment() | {
    **CONFIGURATION,
    "SHELL": "/bin/sh",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}


MODELS = ("logistic", "sprint")  # the quickest, and the one with every feature: two are enough to compare


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    """Apply `change` to the parsed `params.yaml` of a workspace."""
    path = folder / "params.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def run(folder: Path, *command: str, succeeds: bool = True, **environment: str) -> str:
    """Run a command in `folder`; returns what it wrote, stdout and stderr, and checks whether it exits with 0."""
    if command[0] in {"python", "dvc"}:
        module = ["-m", "dvc"] if command[0] == "dvc" else []
        command = (sys.executable, *module, *command[1:])
    done = subprocess.run(
        command,
        cwd=folder,
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == succeeds, f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}"
    return done.stdout


def ran(output: str) -> set[str]:
    """The stages that a `dvc repro` ran (rather than skipped or restored)."""
    return set(re.findall(r"Running stage '(.*?)'", output))


def planned(folder: Path, *options: str) -> set[str]:
    """The stages that `dvc repro` would run, with `@SEED` as in DVC's names."""
    output = run(folder, "dvc", "repro", "--dry", *options)
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


def commit(folder: Path, message: str) -> None:
    """Commit everything in `folder`."""
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", message)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first run of the graph begins at once, in one process; the other goes on with what does not need it."""
    needing = [item.path for item in items if "finished" in item.fixturenames]
    first = max(set(needing), key=needing.count, default=None)
    items.sort(key=lambda item: (item.path != first, item.path in needing))


@pytest.fixture(scope="session")
def drawn_pictures() -> tuple[np.ndarray, np.ndarray]:
    """1,000 drawn pictures, uint8 (1000, 28, 28), and their labels."""
    return drawn.draw(1000, seed=3)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A copy of the project with two of its models, in which the whole graph has run on drawn pictures, on branch `main`.

    Built once and shared by the test processes. Tests that change it work on a clone of their own: see `workspace`.
    """
    shared = (
        tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.getbasetemp()
    )
    folder, ready = shared / "finished", shared / "finished.ready"
    try:
        folder.mkdir()
    except FileExistsError:  # another process builds it
        deadline = time.monotonic() + 600
        while not ready.exists():
            assert time.monotonic() < deadline, "the first run of the graph did not end"
            time.sleep(0.2)
        assert ready.read_text() == "built", "the first run of the graph failed"
        return folder
    try:
        build(folder)
    except BaseException:
        ready.write_text("failed")
        raise
    ready.write_text("built")
    return folder


def build(folder: Path) -> None:
    """Fill the empty `folder` for `finished`."""
    make_copy(folder)
    for path in (folder / "stages" / "models").glob("*.py"):
        if path.stem not in {"__init__", *MODELS}:
            path.unlink()
            edit(folder, lambda content, name=path.stem: content["models"].pop(name))
    (folder / "first_run.log").write_text(run(folder, "dvc", "repro"))
    commit(folder, "First run")


def clone_with_data(finished: Path, folder: Path) -> Path:
    """Clone `finished` and bring its data along; the two share a cache."""
    run(folder.parent, "git", "clone", "--quiet", str(finished), str(folder))
    run(folder, "dvc", "cache", "dir", "--local", str(finished / ".dvc" / "cache"))
    run(folder, "dvc", "checkout", "--quiet")
    return folder


@pytest.fixture
def workspace(finished, tmp_path) -> Path:
    """A clone of `finished` with its data, to change at will."""
    return clone_with_data(finished, tmp_path / "workspace")


@pytest.fixture(scope="session")
def dry_workspace(finished, tmp_path_factory) -> Path:
    """A clone of `finished` with its data for tests that run nothing: each puts back what it changes with `git restore`."""
    return clone_with_data(finished, tmp_path_factory.mktemp("dry") / "workspace")
