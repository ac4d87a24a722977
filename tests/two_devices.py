"""Run by test_devices.py in a process of its own, since devices are set before a backend starts: trains a model on one and
on two virtual devices, on these also with interruptions, and prints what came of it as JSON. The variable BACKEND_OF_TESTS
names the backend."""

import itertools
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import stages  # noqa: F401  takes such variables out of the environment

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"  # for JAX
if os.environ["BACKEND_OF_TESTS"] == "tensorflow":
    import tensorflow as tf

    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)

from tests.conftest import block_of  # starts Keras: the devices are set  # isort: skip

import keras

from stages import models
from stages.common.checkpoint import Checkpoint
from stages.data import drawn
from stages.trained import saving
from stages.training import fit
from tests.interrupted import Interrupted, Killed
from tests.models import plain, small

images, labels = drawn.draw(600, seed=3)
split = images[100:, ..., None], labels[100:], images[:100, ..., None], labels[:100]


def trained(name: str, devices: int, kept: Checkpoint | None = None, **changes: object):
    keras.utils.clear_session()  # as in a process of its own
    changes = {"epochs": 1, "batch_size": 50} | changes
    if name in {"plain", "small"}:
        architecture, block = {"plain": plain, "small": small}[name], block_of(name, **changes)
    else:  # a model of the project
        architecture, block = models.load(name), models.read_block(name)
        block = type(block).model_validate(block.model_dump() | changes)
    return fit.train(architecture, block, 0, *split, devices=devices, checkpoint=kept)


def file_of(run: fit.Trained) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        saving.save_model(run.model, Path(folder) / "model.keras", {})
        return (Path(folder) / "model.keras").read_bytes()


def interruptions_that_change_nothing(devices: int, expected: bytes) -> int:
    """How often a training was interrupted; 0 if its file became another one."""
    with tempfile.TemporaryDirectory() as folder:
        for count in itertools.count():
            try:
                kept = Interrupted(Path(folder) / "one.checkpoint", 1)
                return count if file_of(trained(model, devices, kept, **changes)) == expected else 0
            except Killed:
                pass


model, changes = sys.argv[1], json.loads(sys.argv[2])
one, two = (trained(model, devices, **changes) for devices in (1, 2))
apart = [float(np.abs(a - b).max()) for a, b in zip(one.model.get_weights(), two.model.get_weights(), strict=True)]
moved = [0.0]
if sys.argv[3:] == ["moved"]:  # how far training took the weights from the first ones
    fresh = trained(model, 1, **changes | {"learning_rate": 1e-12}).model.get_weights()
    moved = [float(np.abs(a - b).max()) for a, b in zip(one.model.get_weights(), fresh, strict=True)]
finite = all(np.isfinite(weight).all() for weight in two.model.get_weights())
accuracy = [run.history["val_accuracy"].iloc[-1] for run in (one, two)]
interrupted = []
if sys.argv[3:] == ["interrupted"]:  # on one device, other tests do it with TensorFlow
    undisturbed = {1: one, 2: two} if keras.backend.backend() == "jax" else {2: two}
    interrupted = [interruptions_that_change_nothing(devices, file_of(run)) for devices, run in undisturbed.items()]
print(
    json.dumps(
        {"interrupted": interrupted, "apart": max(apart), "moved": max(moved), "finite": finite, "accuracy": accuracy}
    )
)
