"""An interrupted training goes on from its checkpoint, and ends with the same bytes as one that was not interrupted."""

import errno
import hashlib
import importlib
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from stages import models
from stages.common import checkpoint, stage
from stages.common.cache import cache_folder
from stages.common.checkpoint import Checkpoint
from stages.common.errors import InputError
from stages.common.parameters import read_parameters
from stages.trained.saving import save_model
from stages.training import fit, resume
from tests.conftest import ENVIRONMENT, ROOT, block_of, edit, processes_in, run, wait_until
from tests.interrupted import OWN, Interrupted, Killed
from tests.models import plain, small
from tests.test_record import start

VARIANTS = {
    "early stopping": (plain, {"patience": 1, "learning_rate": 0.02}),
    "averaged weights, early stopping": (plain, {"patience": 2, "ema_momentum": 0.9, "learning_rate": 0.01}),
    "hard examples, low resolution, dropout": (small, {}),
    "teachers": (small, {"epochs": 3, "teachers": [2, 1], "distillation_weight": 0.5}),
    "all of it": (
        small,
        {"epochs": 4, "teachers": [1], "distillation_weight": 0.5, "ema_momentum": 0.5, "patience": 1, "cutmix": 0.3},
    ),
}


def train(architecture, drawn_images, kept=None, **changes):
    block = block_of(architecture.__name__.rpartition(".")[2], **{"epochs": 5, "batch_size": 40} | changes)
    return train_block(architecture, block, drawn_images, kept)


def train_block(architecture, block, drawn_images, kept=None):
    images, labels = drawn_images[0][..., None], drawn_images[1]
    keras.utils.clear_session()  # as in a process of its own
    parts = images[200:600], labels[200:600], images[:100], labels[:100]
    return fit.train(architecture, block, 0, *parts, checkpoint=kept)


def file_of(trained: fit.Trained, folder: Path) -> tuple[bytes, str]:
    """What a training leaves, without wall times."""
    save_model(trained.model, folder / "model.keras", {})
    return (folder / "model.keras").read_bytes(), trained.history.to_json()


