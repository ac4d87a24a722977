"""Occlusion maps: on which places of a picture a prediction hangs."""

from collections.abc import Callable

import numpy as np

PATCH = 5  # pixels


def covered(image: np.ndarray, patch: int = PATCH) -> np.ndarray:
    """A picture (H, W, 1) with a black square centred on each pixel in turn, row by row: (H * W, H, W, 1).

    Args:
        image: uint8, light on black.
        patch: Height and width of the square, pixels, odd. At the edges what of it lies outside is cut off.
    """
    height, width, _ = image.shape
    rows, columns = (np.abs(np.subtract.outer(range(size), range(size))) <= patch // 2 for size in (height, width))
    hidden = rows[:, None, :, None] & columns[None, :, None, :]  # (H, W, H, W): the centre, then the pixel
    return np.where(hidden.reshape(-1, height, width, 1), 0, image).astype(image.dtype)


def occlusion(predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, patch: int = PATCH) -> np.ndarray:
    """How much each class's probability drops when a black square covers a place: (H, W, classes), from -1 to 1.

    Above 0: what is there speaks for the class; below 0: against it. The square is black because black is these pictures'
    background: covering takes clothing away and adds no object of another grey; where there is only background, nothing
    changes and the drop is 0, which does not mean that the emptiness is of no use to the model. A square of 5x5 pixels is
    3 % of a picture: smaller ones hide less than a collar or a strap, larger ones blur more. Each value stands for a whole
    square, so the map is blurred by as much and shows no detail that is finer. Source: Zeiler and Fergus, "Visualizing
    and understanding convolutional networks" (2014), who cover with grey.

    Args:
        predict: From uint8 pictures (N, H, W, 1) to probabilities (N, classes).
        image: uint8 (H, W, 1), light on black.
        patch: Height and width of the square, pixels, odd.
    """
    probabilities = predict(np.concatenate([image[None], covered(image, patch)]))  # (1 + H * W, classes)
    return (probabilities[0] - probabilities[1:]).reshape(*image.shape[:2], -1)
