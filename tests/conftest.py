"""What the tests share: a few real images, the tests' own models, and a run of the whole graph on them."""

import gzip
import hashlib
import importlib
import io
import os
import re
import shutil
import signal
import struct
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

from stages.base import environment
from stages.data.checks import Checked
from stages.data.idx import read_idx
from stages.data.publisher import PUBLISHED, RAW
from stages.data.source import Source
from stages.models import NO_MODELS
from stages.models.block import Block
from stages.parameters.dataset import Dataset
from stages.trained.backend import start_keras

if shutil.which("git") is None:
    pytest.exit("the tests need the program git: install it, for example with `sudo apt install git`.", returncode=1)
ROOT = Path(__file__).resolve().parents[1]

environment.ignore_user_settings()  # as `python -m stages.NAME` does
# Nothing of the user's configuration of git and DVC (signed commits, hooks, another cache) has a say in the tests.
CONFIGURATION = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "DVC_GLOBAL_CONFIG_DIR": "/nonexistent"}
os.environ |= CONFIGURATION
# `make test` tells a `make` that a test runs that it is a part of it: that one would print its folder and take its options.
for name in ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"):
    os.environ.pop(name, None)
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    **CONFIGURATION,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "SHELL": "/bin/sh",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}
start_keras(2)

# The tests' own models, in `tests/models`, so that a user may remove any of the project's: the quickest one, and one with
# every feature. Two are enough to compare.
MODELS = ("plain", "small")
BLOCKS = """\
models:
  plain:
    epochs: 3
    batch_size: 64
    learning_rate: 0.001
    schedule: constant
    warmup: 0
    epoch_fraction: 1
    hard_example_fraction: 0

  small:
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
DATASET = {  # of Fashion-MNIST, whatever a user has put there
    "name": "fashion-mnist", "path": str(RAW), "size": 28, "colors": "grey", "mirror": True, "class_names": None,
    "groups": None, "faulty": "refuse", "duplicates": "keep", "class_weights": False,
}  # fmt: skip
SMALL = {  # settings for seconds of training
    "dataset": DATASET,
    "prepare": {"val_per_class": 50},
    "eda": {"embedded_images": 400},
    "statistics": {"resamples": 100},
    "folds": {"epochs": 1, "count": 2, "model": "small"},
    "robustness": {"images": 100},
    "strangers": {"pictures": 50},
    "search": {"small": {"learning_rate": {"low": 0.02, "high": 0.5, "log": True}, "warmup": {"low": 0.1, "high": 0.4},
                         "widths": [[8], [16, 32]]}},
}  # fmt: skip


def block_of(model: str, **changes) -> Block:
    """The block of a model of the tests, with changes, as its own class."""
    defaults = yaml.safe_load((ROOT / "params.yaml").read_text())["defaults"]
    architecture = importlib.import_module(f"tests.models.{model}")  # loads Keras, which `start_keras` has to begin
    return architecture.Parameters(**defaults | yaml.safe_load(BLOCKS)["models"][model] | changes)


def dataset_of(name: str = "mine", **changes) -> Dataset:
    """A section `dataset`: that of Fashion-MNIST, with another name and other changes."""
    return Dataset(**DATASET | {"name": name, "duplicates": "refuse"} | changes)


def labelled(labels: np.ndarray, given: np.ndarray) -> tuple[Source, Checked]:
    """A source of which all images, with these labels from 0 and these splits, can be used; the images are missing."""
    names = [str(label) for label in range(labels.max() + 1)]
    return Source(labels=labels, splits=given), Checked(np.arange(len(labels)), labels, names, None)


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


def heed_signals() -> None:
    """In a new process: heed Ctrl-C and a closed terminal, also where these tests run in the background, or by `nohup`."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(folder: Path, *command: str, **environment: str) -> subprocess.Popen:
    """Start `python -m COMMAND` in a process group of its own, which writes into the file `log`."""
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env=ENVIRONMENT | environment, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=heed_signals,
        )  # fmt: skip


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


def hashes(folder: Path) -> dict[str, str]:
    """The MD5 of each result in `dvc.lock` that does not hold wall times, by path."""
    entries = yaml.safe_load((folder / "dvc.lock").read_text())["stages"].values()
    results = [result for entry in entries for result in entry.get("outs", [])]
    never_the_same = ("reports/timing", "reports/report.html")
    return {result["path"]: result["md5"] for result in results if not result["path"].startswith(never_the_same)}


def ran(output: str) -> set[str]:
    """The stages that a `dvc repro` or `make run` ran (rather than skipped or restored), or would run."""
    told = re.findall(r"^\[\d+ of \d+ at [^]]*\] (\S+?)(?:: (?!nothing that it needs)| ended )", output, re.MULTILINE)
    return {*re.findall(r"Running stage '(.*?)'", output), *told}


def commit(folder: Path, message: str) -> None:
    """Commit everything in `folder`."""
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", message)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write unsigned bytes as a gzipped IDX file; the same array gives the same bytes."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=6, mtime=0))