@pytest.mark.fault(
    "A training is killed, and all of its epochs are lost.",
    "It goes on from a checkpoint, and ends with the same bytes.",
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_that_is_interrupted_anywhere_ends_with_the_same_bytes(variant, drawn_images, tmp_path):
    architecture, changes = VARIANTS[variant]
    compare_interrupted(lambda kept=None: train(architecture, drawn_images, kept, **changes), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("model", OWN)
def test_a_training_of_the_projects_own_models_does_too(model, drawn_images, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    if model not in read_parameters("models"):
        pytest.skip(f"params.yaml has no model {model}")
    architecture = importlib.import_module(f"stages.models.{model}")
    block = models.read_block(model)
    block = type(block).model_validate(block.model_dump() | OWN[model])
    compare_interrupted(lambda kept=None: train_block(architecture, block, drawn_images, kept), tmp_path)


def compare_interrupted(train_once: Callable[..., fit.Trained], folder: Path) -> None:
    """Fail if a training that is interrupted again and again ends with other bytes than an undisturbed one."""
    expected = file_of(train_once(), folder)
    path = folder / "one.checkpoint"
    for count in itertools.count(1):  # each time in the first place where it is possible, and once more
        try:
            trained = train_once(Interrupted(path, 1))
            break
        except Killed:
            assert count < 20
    assert file_of(trained, folder) == expected
    assert len(trained.history) == len(trained.seconds[trained.seconds["epoch"] > 0]) == len(trained.ends)
    assert count > len(trained.history)


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_early_stopping_goes_on_counting(epochs, drawn_images, tmp_path):
    changes = {"patience": 3, "learning_rate": 5.0, "epochs": 9}
    expected = train(plain, drawn_images, **changes).history
    assert len(expected) < 9
    path = tmp_path / "one.checkpoint"
    with pytest.raises(Killed):
        train(plain, drawn_images, Interrupted(path, len(expected) - 1 - epochs), **changes)
    pd.testing.assert_frame_equal(train(plain, drawn_images, Interrupted(path, 99), **changes).history, expected)


# --- The file ---


@pytest.fixture
def place(dry_workspace, monkeypatch):
    """A workspace in which this process stands, without checkpoints."""
    monkeypatch.chdir(dry_workspace)
    yield dry_workspace / checkpoint.FOLDER
    shutil.rmtree(dry_workspace / checkpoint.FOLDER, ignore_errors=True)


PART = {"epoch": np.array(3), "weights": np.arange(5, dtype=np.float32)}


def test_seconds_that_are_none_are_refused(place, monkeypatch):
    monkeypatch.setenv(checkpoint.EVERY, "often")
    with pytest.raises(
        InputError, match="FASHION_MNIST_CHECKPOINT_SECONDS is 'often', but must be a number of seconds"
    ):
        opened()


def opened(conditions: str = "one") -> Checkpoint:
    found = checkpoint.open_checkpoint("train@plain-0", {"processor": conditions})
    found.every = found.due = 0
    return found


def test_a_checkpoint_comes_back(place):
    first = opened()
    assert first.get("a training") is None
    first.put("a training", PART)
    again = opened().get("a training")
    assert {name: array.tolist() for name, array in again.items()} == {"epoch": 3, "weights": [0, 1, 2, 3, 4]}


def test_types_that_numpy_cannot_save_keep_their_values():
    numbers = keras.ops.convert_to_numpy(keras.ops.cast([1.5, -3e38, 1 / 3], "bfloat16"))
    (kept,) = resume.numbered("one", [numbers]).values()
    assert kept.dtype == np.float32
    assert kept.astype(numbers.dtype).tobytes() == numbers.tobytes()


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a byte of the checksum": lambda path: flip(path, 3),
    "a byte of the content": lambda path: flip(path, 500),
    "the last byte": lambda path: flip(path, -1),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:400]),
    "empty": lambda path: path.write_bytes(b""),
    "something else": lambda path: path.write_bytes(hashlib.sha256(b"hello").digest() + b"hello"),
    "a pickle": lambda path: path.write_bytes(hashlib.sha256(pickled).digest() + pickled),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "made with a list": lambda path: checkpoint.write(path, ["train@plain-0"], {"a training": PART}),
    "made with nothing": lambda path: checkpoint.write(path, None, {"a training": PART}),
}
pickled = pickle.dumps({"epoch": 3})


@pytest.mark.fault(
    "A checkpoint is damaged, or of other values, code, data, packages or another machine.",
    "It is named with the reason, and not used.",
)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_not_used(damage, place, capfd):
    opened().put("a training", PART)
    (path,) = place.iterdir()
    DAMAGE[damage](path)
    again = opened()
    assert again.get("a training") is None
    assert f"the checkpoint {path} is not used" in capfd.readouterr().err
    if damage != "a folder":
        again.put("a training", PART)
        assert opened().get("a training") is not None


def test_a_checkpoint_of_another_stage_is_not_used_under_its_name(place, capfd):
    """Of another seed, for example, which reads the same."""
    found = {"stage": "train@plain-1"} | {key: value for key, value in opened().made_with.items() if key != "stage"}
    checkpoint.write(opened().path, found, {"a training": PART})
    assert opened().get("a training") is None
    assert "it was made with stage: train@plain-1, and it is train@plain-0 now" in capfd.readouterr().err


def test_of_experiments_that_have_ended_one_checkpoint_is_left(place, tmp_path, capfd):
    for number in range(3):
        kept = opened(str(number))
        kept.put("a training", PART)
        (tmp_path / "model").write_text(str(number))
        kept.keep_for(tmp_path / "model")
    assert len(list(place.iterdir())) == 1
    opened("another")
    assert "is not used" not in capfd.readouterr().err


