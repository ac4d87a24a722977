"""Softmax regression, for the tests: the quickest model, which needs the 28x28 pixels that it was built for."""

import keras
import numpy as np

from stages.layers import whitening
from stages.models.block import Block


class Parameters(Block):
    """No key of its own."""


def build(parameters: Parameters, images: np.ndarray):
    """Pixels 0-255 (B, 28, 28, 1) to logits (B, 10)."""
    mean, std = whitening.pixel_statistics(images)
    inputs = keras.Input((28, 28, 1), name="pixels")
    x = keras.layers.Rescaling(1 / std, -mean / std)(inputs)
    x = keras.layers.Flatten()(x)  # (B, 784)
    logits = keras.layers.Dense(10, dtype="float32", name="logits")(x)  # (B, 10)
    return keras.Model(inputs, logits, name="plain")