@pytest.fixture
def project(tmp_path) -> Path:
    """A project with the code of this one, but with a single stage, `mine`, which takes no time: see `one_stage.py`."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "stages", folder / "stages")
    for name in (".dvc/config", ".dvcignore", ".gitignore"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name, text in {
        "stages/mine.py": (ROOT / "tests/one_stage.py").read_text(),
        "stages/base/part.py": "WORD = 'right'\n",
        "stages/page/tables.py": "def for_terminal(): return 'the table'\ndef recorded_warnings(): return ''\n",
        "stages/check.py": "def check_all(): pass\n",
        "data/input": " input\n",
        "params.yaml": "rate: 1\nthreads: 1\n",
        "dvc.yaml": "stages:\n  mine:\n    cmd: python -E -m stages.start mine\n    params: [rate]\n"
        "    deps: [data/input, stages/mine.py, stages/base/part.py]\n    outs: [data/result]\n",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    commit(folder, "Begin")
    return folder


@pytest.fixture(scope="session")
def published() -> tuple[np.ndarray, np.ndarray]:
    """The first 2,500 training images, uint8 (2500, 28, 28), and their labels."""
    images, labels, *_ = (ROOT / RAW / name for name in PUBLISHED)
    return read_idx(images, 3)[:2500], read_idx(labels, 1)[:2500]


@pytest.fixture(scope="session")
def images(published) -> tuple[np.ndarray, np.ndarray]:
    """1,000 training images, uint8 (1000, 28, 28), and their labels."""
    return published[0][:1000], published[1][:1000]


def cpu_seconds() -> float:
    """The CPU time of this process, and of those that it has started and waited for, seconds."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    item.began = cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if call.when == "teardown":
        report.user_properties.append(("cpu_seconds", cpu_seconds() - item.began))
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    """Name the ten heaviest tests, by CPU time with that of their fixtures: wall time depends on what else runs."""
    ended = [report for report in terminalreporter.stats.get("", []) if report.when == "teardown"]
    seconds = {report.nodeid: dict(report.user_properties)["cpu_seconds"] for report in ended}
    terminalreporter.section(f"{sum(seconds.values()):.0f} s of CPU; the ten heaviest tests")
    for name in sorted(seconds, key=seconds.get, reverse=True)[:10]:
        terminalreporter.write_line(f"{seconds[name]:6.1f} s  {name}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a run of the whole graph are slow ones; its first run begins at once, in one process."""
    needing = [item for item in items if "finished" in item.fixturenames]
    for item in needing:
        item.add_marker("slow")
    items.sort(key=lambda item: item not in needing)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, published) -> Path:
    """A copy of the project with the models of the tests, where the whole graph has run on few images, on branch `main`.

    Built once and shared by the test processes. Tests that change it work on a clone of their own: see `workspace`.
    """
    shared = (
        tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.getbasetemp()
    )
    folder, ready = shared / "finished", shared / "finished.ready"
    try:
        folder.mkdir()
    except FileExistsError:  # another process builds it
        wait_until(ready.exists, 900)
        assert ready.read_text() == "built", "the first run of the graph failed"
        return folder
    try:
        make_copy(folder, published)
        (folder / "first_run.log").write_text(run(folder, "dvc", "repro"))
        commit(folder, "First run")
    except BaseException:
        ready.write_text("failed")
        raise
    ready.write_text("built")
    return folder


def make_copy(folder: Path, published: tuple[np.ndarray, np.ndarray], train: int = 2000) -> None:
    """Copy the project into the empty `folder`, with the tests' models, few images, and settings for a short training.

    Args:
        folder: Where to.
        published: Images and labels.
        train: So many of them are training images, the others are for the test.
    """
    left_out = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
    for name in ("stages", ".dvc"):
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    for name in ("dvc.yaml", "params.yaml", "reports/experiments.csv", ".dvcignore", ".gitignore", ".gitattributes"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for path in (folder / "stages" / "models").glob("*.py"):
        if path.stem not in NO_MODELS:
            path.unlink()
    for model in MODELS:
        shutil.copy(ROOT / "tests" / "models" / f"{model}.py", folder / "stages" / "models")
    path = folder / "params.yaml"
    path.write_text(with_models_of_the_tests(path.read_text()))
    few_images(folder, published, train)
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")


def few_images(folder: Path, published: tuple[np.ndarray, np.ndarray], train: int) -> None:
    """Write the first `train` images as those of the training, the others as those of the test, with their digests."""
    pixels, labels = published
    (folder / RAW).mkdir(parents=True)
    pins = folder / "stages" / "data" / "publisher.py"
    text = pins.read_text()
    for name, array in zip(PUBLISHED, (pixels[:train], labels[:train], pixels[train:], labels[train:]), strict=True):
        write_idx(folder / RAW / name, array)
        text = text.replace(PUBLISHED[name], hashlib.sha256((folder / RAW / name).read_bytes()).hexdigest())
    pins.write_text(text)


def with_models_of_the_tests(text: str) -> str:
    """The project's `params.yaml`, with its comments, but with other models and the values of `SMALL`."""
    round_trip = YAML()
    round_trip.width = 200
    content = round_trip.load(re.sub(r"^models:\n.*?(?=^\w)", BLOCKS, text, flags=re.MULTILINE | re.DOTALL))
    for name, values in SMALL.items():
        content[name] = values if name == "search" else content[name] | values
    content |= {"seeds": [0], "devices": 1}
    written = io.StringIO()
    round_trip.dump(content, written)
    return written.getvalue()


def clone_with_data(finished: Path, folder: Path, cache: Path | None = None) -> Path:
    """Clone `finished` and bring its data along; the two share a cache, unless another one is given."""
    run(folder.parent, "git", "clone", "--quiet", str(finished), str(folder))
    shared = {"cache": {"dir": str(cache or finished / ".dvc" / "cache")}}
    lines = [f"[{section}]\n{key} = {value}\n" for section, values in shared.items() for key, value in values.items()]
    (folder / ".dvc" / "config.local").write_text("".join(lines))
    for name in ("prepared", "models", "predictions", "folds", "selected", "exported"):
        shutil.copytree(finished / "data" / name, folder / "data" / name)
    return folder


@pytest.fixture
def workspace(finished, tmp_path) -> Path:
    """A clone of `finished` with its data, to change at will. What runs in it is in no other test's cache."""
    cache = shutil.copytree(finished / ".dvc" / "cache", tmp_path / "cache")
    return clone_with_data(finished, tmp_path / "workspace", cache)