@pytest.mark.parametrize("what", ["parameter", "code", "data", "machine", "renamed"])
def test_a_checkpoint_of_something_else_is_named_and_not_used(what, place, capfd):
    opened().put("a training", PART)
    (path,) = place.iterdir()
    changed = {"code": "stages/training/fit.py", "data": "data/prepared/train.npz"}.get(what)
    if what == "parameter":
        edit(Path.cwd(), lambda content: content["models"]["plain"].update(learning_rate=0.5))
    elif changed:
        before = Path(changed).read_bytes()
        Path(changed).write_bytes(before + b"\n")
    try:
        machine = "another" if what in ("machine", "renamed") else "one"
        if what == "renamed":
            name = opened(machine).path
            path = path.rename(name)
        capfd.readouterr()
        assert opened(machine).get("a training") is None
        told = capfd.readouterr().err
    finally:
        run(Path.cwd(), "git", "restore", ".")
        if changed:
            Path(changed).write_bytes(before)
    reasons = {
        "parameter": "models.plain.learning_rate of params.yaml: 0.001, and it is 0.5 now",
        "code": "another stages/training/fit.py",
        "data": "another data/prepared/train.npz",
        "machine": "processor: one, and it is another now",
        "renamed": "processor: one, and it is another now",
    }
    assert f"the checkpoint {path} is not used: it was made with {reasons[what]}" in told
    if what in ("parameter", "code", "data"):
        assert opened().get("a training") is not None  # where everything is as it was


def test_an_experiment_in_a_folder_of_its_own_finds_it_too(place, monkeypatch, tmp_path):
    opened().put("a training", PART)
    inside = Path.cwd() / ".dvc/tmp/exps/standalone/tmp1"
    shutil.copytree(
        Path.cwd(), inside, ignore=lambda folder, _: [".dvc", ".git", "cache"] if Path(folder) == Path.cwd() else []
    )
    monkeypatch.chdir(inside)
    assert opened().get("a training") is not None
    shutil.rmtree(inside)


def test_the_seconds_of_teachers_are_those_of_all_runs(drawn_images, tmp_path):
    path, changes = tmp_path / "one.checkpoint", {"epochs": 1, "teachers": [2], "distillation_weight": 0.5}
    with pytest.raises(Killed):
        train(plain, drawn_images, Interrupted(path, 3), **changes)  # when the teacher has ended, and been asked
    known = checkpoint.read(path)[1]["teacher 1 of 1"]
    seconds = train(plain, drawn_images, Interrupted(path, 9), **changes).seconds
    assert float(known["seconds"]) - 0.001 <= seconds["seconds"][0] < float(known["seconds"]) + 2


def test_the_seconds_of_epochs_that_ended_are_added():
    records = {"clock": [[1.5, 2.5], [1.0, 2.0], [1e9, 2e9]]}
    assert resume.seconds_of({"records": np.array(json.dumps(records))}) == 4
    assert resume.seconds_of(None) == 0


def test_a_full_disk_ends_no_training(place, monkeypatch, capfd):
    found = opened()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "write", full)
    found.put("a training", PART)
    assert "warning: the checkpoint cannot be saved" in capfd.readouterr().err


def test_saves_are_rare_and_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    now, saved = [0.0], []

    def slow(*_):
        saved.append(now[0])
        now[0] += 3

    monkeypatch.setattr(checkpoint, "write", slow)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    found = Checkpoint(tmp_path / "one.checkpoint", {}, 60)
    while now[0] < 2000:
        found.put("a training", PART)
        now[0] += 7  # seconds that an epoch takes
    assert saved[0] >= 60
    assert 3 * len(saved) < checkpoint.SHARE * 2000 + 3
    assert min(np.diff(saved)) >= 60


