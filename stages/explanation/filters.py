"""The first learned filters of a network, and the image patches that activate them most."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras.layers import AveragePooling2D, Conv2D, Dense, DepthwiseConv2D, MaxPooling2D, SeparableConv2D

CONVOLUTIONS = (Conv2D, DepthwiseConv2D, SeparableConv2D)
WINDOWS = (*CONVOLUTIONS, AveragePooling2D, MaxPooling2D)
BATCH_SIZE = 500  # images whose feature maps are in memory at the same time


def receptive_field(steps: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    """The receptive field of a chain of convolutions and poolings, along one axis.

    Source: Araujo, Norris and Sim, "Computing receptive fields of convolutional neural networks" (2019).

    Args:
        steps: For each layer, starting at the pixels: window, stride, padding before the first pixel.

    Returns:
        size, stride, start, in pixels: output i depends on the `size` pixels from `start + i * stride` on.
    """
    size, distance, start = 1, 1, 0  # distance: between adjacent outputs, pixels
    for window, stride, padding in steps:
        size += (window - 1) * distance
        start -= padding * distance
        distance *= stride
    return size, distance, start


def first_learned(model: keras.Model) -> tuple[str, keras.Layer | None, list[tuple[int, int, int]]]:
    """The first layer of a model with trainable weights, without normalizations.

    Returns:
        Its kind: `"convolution"`, `"dense"` (on the pixels) or `"other"`, also if a layer of an unknown kind comes first;
        the layer, or None if there is none; and the steps for `receptive_field`, up to and including the layer.
    """
    steps: list[tuple[int, int, int]] = []
    for layer in model.layers:
        known = isinstance(layer, (*WINDOWS, Dense)) or layer.__class__.__module__.startswith(
            ("keras.", "stages.layers.")
        )
        if not known or isinstance(layer, keras.Model):
            return "other", layer, steps
        if isinstance(layer, WINDOWS):
            steps.append(window(layer))
        elif len(layer.output.shape) == 4 and layer.output.shape[1:3] != model.input_shape[1:3] and not steps:
            return "other", layer, steps  # padding, cropping or resizing moves the pixels
        if any(len(weight.shape) > 1 for weight in layer.trainable_weights):
            if isinstance(layer, CONVOLUTIONS):
                return "convolution", layer, steps
            on_pixels = (
                not steps and isinstance(layer, Dense) and layer.kernel.shape[0] == math.prod(model.input_shape[1:])
            )
            return ("dense" if on_pixels else "other"), layer, steps
    return "other", None, steps


def window(layer: keras.Layer) -> tuple[int, int, int]:
    """The step for `receptive_field` of a convolution or a pooling layer, which must have square windows."""
    if isinstance(layer, CONVOLUTIONS):
        size = (layer.kernel_size[0] - 1) * layer.dilation_rate[0] + 1
    else:
        size = layer.pool_size[0]
    stride, inputs, outputs = layer.strides[0], layer.input.shape[1], layer.output.shape[1]
    padded = max(0, (outputs - 1) * stride + size - inputs) if layer.padding == "same" else 0
    return size, stride, padded // 2  # TensorFlow adds the rest of the padding after the last pixel


def strongest_patches(
    respond: Callable[[np.ndarray], np.ndarray], images: np.ndarray, field: tuple[int, int, int], count: int = 9
) -> np.ndarray:
    """The image patches that activate each filter most, at most one per image.

    Args:
        respond: Maps uint8 images (B, 28, 28, 1) to the feature maps of the filters, (B, H, W, F).
        images: uint8 (N, 28, 28, 1), N at least `count`.
        field: The receptive field of an activation, from `receptive_field`. Activations whose field reaches beyond the edge
            of the image do not count.
        count: Patches per filter.

    Returns:
        uint8 (F, count, size, size), the strongest activation first.
    """
    size, stride, start = field
    first, last = -(start // stride), (images.shape[1] - size - start) // stride  # with fields inside the image
    peaks, places = [], []
    for begin in range(0, len(images), BATCH_SIZE):
        answers = respond(images[begin : begin + BATCH_SIZE])[:, first : last + 1, first : last + 1]
        answers = answers.reshape(len(answers), -1, answers.shape[-1])  # (B, places, F)
        peaks.append(answers.max(axis=1))
        places.append(answers.argmax(axis=1))
    peaks, places = np.concatenate(peaks), np.concatenate(places)  # (N, F) each
    chosen = np.argsort(-peaks, axis=0, kind="stable")[:count].T  # (F, count)
    rows, columns = np.divmod(places[chosen, np.arange(len(chosen))[:, None]], last - first + 1)
    tops, lefts = ((first + places) * stride + start for places in (rows, columns))
    patches = np.lib.stride_tricks.sliding_window_view(images[..., 0], (size, size), axis=(1, 2))
    return patches[chosen, tops, lefts]


def patches_and_kernels(
    model: keras.Model, layer: keras.Layer, steps: Sequence[tuple[int, int, int]], images: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """The patches that activate the first `most` filters of a convolution, and its kernels.

    Kernels are returned only for a convolution on the pixels. Behind other layers (such as a fixed whitening and a ReLU) a
    kernel cannot be shown as an image.

    Args:
        model: The model that contains `layer`.
        layer: The layer from `first_learned`.
        steps: The steps from `first_learned`.
        images: uint8 (N, 28, 28, 1).
        most: The largest number of filters.

    Returns:
        Patches, see `strongest_patches`; kernels, (F, size, size), or None if the layer is not on the pixels.
    """
    front = keras.Model(model.inputs[0], layer.output)
    patches = strongest_patches(
        lambda batch: np.asarray(front(batch), dtype=np.float32)[..., :most], images, receptive_field(steps)
    )
    on_pixels = len(steps) == 1 and type(layer).__name__ == "Conv2D"
    return patches, np.asarray(layer.kernel)[:, :, 0, :most].transpose(2, 0, 1) if on_pixels else None
