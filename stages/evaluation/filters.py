"""What the first learned filters of a network answer to."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 500  # pictures whose responses are held at once


def receptive_field(steps: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Which pixels an output of a chain of convolutions and poolings sees, along one axis.

    Args:
        steps: Of each layer, the one at the pixels first: window, stride, padding in front of the first pixel.

    Returns:
        size, stride, start: output i sees the `size` pixels from `start + i * stride` on. Source: Araujo, Norris and Sim,
        "Computing receptive fields of convolutional neural networks" (2019).
    """
    size, distance, start = 1, 1, 0  # distance: of neighbouring outputs, pixels
    for window, stride, padding in steps:
        size += (window - 1) * distance
        start -= padding * distance
        distance *= stride
    return size, distance, start


def windows(layers: Sequence["keras.Layer"]) -> list[tuple[int, int, int]]:
    """The steps for `receptive_field` of a chain of layers; windows are taken as square, other layers see single pixels."""
    from keras.layers import AveragePooling2D, Conv2D, MaxPooling2D

    steps = []
    for layer in layers:
        if isinstance(layer, Conv2D):
            window = (layer.kernel_size[0] - 1) * layer.dilation_rate[0] + 1
        elif isinstance(layer, (AveragePooling2D, MaxPooling2D)):
            window = layer.pool_size[0]
        else:
            continue
        stride, inputs, outputs = layer.strides[0], layer.input.shape[1], layer.output.shape[1]
        padded = max(0, (outputs - 1) * stride + window - inputs) if layer.padding == "same" else 0
        steps.append((window, stride, padded // 2))  # TensorFlow pads the rest behind the last pixel
    return steps


def strongest_patches(
    respond: Callable[[np.ndarray], np.ndarray], images: np.ndarray, field: tuple[int, int, int], count: int = 9
) -> np.ndarray:
    """The patches that excite each filter most, at most one of a picture, the strongest first: (F, count, size, size).

    Args:
        respond: From uint8 pictures (B, 28, 28, 1) to what the filters answer, (B, H, W, F).
        images: uint8 (N, 28, 28, 1), N at least `count`.
        field: What one answer sees, from `receptive_field`. Answers that see beyond the picture's edge do not count.
        count: Patches a filter.
    """
    size, stride, start = field
    first, last = -(start // stride), (images.shape[1] - size - start) // stride  # the answers inside the picture
    peaks, places = [], []
    for begin in range(0, len(images), BATCH_SIZE):
        answers = respond(images[begin : begin + BATCH_SIZE])[:, first : last + 1, first : last + 1]
        answers = answers.reshape(len(answers), -1, answers.shape[-1])  # (B, places, F)
        peaks.append(answers.max(axis=1))
        places.append(answers.argmax(axis=1))
    peaks, places = np.concatenate(peaks), np.concatenate(places)  # (N, F) each
    pictures = np.argsort(-peaks, axis=0, kind="stable")[:count].T  # (F, count)
    rows, columns = np.divmod(places[pictures, np.arange(len(pictures))[:, None]], last - first + 1)
    tops, lefts = ((first + places) * stride + start for places in (rows, columns))
    views = np.lib.stride_tricks.sliding_window_view(images[..., 0], (size, size), axis=(1, 2))
    return views[pictures, tops, lefts]