def test_without_a_pause_every_state_is_saved(tmp_path):
    found = Checkpoint(tmp_path / "one.checkpoint", {"rate": "1"}, 0)
    for epoch in (1, 2):
        found.put("a training", {"epoch": np.array(epoch)})
        made_with, parts = checkpoint.read(found.path)
        assert made_with == {"rate": "1"}
        assert parts == {"a training": {"epoch": epoch}}


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """The folder of the checkpoints of a project with one stage, `mine`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(checkpoint.EVERY, "0")
    Path("dvc.yaml").write_text("stages:\n  mine:\n    cmd: true\n    params: [rate]\n")
    Path("params.yaml").write_text("rate: 1\n")
    Path("dvc.lock").touch()
    return tmp_path / checkpoint.FOLDER


def test_a_stage_that_has_ended_keeps_its_checkpoint_until_its_result_is_recorded(mine):
    first = checkpoint.open_checkpoint("mine", {})
    Path("result").write_bytes(b"result")
    first.keep_for(Path("result"))  # nothing was saved, so nothing is kept
    first.put("a training", PART)
    first.keep_for(Path("result"))
    md5 = hashlib.md5(b"result").hexdigest()
    (kept,) = mine.iterdir()
    assert kept.name == first.path.name.replace(".checkpoint", f".{md5}.checkpoint")
    others = {mine / "mine.0123.checkpoint", mine / "other.0123.result.checkpoint"}
    for other in others:
        other.touch()
    checkpoint.remove_recorded()
    assert checkpoint.open_checkpoint("mine", {}).get("a training") is not None
    Path("dvc.lock").write_text(f"md5: {md5}\nmd5: result\n")
    checkpoint.remove_recorded()
    assert set(mine.iterdir()) == others


def test_the_checkpoint_of_an_experiment_goes_when_dvc_has_kept_its_result(mine):
    Path("result").write_bytes(b"result")
    first = checkpoint.open_checkpoint("mine", {})
    first.put("a training", PART)
    first.keep_for(Path("result"))
    checkpoint.remove_recorded()
    assert list(mine.iterdir())
    entry = Path(".dvc/cache/runs/0a/0a1b/2c3d")  # DVC's cache of runs: experiments leave `dvc.lock` as it is
    entry.parent.mkdir(parents=True)
    entry.write_text(f"outs:\n- path: result\n  md5: {hashlib.md5(b'result').hexdigest()}\n")
    checkpoint.remove_recorded()
    assert not list(mine.iterdir())


def test_a_checkpoint_belongs_to_the_values_with_which_the_stage_began(mine):
    entry = stage.read_stage("mine")
    Path(".dvc").mkdir(exist_ok=True)

    def run_it() -> None:
        with stage.checked(entry):
            Path("params.yaml").write_text("rate: 2\n")  # after the stage read it
            checkpoint.open_checkpoint("mine", {}).put("a training", PART)

    with pytest.raises(InputError, match=r"rate of params\.yaml changed"):
        run_it()
    with stage.checked(entry):  # typed again
        assert checkpoint.open_checkpoint("mine", {}).get("a training") is None
    Path("params.yaml").write_text("rate: 1\n")
    with stage.checked(entry):
        assert checkpoint.open_checkpoint("mine", {}).get("a training") is not None
    Path("params.yaml").write_text("rate: 3\n")
    assert stage.read_at_start(entry) == {"rate of params.yaml": "3"}  # no stage runs any more


def test_a_checkpoint_knows_what_results_depend_on_besides_the_stage(monkeypatch):
    monkeypatch.setattr(resume, "open_checkpoint", lambda name, conditions: conditions)
    conditions = resume.checkpoint_of(STAGE)
    needed = {
        "backend",
        "devices",
        "processor",
        "threads",
        "gpu_capabilities",
        "python",
        "tensorflow",
        "keras",
        "numpy",
    }
    assert needed <= conditions.keys()
    assert all(isinstance(value, str) for value in conditions.values())
    assert "jax" not in conditions
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(resume, "version", lambda name: f"{name} 1")
    assert resume.checkpoint_of(STAGE).items() >= {"backend": "jax", "jax": "jax 1", "jaxlib": "jaxlib 1"}.items()


def test_a_forced_stage_removes_its_own_checkpoint_and_no_other(mine, monkeypatch, capfd):
    for conditions in ({}, {"processor": "another"}):
        checkpoint.open_checkpoint("mine", conditions).put("a training", PART)
    capfd.readouterr()
    monkeypatch.setattr(checkpoint.orphans, "is_forced", lambda: True)
    forced = checkpoint.open_checkpoint("mine", {})
    assert forced.get("a training") is None
    assert not forced.path.exists()
    assert len(list(mine.iterdir())) == 1
    assert str(forced.path) not in capfd.readouterr().err


def test_what_a_killed_process_left_of_a_checkpoint_is_removed(mine):
    mine.mkdir(parents=True)
    own = checkpoint.open_checkpoint("mine", {}).path.stem
    left, old = mine / f".{own}.part7.checkpoint", mine / ".mine.0123.part7.checkpoint"
    written, other = mine / ".mine.4567.part7.checkpoint", mine / ".other.0123.part7.checkpoint"
    for path in (left, old, written, other):  # `written` may be of another experiment that runs
        path.touch()
    for path, seconds in ((old, 605), (written, 595)):  # ten minutes are the longest that writing takes
        os.utime(path, (time.time() - seconds,) * 2)
    assert checkpoint.open_checkpoint("mine", {}).parts == {}
    assert set(mine.iterdir()) == {written, other}


def test_a_stage_that_is_not_defined_has_no_checkpoint(mine):
    assert checkpoint.open_checkpoint("other", {}) is None


# --- The stage ---

RUN, STAGE = "plain-0", "train@plain-0"
MODEL = Path(f"data/models/{RUN}.keras")


def long_training(folder: Path, rate: float) -> None:
    """Let the model train for longer, with a learning rate of its own: DVC's run cache is shared by all tests."""
    changes = {"epochs": 30, "learning_rate": rate}
    edit(folder, lambda content: content["models"]["plain"].update(changes))


