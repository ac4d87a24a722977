"""A separable convolution, for the tests."""

import keras

from stages.models.block import Block
from stages.parameters.schema import Width


class Parameters(Block):
    filters: Width


def build(parameters, images, classes):
    inputs = keras.Input(images.shape[1:])
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.SeparableConv2D(parameters.filters, 3, strides=2, activation="relu")(x)  # (B, 13, 13, filters)
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(keras.layers.Flatten()(x)))
