"""A model within a model, called twice, for the tests."""

import keras
from keras import layers

from stages.models.block import Block


class Parameters(Block):
    """No key of its own."""


def build(parameters, images):
    inputs = keras.Input((28, 28, 1))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 1)(layers.MaxPooling2D()(x))  # (B, 14, 14, 4)
    inner = keras.Sequential([keras.Input((14, 14, 4)), layers.Conv2D(4, 3, padding="same", activation="relu")])
    x = inner(inner(x))
    return keras.Model(inputs, layers.Dense(10, dtype="float32")(layers.GlobalAveragePooling2D()(x)))