def kill_after(folder: Path, epochs: int, *command: str) -> None:
    """Start a command of DVC, and kill it with all that it started when a checkpoint is there after some epochs."""
    process = start(folder, *command)
    wait_until(lambda: f"Epoch {epochs + 1}/30" in (folder / "log").read_text(), 180)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_stage_goes_on_after_a_kill_whenever_it_comes(workspace, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, checkpoint.EVERY, "0")
    long_training(workspace, 0.0011)
    repro = ("repro", "--single-item", STAGE)
    kill_after(workspace, 4, *repro)
    kill_after(workspace, 9, *repro)
    assert "plain-0 goes on after epoch " in (workspace / "log").read_text()
    output = run(workspace, "dvc", *repro)
    assert int(re.search(r"plain-0 goes on after epoch (\d+) of 30", output)[1]) >= 9
    model, lock = (workspace / MODEL).read_bytes(), (workspace / "dvc.lock").read_text()
    history = (workspace / f"reports/history/{RUN}.csv").read_bytes()
    # Now as if DVC had been killed before it recorded the results.
    run(workspace, "git", "checkout", "HEAD", "--", "dvc.lock")
    md5 = hashlib.md5(model).hexdigest()
    for entry in cache_folder(workspace).glob("runs/*/*/*"):
        if md5 in entry.read_text():
            entry.unlink()
    output = run(workspace, "dvc", "repro", "--no-run-cache", "--single-item", STAGE)
    assert "plain-0 has ended already" in output
    assert (workspace / MODEL).read_bytes() == model
    # A stage that starts later removes the checkpoint, and --force pays no heed to one.
    assert list((workspace / checkpoint.FOLDER).iterdir())
    run(workspace, "dvc", "repro", "--single-item", "--force", "select")
    assert not list((workspace / checkpoint.FOLDER).iterdir())
    kill_after(workspace, 4, "repro", "--force", "--single-item", STAGE)
    output = run(workspace, "dvc", "repro", "-fs", STAGE)
    assert "goes on" not in output
    assert "Epoch 1/30" in output
    assert (workspace / MODEL).read_bytes() == model
    assert (workspace / f"reports/history/{RUN}.csv").read_bytes() == history
    hashes = re.compile(rf"{RUN}\.(?:keras|npz|txt|json)\n +hash: md5\n +md5: \w+")
    assert hashes.findall((workspace / "dvc.lock").read_text()) == hashes.findall(lock)
    assert not list(workspace.rglob("*.part*"))


