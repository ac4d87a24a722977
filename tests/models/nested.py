"""A model within a model, called twice, for the tests."""

import keras

from stages.models.block import Block


class Parameters(Block):
    """No key of its own."""


def build(parameters, images, classes):
    inputs = keras.Input(images.shape[1:])
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(4, 1)(keras.layers.MaxPooling2D()(x))  # (B, 14, 14, 4)
    inner = keras.Sequential([keras.Input((14, 14, 4)), keras.layers.Conv2D(4, 3, padding="same", activation="relu")])
    x = inner(inner(x))
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(keras.layers.GlobalAveragePooling2D()(x)))
