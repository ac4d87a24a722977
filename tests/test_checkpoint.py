"""The file of a checkpoint: what it holds comes back, and is used only for the very stage that it belongs to."""

import hashlib
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from stages.base.environment import machine
from stages.runner import checkpoint
from stages.runner.checkpoint import Checkpoint
from tests.conftest import run, start, wait_until

PART = {"epoch": np.array(3), "weights": np.arange(5, dtype=np.float32)}
MACHINE = machine()
READS = {"rate of params.yaml": "1", "stages/training/fit.py": "0a", "data/prepared/train.npz": "0b"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of the checkpoints of a project in the working directory, which are saved at every chance."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(checkpoint.CHECKPOINT_VARIABLE, "0")
    Path("result").write_bytes(b"result")
    return tmp_path / checkpoint.FOLDER


def opened(**changes: str) -> Checkpoint:
    return checkpoint.open_checkpoint("train@plain-0", READS | changes)


def kept(**changes: str) -> Checkpoint:
    found = opened(**changes)
    found.keep("a training", lambda: PART)
    return found


def restored(**changes: str) -> bool:
    """Whether the training goes on from a checkpoint; then with the arrays that were kept."""
    found = opened(**changes).restore("a training")
    if found:
        assert {name: array.tolist() for name, array in found.items()} == {"epoch": 3, "weights": [0, 1, 2, 3, 4]}
    return bool(found)


@pytest.mark.parametrize("damage", ["flipped", "cut", "pickle"])
def test_a_damaged_checkpoint_is_named_and_not_used(damage, folder, capfd):
    path = kept().path
    assert restored()
    content, pickled = path.read_bytes(), pickle.dumps(PART)
    damaged = {
        "flipped": content[:-1] + b"?",
        "cut": content[:400],
        "pickle": hashlib.sha256(pickled).digest() + pickled,
    }
    path.write_bytes(damaged[damage])
    assert not restored()
    assert f"the checkpoint {path} is not used: " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rate of params.yaml": "2"}, "rate of params.yaml: 1, and it is 2 now"),
        ({"stages/training/fit.py": "ff"}, "another stages/training/fit.py"),
        ({"data/prepared/train.npz": "ff"}, "another data/prepared/train.npz"),
        ({"processor": "another"}, f"processor: {MACHINE['processor']}, and it is another now"),
    ],
)
def test_a_checkpoint_of_something_else_is_named_and_not_used(change, reason, folder, monkeypatch, capfd):
    path = kept().path
    here = MACHINE | {"threads": 99} | {key: value for key, value in change.items() if key in MACHINE}
    assert restored()
    monkeypatch.setattr(checkpoint, "machine", lambda: here)  # of the threads, the parameters tell
    assert not restored(**change)
    assert f"the checkpoint {path} is not used: it was made with {reason}. `rm '{path}'`" in capfd.readouterr().err
    path.rename(opened(**change).path)  # under the right name, too
    assert not restored(**change)


def test_a_full_disk_ends_no_training(folder, capfd):
    found = opened()
    folder.parent.mkdir(parents=True)
    folder.touch()  # in the place of a folder; a disk that is full fails alike
    found.keep("a training", lambda: PART)
    found.keep("a training", lambda: PART)
    assert capfd.readouterr().err.count("warning: the checkpoint cannot be saved: ") == 1


def test_saves_are_rare_and_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    now, saved = [0.0], []

    def slow(*_):
        saved.append(now[0])
        now[0] += 3

    monkeypatch.setattr(checkpoint, "write", slow)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    found = Checkpoint(tmp_path / "one.checkpoint", {}, 60)
    while now[0] < 2000:
        found.keep("a training", lambda: PART)
        now[0] += 7  # seconds that an epoch takes
    assert min(np.diff([0, *saved])) >= 60
    assert 3 * len(saved) < checkpoint.MAX_SHARE * 2000 + 3


@pytest.mark.parametrize("record", ["dvc.lock", ".dvc/cache/runs/0a/0a1b/2c3d"])  # of an experiment, only the latter
def test_it_is_kept_until_dvc_has_recorded_the_result(record, folder):
    opened().keep_for(Path("result"))  # nothing was saved, so nothing is kept
    assert not folder.exists()
    for rate in ("2", "1"):  # of experiments that have ended, the last one is left
        kept(**{"rate of params.yaml": rate}).keep_for(Path("result"))
    other = folder / "other.0123.result.checkpoint"
    other.touch()
    checkpoint.remove_recorded()
    assert len(list(folder.iterdir())) == 2
    assert restored()
    Path(record).parent.mkdir(parents=True, exist_ok=True)
    Path(record).write_text(f"md5: {hashlib.md5(b'result').hexdigest()}\nmd5: result\n")
    checkpoint.remove_recorded()
    assert list(folder.iterdir()) == [other]


def test_what_a_killed_process_left_is_removed(folder):
    own = kept().path
    left, old = folder / f".{own.stem}.part7.checkpoint", folder / ".train@plain-0.0123.part7.checkpoint"
    written, other = folder / ".train@plain-0.4567.part7.checkpoint", folder / ".other.0123.part7.checkpoint"
    for path in (left, old, written, other):  # `written` may be of another experiment that runs
        path.touch()
    os.utime(old, (time.time() - 605,) * 2)  # ten minutes are the longest that writing takes
    assert restored()
    assert set(folder.iterdir()) == {own, written, other}


def test_a_stage_goes_on_in_dvc_whenever_it_is_killed(project, monkeypatch):
    """Between epochs, and when its result is there but DVC has not recorded it; afterwards, nothing is left."""
    for place, begins in (("1", 0), ("end", 1)):
        (project / f"wait-{place}").touch()
        process = start(project, "dvc", "repro", **{checkpoint.CHECKPOINT_VARIABLE: "0"})
        wait_until((project / f"at-{place}").exists)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert f"counts from {begins}" in (project / "log").read_text()
        (project / f"wait-{place}").unlink()
    assert "counts from 3" in run(project, "dvc", "repro")
    assert (project / "data/result").read_text() == "right input\n"
    monkeypatch.chdir(project)
    assert list(checkpoint.FOLDER.iterdir())
    checkpoint.remove_recorded()
    assert not list(checkpoint.FOLDER.iterdir())