def trained(lock: str) -> str:
    """The MD5 of the model, by the text of a `dvc.lock`."""
    return re.search(rf"path: {MODEL}\n +hash: md5\n +md5: (\w+)", lock)[1]


def is_as_undisturbed(folder: Path, experiment: str) -> bool:
    """Whether an experiment has the model that `dvc repro` trains with its parameters."""
    run(folder, "dvc", "exp", "apply", experiment)
    resumed = trained((folder / "dvc.lock").read_text())
    run(folder, "dvc", "repro", "--force", "--single-item", STAGE)
    return trained((folder / "dvc.lock").read_text()) == resumed


@pytest.mark.fault(
    "Stages run in parallel, and all of it is killed in the middle of a training.",
    "The next `make run` or `dvc repro` goes on from the checkpoint; the same bytes.",
)
def test_a_training_in_a_copy_of_a_worker_goes_on_too(workspace, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, checkpoint.EVERY, "0")
    long_training(workspace, 0.0016)
    run_in_parallel = [sys.executable, "-m", "stages.parallel", "--jobs", "1", STAGE]
    with subprocess.Popen(run_in_parallel, cwd=workspace, env=ENVIRONMENT) as process:
        copies = workspace / ".dvc/tmp/parallel"
        wait_until(lambda: any("Epoch 5/30" in log.read_text() for log in copies.rglob(".dvc/tmp/log")), 180)
        process.kill()
    wait_until(lambda: not processes_in(workspace))
    output = run(workspace, "dvc", "repro", "--single-item", STAGE)
    assert int(re.search(r"plain-0 goes on after epoch (\d+) of 30", output)[1]) >= 3
    resumed = trained((workspace / "dvc.lock").read_text())
    run(workspace, "dvc", "repro", "--force", "--single-item", STAGE)
    assert trained((workspace / "dvc.lock").read_text()) == resumed


@pytest.mark.parametrize(("option", "rate"), [("--temp", 0.0012), ("--set-param=models.plain.warmup=0.1", 0.0014)])
def test_an_experiment_goes_on_too(workspace, monkeypatch, option, rate):
    monkeypatch.setitem(ENVIRONMENT, checkpoint.EVERY, "0")
    long_training(workspace, rate)
    command = ("exp", "run", "--name", "mine", option, STAGE)
    kill_after(workspace, 4, *command)
    output = run(workspace, "dvc", *command)
    assert "plain-0 goes on after epoch " in output
    assert is_as_undisturbed(workspace, "mine")


@pytest.mark.fault(
    "The machine goes down while DVC's queue works: DVC calls the experiment running, and `--run-all` waits for ever.",
    "After `dvc queue kill NAME`, it goes on where it was when it is queued again.",
)
def test_an_experiment_of_the_queue_goes_on_too(workspace, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, checkpoint.EVERY, "0")
    long_training(workspace, 0.0013)
    run(workspace, "dvc", "exp", "run", "--queue", "--name", "first", STAGE)
    kill_after(workspace, 4, "exp", "run", "--run-all")
    for process in processes_in(workspace):  # DVC runs the queue in the background
        process.kill()
    wait_until(lambda: not processes_in(workspace))
    assert "Running" in run(workspace, "dvc", "queue", "status")
    run(workspace, "dvc", "queue", "kill", "first")
    run(workspace, "dvc", "exp", "run", "--queue", "--name", "second", STAGE)
    run(workspace, "dvc", "exp", "run", "--run-all")
    assert "plain-0 goes on after epoch " in run(workspace, "dvc", "queue", "logs", "second")
    assert is_as_undisturbed(workspace, "second")


def test_make_clean_counts_what_is_left(place):
    opened().put("a training", PART)
    Path("tests").mkdir(exist_ok=True)
    assert "1 checkpoint" in run(Path.cwd(), "make", "--file", str(ROOT / "Makefile"), "clean")
