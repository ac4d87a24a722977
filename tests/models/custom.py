"""A layer of its own, for the tests: it stands below what uses it, and multiplies by weights in a way of its own."""

import keras
from keras import layers, ops

from stages.models.block import Block
from stages.parameters.schema import Width


class Parameters(Block):
    units: Width


def build(parameters, images, classes):
    inputs = keras.Input(images.shape[1:])
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(x)  # (B, 13, 13, 8)
    x = Maxout(parameters.units)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(classes, dtype="float32")(x))


class Maxout(layers.Layer):
    """The larger of two linear functions, for each unit. Source: Goodfellow et al., "Maxout Networks" (2013)."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2 * self.units))
        self.bias = self.add_weight(shape=(2 * self.units,), initializer="zeros")

    def call(self, inputs):
        return ops.max(ops.reshape(ops.matmul(inputs, self.kernel) + self.bias, (-1, self.units, 2)), axis=-1)

    def get_config(self):
        return super().get_config() | {"units": self.units}
