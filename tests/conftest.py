"""What the tests share: small drawn data, and one run of the whole graph in a temporary git repository."""

import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from ruamel.yaml import YAML

from stages.common.backend import start_keras
from stages.data import drawn
from stages.demo import environment, make_copy
from stages.models import NO_MODELS
from stages.models.block import Block

if shutil.which("git") is None:
    pytest.exit("the tests need the program git: install it, for example with `sudo apt install git`.", returncode=1)
ROOT = Path(__file__).resolve().parents[1]

# Nothing of the user's configuration of git and DVC (signed commits, hooks, another cache) has a say in the tests.
CONFIGURATION = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "DVC_GLOBAL_CONFIG_DIR": "/nonexistent"}
os.environ |= CONFIGURATION
# `make test` tells a `make` that a test runs that it is a part of it: that one would print its folder and take its options.
for name in ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"):
    os.environ.pop(name, None)
ENVIRONMENT = environment() | {
    **CONFIGURATION,
    "SHELL": "/bin/sh",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}
start_keras(2, os.environ.get("BACKEND_OF_TESTS", "tensorflow"))

# The tests' own models, in `tests/models`, so that a user may remove any of the project's: the quickest one, and one with
# every feature. Two are enough to compare.
MODELS = ("plain", "small")
BLOCKS = """\
models:
  plain:
    <<: *defaults
    epochs: 3
    batch_size: 64
    learning_rate: 0.001
    schedule: constant
    warmup: 0
    epoch_fraction: 1
    hard_example_fraction: 0

  small:
    <<: *defaults
    widths: [16, 32] # filters of the groups
    dropout: 0.1
    epochs: 3
    batch_size: 64
    optimizer: muon
    learning_rate: 0.14
    momentum: 0.6
    bias_factor: 100
    label_smoothing: 0.1
    epoch_fraction: 0.5
    low_resolution_fraction: 0.36
    low_resolution_size: 16
    random_shift: 1
    random_flip: true
    test_time_augmentation: flip_and_shift

"""


def block_of(model: str, **changes) -> Block:
    """The block of a model of the tests, with changes, as its own class."""
    defaults = yaml.safe_load((ROOT / "params.yaml").read_text())["defaults"]
    text = f"defaults: &defaults {json.dumps(defaults)}\n{BLOCKS}"
    architecture = importlib.import_module(f"tests.models.{model}")  # loads Keras, which `start_keras` has to begin
    return architecture.Parameters(**yaml.safe_load(text)["models"][model] | changes)


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


def processes_in(folder: Path) -> list[psutil.Process]:
    """The processes that work in a folder or below."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def wait_until(happens: Callable[[], object], seconds: float = 150) -> None:
    """Wait until `happens` returns something true."""
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


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
def drawn_images() -> tuple[np.ndarray, np.ndarray]:
    """1,000 drawn images, uint8 (1000, 28, 28), and their labels."""
    return drawn.draw(1000, seed=3)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A copy of the project with the models of the tests, where the whole graph has run on drawn images, on branch `main`.

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
        if path.stem not in NO_MODELS:
            path.unlink()
    for model in MODELS:
        shutil.copy(ROOT / "tests" / "models" / f"{model}.py", folder / "stages" / "models")
    path = folder / "params.yaml"
    path.write_text(with_models_of_the_tests((ROOT / "params.yaml").read_text(), yaml.safe_load(path.read_text())))
    (folder / "first_run.log").write_text(run(folder, "dvc", "repro"))
    commit(folder, "First run")


def with_models_of_the_tests(text: str, small: dict) -> str:
    """The project's `params.yaml`, with its comments, anchor and merge keys, but with other models and values.

    Args:
        text: The file.
        small: Its parsed content, with settings for seconds of training: see `stages.demo.shrink`.
    """
    round_trip = YAML()
    round_trip.width = 200
    content = round_trip.load(re.sub(r"^models:\n.*?(?=^\w)", BLOCKS, text, flags=re.MULTILINE | re.DOTALL))
    for name, value in small.items():
        if isinstance(value, dict) and name not in {"defaults", "models"}:
            content[name].update(value)
        elif not isinstance(value, dict):
            content[name] = value
    content["audit"]["model"] = "small"
    rates, warmup = {"low": 0.02, "high": 0.5, "log": True}, {"low": 0.1, "high": 0.4}  # the latter is inherited
    content["search"] = {"small": {"learning_rate": rates, "warmup": warmup, "widths": [[8], [16, 32]]}}
    written = io.StringIO()
    round_trip.dump(content, written)
    return written.getvalue()


def clone_with_data(finished: Path, folder: Path, cache: Path | None = None) -> Path:
    """Clone `finished` and bring its data along; the two share a cache, unless another one is given."""
    run(folder.parent, "git", "clone", "--quiet", str(finished), str(folder))
    run(folder, "dvc", "cache", "dir", "--local", str(cache or finished / ".dvc" / "cache"))
    run(folder, "dvc", "checkout", "--quiet")
    return folder


@pytest.fixture
def workspace(finished, tmp_path) -> Path:
    """A clone of `finished` with its data, to change at will. What runs in it is in no other test's cache."""
    cache = shutil.copytree(finished / ".dvc" / "cache", tmp_path / "cache")
    return clone_with_data(finished, tmp_path / "workspace", cache)


@pytest.fixture(scope="session")
def dry_workspace(finished, tmp_path_factory) -> Path:
    """A clone of `finished` with its data for tests that run nothing: each puts back what it changes with `git restore`."""
    return clone_with_data(finished, tmp_path_factory.mktemp("dry") / "workspace")
