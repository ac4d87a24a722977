"""An interrupted training goes on from its checkpoint, and ends with the same bytes as one that was not interrupted."""

import itertools
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest

from stages import folds
from stages.runner import checkpoint
from stages.trained.saving import save_model
from stages.training import fit, resume
from tests.conftest import block_of, edit, hashes, run, start, wait_until
from tests.models import plain, small

TEACHERS = {"teachers": [2, 1], "distillation_weight": 0.5}
VARIANTS = [  # an architecture, the number of chances after which the training is interrupted, changes of its block
    (plain, 3, {"epochs": 9, "patience": 2, "ema_momentum": 0.5, "learning_rate": 5.0}),
    pytest.param(small, 1, {"epochs": 3, "patience": 1, "cutmix": 0.3} | TEACHERS, marks=pytest.mark.slow),
]


class Killed(Exception):
    """Raised where a process is killed."""


class Interrupted(checkpoint.Checkpoint):
    """A checkpoint that is saved at every chance, goes on from its file, and interrupts after `left` of the chances."""

    left = 0

    def keep(self, name, state, ended=False):
        super().keep(name, state, ended)
        self.left -= 1
        if not self.left:
            raise Killed


def train(architecture: ModuleType, images, kept=None, **changes) -> fit.Trained:
    block = block_of(architecture.__name__.rpartition(".")[2], **{"batch_size": 40} | changes)
    keras.utils.clear_session()  # as in a process of its own
    pixels, labels = images[0][..., None], images[1]
    splits = pixels[200:600], labels[200:600], pixels[:100], labels[:100]
    return fit.train(architecture, block, 0, *splits, checkpoint=kept)


def file_of(model: keras.Model, folder: Path) -> bytes:
    save_model(model, folder / "model.keras", {})
    return (folder / "model.keras").read_bytes()


def interrupt(work: Callable, path: Path, after: int) -> tuple:
    """What work returns that is interrupted after so many chances, goes on, is interrupted again ...; how often."""
    for count in itertools.count():
        kept = Interrupted(path, {}, 0)
        kept.left, kept.parts = after, checkpoint.read(path)[1] if count else {}
        try:
            return work(kept), count
        except Killed:
            assert count < 20


@pytest.mark.parametrize(("architecture", "after", "changes"), VARIANTS, ids=["early stopping", "teachers and all"])
def test_an_interrupted_training_ends_with_the_same_bytes(architecture, after, changes, images, tmp_path):
    expected = train(architecture, images, **changes)
    path = tmp_path / "one.checkpoint"
    trained, count = interrupt(lambda kept: train(architecture, images, kept, **changes), path, after)
    assert count
    assert trained.history.equals(expected.history)
    assert file_of(trained.model, tmp_path) == file_of(expected.model, tmp_path)
    assert len(trained.history) == len(trained.seconds[trained.seconds["epoch"] > 0]) == len(trained.ends)
    parts = checkpoint.read(path)[1]
    if changes.get("teachers"):  # their seconds are those of all attempts
        teaching = sum(float(parts[f"teacher {number} of 2"]["seconds"]) for number in (1, 2))
        assert trained.seconds["seconds"][0] == pytest.approx(teaching, abs=0.01)
    own = trained.seconds["seconds"].iloc[-len(trained.ends) :]
    assert resume.seconds_of(parts["training"]) == pytest.approx(own.sum())


@pytest.mark.slow
def test_interrupted_folds_end_with_the_same_bytes(images, tmp_path):
    block = block_of("small", epochs=2, batch_size=40)
    pixels, labels = images[0][:600, ..., None], images[1][:600]
    fold = folds.fold_of(labels, 2, 0)

    def work(kept=None) -> tuple[bytes, bytes]:
        keras.utils.clear_session()
        probabilities, first = folds.out_of_fold(pixels, labels, fold, small, block, 0, kept)
        return probabilities.tobytes(), file_of(first, tmp_path)

    expected = work()
    found, count = interrupt(work, tmp_path / "one.checkpoint", 1)
    assert found == expected
    assert count == 4  # each fold has an end, and a pause between two epochs


def test_types_that_numpy_cannot_save_keep_their_values():
    numbers = keras.ops.convert_to_numpy(keras.ops.cast([1.5, -3e38, 1 / 3], "bfloat16"))
    (kept,) = resume.numbered("one", [numbers]).values()
    assert kept.dtype == np.float32
    assert kept.astype(numbers.dtype).tobytes() == numbers.tobytes()


def test_a_checkpoint_of_another_library_or_graphics_card_is_not_used(monkeypatch):
    here = resume.conditions()
    monkeypatch.setattr(resume, "gpu_names", lambda: ["another"])
    assert resume.conditions() != here


def test_a_training_goes_on_in_dvc_and_in_an_experiment(workspace):
    """SIGKILL to DVC and all that it started, first in `dvc repro`, then in an experiment in a folder of its own."""
    stage, epochs = "train@plain-0", 60
    changes = {"epochs": epochs, "learning_rate": 0.0011, "ema_momentum": 0.9, "patience": 50}
    edit(workspace, lambda content: content["models"]["plain"].update(changes))
    for last, command in ((4, "repro --single-item"), (9, "exp run --temp --name mine")):
        process = start(workspace, "dvc", *command.split(), stage, **{checkpoint.CHECKPOINT_VARIABLE: "0"})
        wait_until(lambda last=last: f"Epoch {last + 1}/{epochs}" in (workspace / "log").read_text())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert "plain-0 goes on after epoch " in (workspace / "log").read_text()
    printed = run(workspace, "dvc", "repro", "--single-item", stage)
    assert int(re.search(rf"plain-0 goes on after epoch (\d+) of {epochs}", printed)[1]) >= 8
    resumed = hashes(workspace)
    assert "goes on" not in run(workspace, "dvc", "repro", "--force", "--single-item", stage)
    assert hashes(workspace) == resumed
