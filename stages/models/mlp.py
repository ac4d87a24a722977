"""Multi-layer perceptron: dense layers, each with batch normalisation, ReLU and dropout. It does not know that pixels
have neighbours; what a CNN gains over it is the worth of that knowledge."""

from typing import Annotated

import numpy as np
from pydantic import Field

from stages.parameters import Fraction, ModelParameters, Width


class Parameters(ModelParameters):
    widths: Annotated[list[Width], Field(min_length=1, description="a list of layer widths, each from 1 to 4096")]
    dropout: Fraction


def build(parameters: Parameters, images: np.ndarray):
    """Pixels 0-255 (B, 28, 28, 1) to logits (B, 10)."""
    import keras
    from keras import layers

    from stages.training.layers import mean_and_deviation

    mean, deviation = mean_and_deviation(images)
    inputs = keras.Input((28, 28, 1), name="pixels")
    x = layers.Rescaling(1 / deviation, -mean / deviation)(inputs)
    x = layers.Flatten()(x)  # (B, 784)
    for width in parameters.widths:
        x = layers.Dense(width, use_bias=False)(x)  # (B, width)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
        x = layers.Dropout(parameters.dropout)(x)
    logits = layers.Dense(10, dtype="float32", name="logits")(x)  # (B, 10)
    return keras.Model(inputs, logits, name="mlp")
