"""Occlusion maps: which parts of an image a prediction depends on."""

from collections.abc import Callable

import numpy as np

from stages.data.transforms import TUNED_SIZE

PATCH = 5  # pixels, for images of `TUNED_SIZE`


def patch_for(image: np.ndarray) -> int:
    """The height and width of the square for an image (H, W, C), pixels, odd: `PATCH`, in proportion to the image."""
    return round(PATCH * image.shape[0] / TUNED_SIZE) | 1


def covered(image: np.ndarray, patch: int, stride: int = 1) -> np.ndarray:
    """Copies of an image, each with a black square centered on another pixel.

    Args:
        image: uint8 (H, W, C).
        patch: Height and width of the square, pixels, odd. The square is cut off at the edges of the image.
        stride: The distance of the centers, pixels.

    Returns:
        uint8 (centers, H, W, C), one copy per center, row by row.
    """
    height, width, _ = image.shape
    rows, columns = (
        np.abs(np.subtract.outer(range(0, size, stride), range(size))) <= patch // 2 for size in (height, width)
    )
    hidden = rows[:, None, :, None] & columns[None, :, None, :]  # center, then pixel
    return np.where(hidden.reshape(-1, height, width, 1), 0, image).astype(image.dtype)


def occlusion(predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """The occlusion map of an image: how much each class's probability drops when a black square covers a place.

    A positive drop means that the covered place increases the probability of the class, a negative drop that it decreases
    it. The square is black: on a black background, it removes an object and adds none of another grey, and where there is
    only background, covering changes nothing and the drop is 0. This does not mean that the model ignores the empty place.
    The square covers 3 % of an image: a smaller one covers less than a detail, a larger one blurs the map more. The map
    shows no detail finer than the square.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014), who use a grey square.

    Args:
        predict: Maps uint8 images (N, H, W, C) to probabilities (N, classes).
        image: uint8 (H, W, C).

    Returns:
        Drops, (H, W, classes), from -1 to 1; the first two axes are the center of the square.
    """
    height, width, _ = image.shape
    stride = -(-height // TUNED_SIZE)  # so that a large image does not take many times longer
    probabilities = predict(np.concatenate([image[None], covered(image, patch_for(image), stride)]))
    drops = (probabilities[0] - probabilities[1:]).reshape(-(-height // stride), -(-width // stride), -1)
    return drops.repeat(stride, axis=0).repeat(stride, axis=1)[:height, :width]
