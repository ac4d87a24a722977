"""Run by test_devices.py in a process of its own, since devices are set before a backend starts: trains a model on one and
on two virtual devices, on these also with interruptions, and prints what came of it as JSON.

Arguments: the model, and its block as JSON."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from stages.base import environment
from stages.data.idx import read_idx
from stages.data.publisher import PUBLISHED, RAW
from stages.trained.backend import start_keras

name, parameters = sys.argv[1], json.loads(sys.argv[2])
environment.ignore_user_settings()
halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
start_keras(2)

import keras  # noqa: E402

from stages.trained import saving  # noqa: E402
from stages.training import fit  # noqa: E402
from tests.models import plain, small  # noqa: E402

images, labels = (read_idx(RAW / file, axes)[:600] for axes, file in zip((3, 1), PUBLISHED, strict=False))
split = images[100:, ..., None], labels[100:], images[:100, ..., None], labels[:100]
architecture = {"plain": plain, "small": small}[name]


class Killed(Exception):
    """Raised where a process is killed."""


class Interrupted:
    """A checkpoint in memory that interrupts its training whenever it is given something new."""

    def __init__(self):
        self.kept, self.count = {}, 0
        self.restore = self.kept.get

    def keep(self, name, state, ended=False):
        self.kept[name] = state()
        self.count += 1
        raise Killed


def trained(devices: int, checkpoint: Interrupted | None = None, **changes: object) -> fit.Trained:
    while True:
        try:
            keras.utils.clear_session()  # as in a process of its own
            block = architecture.Parameters(**parameters | changes)
            return fit.train(architecture, block, 0, *split, devices=devices, checkpoint=checkpoint)
        except Killed:
            pass


def bytes_of(run: fit.Trained) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        saving.save_model(run.model, Path(folder) / "model.keras", {})
        return (Path(folder) / "model.keras").read_bytes()


def largest(one: fit.Trained, other: fit.Trained) -> float:
    """The largest difference of their weights."""
    pairs = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


interrupted = Interrupted()
one, two, again = trained(1), trained(2), trained(2, interrupted)
untrained = trained(1, epochs=1, teachers=[], learning_rate=1e-12)
found = {"apart": largest(one, two), "moved": largest(one, untrained), "same": bytes_of(two) == bytes_of(again)}
found |= {"interruptions": interrupted.count}
print(json.dumps(found | {"accuracy": [run.history["val_accuracy"].iloc[-1] for run in (one, two)]}))
