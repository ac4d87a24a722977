"""A tiny convolutional network, for the tests: images of any size, and every layer that the project's models share."""

from typing import Annotated

import keras
import numpy as np
from pydantic import Field

from stages.layers import fast, initializers, whitening
from stages.models.block import Block
from stages.parameters.schema import Fraction, Width


class Parameters(Block):
    widths: Annotated[list[Width], Field(min_length=1, max_length=4, description="a list of 1 to 4 filter counts")]
    dropout: Fraction


def build(parameters: Parameters, images: np.ndarray, classes: int):
    """Pixels 0-255 (B, H, W, C) to logits (B, classes)."""
    inputs = keras.Input(images.shape[1:], name="pixels")
    x = whitening.whitening_stem(inputs, images)  # (B, 27, 27, 8)
    for width in parameters.widths:  # (B, 13, 13, 16), (B, 6, 6, 32)
        x = fast.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer=initializers.Dirac())(x)
        x = keras.layers.MaxPooling2D()(x)
        x = fast.BatchNormalization(momentum=0.6, scale=False)(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.SpatialDropout2D(parameters.dropout)(x)
    x = keras.layers.GlobalMaxPooling2D()(x)  # (B, 32)
    x = keras.layers.Dense(classes, use_bias=False, dtype="float32")(x)
    logits = keras.layers.Rescaling(1 / 8, dtype="float32", name="logits")(x)  # (B, classes)
    return keras.Model(inputs, logits, name="small")
