"""Run by test_devices.py in a process of its own, since devices are set before a backend starts: trains a model on one and
on two virtual devices, and prints what came of it as JSON. The variable BACKEND_OF_TESTS names the backend."""

import json
import os
import sys

import numpy as np

import stages  # noqa: F401  takes such variables out of the environment

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"  # for JAX
if os.environ["BACKEND_OF_TESTS"] == "tensorflow":
    import tensorflow as tf

    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)

from stages.data import drawn
from stages.training import fit
from tests.conftest import block_of  # starts Keras: the devices are set
from tests.models import plain, small

images, labels = drawn.draw(600, seed=3)
split = images[100:, ..., None], labels[100:], images[:100, ..., None], labels[:100]


def trained(name: str, devices: int, **changes: object):
    block = block_of(name, **{"epochs": 1, "batch_size": 50} | changes)
    return fit.train({"plain": plain, "small": small}[name], block, 0, *split, devices=devices)


model, changes = sys.argv[1], json.loads(sys.argv[2])
one, two = (trained(model, devices, **changes) for devices in (1, 2))
apart = [float(np.abs(a - b).max()) for a, b in zip(one.model.get_weights(), two.model.get_weights(), strict=True)]
moved = [0.0]
if sys.argv[3:] == ["moved"]:  # how far training took the weights from the first ones
    fresh = trained(model, 1, **changes | {"learning_rate": 1e-12}).model.get_weights()
    moved = [float(np.abs(a - b).max()) for a, b in zip(one.model.get_weights(), fresh, strict=True)]
finite = all(np.isfinite(weight).all() for weight in two.model.get_weights())
accuracy = [run.history["val_accuracy"].iloc[-1] for run in (one, two)]
print(json.dumps({"apart": max(apart), "moved": max(moved), "finite": finite, "accuracy": accuracy}))
