"""The classic: convolutions, max pooling, dropout, a dense layer, softmax; Adam and early stopping. The network of every
first notebook, trained with care."""

from typing import Annotated

import numpy as np
from pydantic import Field

from stages.parameters import Fraction, ModelParameters, Width


class Parameters(ModelParameters):
    filters: Annotated[list[Width], Field(min_length=1, max_length=4, description="a list of 1 to 4 filter counts")]
    dense: Width
    dropout: Fraction


def build(parameters: Parameters, images: np.ndarray):
    """Pixels 0-255 (B, 28, 28, 1) to logits (B, 10). The softmax is in the loss, where it is exact in float32."""
    import keras
    from keras import layers

    inputs = keras.Input((28, 28, 1), name="pixels")
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in parameters.filters:  # (B, 28, 28, 1) -> (B, 14, 14, 32) -> (B, 7, 7, 64)
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.MaxPooling2D()(x)  # before the ReLU: the same numbers, a quarter of the work
        x = layers.ReLU()(x)
    x = layers.SpatialDropout2D(parameters.dropout)(x)  # whole maps: as good as single values, and fewer to draw
    x = layers.Flatten()(x)  # (B, 3136)
    x = layers.Dense(parameters.dense, activation="relu")(x)  # (B, 128)
    x = layers.Dropout(parameters.dropout)(x)
    logits = layers.Dense(10, dtype="float32", name="logits")(x)  # (B, 10)
    return keras.Model(inputs, logits, name="cnn")
