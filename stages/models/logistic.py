"""Softmax regression: one weight a pixel and class. The baseline that every network has to beat."""

import numpy as np

from stages.parameters import ModelParameters


class Parameters(ModelParameters):
    """Nothing beyond the training keys."""


def build(parameters: Parameters, images: np.ndarray):
    """Pixels 0-255 (B, 28, 28, 1) to logits (B, 10): 7,850 weights."""
    import keras
    from keras import layers

    from stages.training.layers import mean_and_deviation

    mean, deviation = mean_and_deviation(images)
    inputs = keras.Input((28, 28, 1), name="pixels")
    x = layers.Rescaling(1 / deviation, -mean / deviation)(inputs)
    x = layers.Flatten()(x)  # (B, 784)
    logits = layers.Dense(10, dtype="float32", name="logits")(x)  # (B, 10)
    return keras.Model(inputs, logits, name="logistic")
