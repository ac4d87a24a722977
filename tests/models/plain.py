"""Softmax regression, for the tests: the quickest model, which needs the 28x28 pixels that it was built for."""

import keras
import numpy as np

from stages.layers import whitening
from stages.models.block import Block


class Parameters(Block):
    """No key of its own."""


def build(parameters: Parameters, images: np.ndarray, classes: int):
    """Pixels 0-255 (B, H, W, C) to logits (B, classes)."""
    mean, std = whitening.pixel_statistics(images)
    inputs = keras.Input(images.shape[1:], name="pixels")
    x = keras.layers.Rescaling(1 / std, -mean / std)(inputs)
    x = keras.layers.Flatten()(x)  # (B, H x W x C)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)  # (B, classes)
    return keras.Model(inputs, logits, name="plain")
