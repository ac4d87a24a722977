"""Run by test_devices.py in a process of its own, since devices are set before a backend starts: trains a model on one and
on two virtual devices, and prints what came of it as JSON."""

import json
import os
import sys

import numpy as np

from stages.environment import use_backend

use_backend(sys.argv[3])
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"  # for JAX
if sys.argv[3] == "tensorflow":
    import tensorflow as tf

    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)

from stages import drawn, models  # noqa: E402  only now: the devices are set
from stages.parameters import read_parameters  # noqa: E402
from stages.training.fit import train  # noqa: E402

images, labels = drawn.draw(600, seed=3)
split = images[100:, ..., None], labels[100:], images[:100, ..., None], labels[:100]


def fit(name: str, devices: int, **changes: object):
    parameters = read_parameters(f"models.{name}").model_copy(update={"epochs": 1, "batch_size": 50} | changes)
    return train(models.load(name), parameters, 0, *split, devices=devices)


model, changes = sys.argv[1], json.loads(sys.argv[2])
one, two = (fit(model, devices, **changes) for devices in (1, 2))
apart = [float(np.abs(a - b).max()) for a, b in zip(one.model.get_weights(), two.model.get_weights(), strict=True)]
moved = [0.0]
if sys.argv[4:] == ["moved"]:  # how far training took the weights from the first ones
    fresh = fit(model, 1, **changes | {"learning_rate": 1e-12}).model.get_weights()
    moved = [float(np.abs(a - b).max()) for a, b in zip(one.model.get_weights(), fresh, strict=True)]
finite = all(np.isfinite(weight).all() for weight in two.model.get_weights())
accuracy = [run.history["val_accuracy"].iloc[-1] for run in (one, two)]
print(json.dumps({"apart": max(apart), "moved": max(moved), "finite": finite, "accuracy": accuracy}))
