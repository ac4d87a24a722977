"""The cost of a model: its multiply-adds, and a summary of its layers as text."""

import contextlib
import io
import math
import os
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from stages.inference.saving import copied

# Multiplications (each with an addition) of one image in one call of a layer: from the layer, its input and its output.
MULTIPLY_ADDS: dict[tuple[type, ...], Callable] = {
    (layers.Dense,): lambda layer, x, y: math.prod(y.shape[1:-1]) * math.prod(layer.kernel.shape),
    (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose): (
        lambda layer, x, y: math.prod(x.shape[1:-1]) * math.prod(layer.kernel.shape)
    ),
    (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv1D, layers.DepthwiseConv2D): (
        lambda layer, x, y: math.prod(y.shape[1:-1]) * math.prod(layer.kernel.shape)
    ),
    (layers.SeparableConv1D, layers.SeparableConv2D): (
        lambda layer, x, y: (
            math.prod(y.shape[1:-1])
            * (math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape))
        )
    ),
}
# Layers that multiply images with each other, or that call others in ways of their own.
UNKNOWN = (layers.AdditiveAttention, layers.Attention, layers.Dot, layers.Lambda, layers.TimeDistributed)
# Layers whose weights, of any shape, only scale and shift.
ELEMENTWISE = (layers.LayerNormalization, layers.Normalization, layers.PReLU, layers.SpectralNormalization)


def multiply_adds(model: keras.Model) -> int | None:
    """The number of multiply-adds that classify one image, in convolutions and dense layers of any kind.

    Layers inside nested models and custom layers count as often as they are called. Layers that only scale and shift, such
    as normalizations, do not count.

    Returns:
        The number, or None if it is unknown, because a custom layer has weights that it multiplies by, or because of an
        attention, recurrent, `Lambda` or similar layer.
    """
    if any(is_unknown(layer) for layer in model._flatten_layers(include_self=False)):
        return None
    counted = copied(model)  # on which calls can be watched
    total = 0

    def watch(layer: layers.Layer, count: Callable) -> None:
        call = layer.call

        def watched(inputs, *args, **kwargs):
            nonlocal total
            outputs = call(inputs, *args, **kwargs)
            total += count(layer, inputs, outputs)
            return outputs

        layer.call = watched

    for layer in counted._flatten_layers(include_self=False):
        if count := counting(layer):
            watch(layer, count)
    counted(np.zeros((1, *model.input_shape[1:]), np.float32), training=False)
    return total


def counting(layer: layers.Layer) -> Callable | None:
    """The function of `MULTIPLY_ADDS` that counts a layer's multiply-adds per call; None if there is none."""
    if getattr(layer, "data_format", None) == "channels_first":
        return None
    return next((count for kinds, count in MULTIPLY_ADDS.items() if isinstance(layer, kinds)), None)


def is_unknown(layer: layers.Layer) -> bool:
    """Whether a layer, without the layers inside it, multiplies in a way that cannot be counted."""
    scales = isinstance(layer, ELEMENTWISE)
    return isinstance(layer, UNKNOWN) or (not counting(layer) and not scales and has_kernels(layer))


def has_kernels(layer: layers.Layer) -> bool:
    """Whether a layer, without the layers inside it, has weights with two or more axes."""
    inner = {id(weight) for part in layer._flatten_layers(include_self=False) for weight in part.weights}
    return any(len(weight.shape) > 1 for weight in layer.weights if id(weight) not in inner)


def describe(model: keras.Model) -> str:
    """Keras's summary of the layers as text, 80 columns wide, followed by the multiply-adds."""
    lines: list[str] = []
    anew = copied(model)  # whose layers were called once, and that no optimizer belongs to
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # else the terminal's width and encoding decide on the lines
            anew.summary(line_length=80, expand_nested=True, print_fn=lines.append)
    finally:
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    work = multiply_adds(model)
    return "\n".join([*lines, f" Multiply-adds per image: {'unknown' if work is None else f'{work:,}'}", ""])
