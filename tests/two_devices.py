"""Run by test_devices.py in a process of its own, since devices are set before a backend starts: trains a model on one and
on two virtual devices, and prints what came of it as JSON.

Arguments: the backend; `moved` or `interrupted`, what to do besides; the model; its block as JSON."""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from stages.base import environment
from stages.data.idx import read_images, read_labels
from stages.data.publisher import PUBLISHED, RAW
from stages.trained.backend import start_keras

backend, task, name, parameters = *sys.argv[1:4], json.loads(sys.argv[4])
environment.ignore_user_settings()
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"  # for JAX
if backend == "tensorflow":
    import tensorflow as tf

    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
start_keras(2, backend)

import keras  # noqa: E402

from stages.trained import saving  # noqa: E402
from stages.training import fit  # noqa: E402
from tests.models import plain, small  # noqa: E402

images, labels = (read(RAW / file)[:600] for read, file in zip((read_images, read_labels), PUBLISHED, strict=False))
split = images[100:, ..., None], labels[100:], images[:100, ..., None], labels[:100]
architecture = {"plain": plain, "small": small}[name]


class Killed(Exception):
    """Raised where a process is killed."""


class Interrupted:
    """A checkpoint in memory that interrupts its training whenever it is given something new."""

    def __init__(self, kept: dict):
        self.restore, self.kept = kept.get, kept

    def keep(self, name, state, ended=False):
        self.kept[name] = state()
        raise Killed


def trained(devices: int, checkpoint: Interrupted | None = None, **changes: object) -> fit.Trained:
    keras.utils.clear_session()  # as in a process of its own
    block = architecture.Parameters(**parameters | changes)
    return fit.train(architecture, block, 0, *split, devices=devices, checkpoint=checkpoint)


def bytes_of(run: fit.Trained) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        saving.save_model(run.model, Path(folder) / "model.keras", {})
        return (Path(folder) / "model.keras").read_bytes()


def interruptions(devices: int, expected: bytes) -> int:
    """How often a training was interrupted; 0 if its file became another one."""
    kept, count = {}, 0
    while True:
        try:
            return count if bytes_of(trained(devices, Interrupted(kept))) == expected else 0
        except Killed:
            count += 1


def largest(one: fit.Trained, other: fit.Trained) -> float:
    """The largest difference of their weights."""
    pairs = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


one, two = (trained(devices) for devices in (1, 2))
found = {"apart": largest(one, two), "accuracy": [run.history["val_accuracy"].iloc[-1] for run in (one, two)]}
if task == "moved":  # how far training took the weights from the first ones
    found["moved"] = largest(one, trained(1, epochs=1, learning_rate=1e-12))
else:  # on one device, other tests do it with TensorFlow
    undisturbed = {1: one, 2: two} if backend == "jax" else {2: two}
    found["interrupted"] = [interruptions(devices, bytes_of(run)) for devices, run in undisturbed.items()]
print(json.dumps(found))
