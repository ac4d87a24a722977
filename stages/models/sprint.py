"""The fast one: a small network made for few epochs on a CPU.

A fixed whitening convolution, then groups of convolution, pooling, batch normalisation, ReLU, convolution, batch
normalisation, ReLU, that begin as the identity; a global maximum and a linear head. After Jordan, "94 % on CIFAR-10 in
3.29 seconds on a single GPU" (2024), and Page, "How to train your ResNet" (2019), narrowed for 28x28 grey pictures.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from stages.parameters import Fraction, ModelParameters, Width


class Parameters(ModelParameters):
    widths: Annotated[list[Width], Field(min_length=1, max_length=4, description="a list of 1 to 4 filter counts")]
    stem_stride: Annotated[int, Field(ge=1, le=2, description="1 or 2")]
    statistics_momentum: Fraction


def build(parameters: Parameters, images: np.ndarray):
    """Pixels 0-255 (B, 28, 28, 1) to logits (B, 10)."""
    import keras
    from keras import layers

    from stages.training.layers import BatchNormalization, Conv2D, Dirac, whitened

    inputs = keras.Input((28, 28, 1), name="pixels")
    x = whitened(inputs, images, parameters.stem_stride)  # (B, 27, 27, 8); (B, 14, 14, 8) with stride 2

    def normalise(x):
        x = BatchNormalization(momentum=parameters.statistics_momentum, scale=False)(x)
        return layers.ReLU()(x)

    for width in parameters.widths:  # (B, 27, 27, 8) -> (B, 13, 13, 32) -> (B, 6, 6, 64) -> (B, 3, 3, 128)
        x = Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer=Dirac())(x)
        x = normalise(layers.MaxPooling2D()(x))
        x = Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer=Dirac())(x)
        x = normalise(x)
    x = layers.GlobalMaxPooling2D()(x)  # (B, 128)
    x = layers.Dense(10, use_bias=False, dtype="float32")(x)
    logits = layers.Rescaling(1 / 8, dtype="float32", name="logits")(x)  # (B, 10)
    return keras.Model(inputs, logits, name="sprint")
