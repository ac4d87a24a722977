"""A separable convolution, for the tests."""

import keras
from keras import layers

from stages.common.parameters import Width
from stages.models.block import Block


class Parameters(Block):
    filters: Width


def build(parameters, images):
    inputs = keras.Input((28, 28, 1))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.SeparableConv2D(parameters.filters, 3, strides=2, activation="relu")(x)  # (B, 13, 13, filters)
    return keras.Model(inputs, layers.Dense(10, dtype="float32")(layers.Flatten()(x)))
