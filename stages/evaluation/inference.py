"""From pictures to logits and probabilities, over one or several views of each picture."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from stages.training.augmentation import shift

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 1000


def views_of(images: np.ndarray, views: str) -> list[tuple[float, np.ndarray]]:
    """Weights, which sum to 1, and changed pictures.

    Args:
        images: uint8 (N, 28, 28, 1).
        views: `"plain"`: the pictures; `"flips"`: and their mirror images; `"flips_and_shifts"`: half the weight on
            these two, half on both moved by one pixel along the diagonal, up-left and down-right. Source: Jordan,
            "94 % on CIFAR-10 in 3.29 seconds" (2024).
    """
    if views == "plain":
        return [(1.0, images)]
    if views == "flips":
        return [(0.5, images), (0.5, images[:, :, ::-1])]
    moved = [shift(images, np.full((len(images), 2), offset)) for offset in (-1, 1)]
    weighted = [(0.25, images), *((0.125, pictures) for pictures in moved)]
    return [(weight, side) for weight, pictures in weighted for side in (pictures, pictures[:, :, ::-1])]


@dataclass(frozen=True)
class Predictions:
    """What a model says of N pictures.

    Attributes:
        probabilities: From the weighted mean of the views' logits, float64 (N, 10); rows sum to 1.
        plain: From the pictures as they are, without other views; likewise.
        seconds: What each view took.
    """

    probabilities: np.ndarray
    plain: np.ndarray
    seconds: list[float]


def in_batches(model: "keras.Model", images: np.ndarray) -> list[np.ndarray]:
    """Each output of the model, for uint8 pictures (N, 28, 28, 1): a list of arrays of N rows.

    `model.predict` gives the same, but starts an input pipeline each time, which the small models here feel.
    """
    batches = np.array_split(images, -(-len(images) // BATCH_SIZE))  # of nearly equal sizes
    found = [model.predict_on_batch(batch) for batch in batches]
    return [np.concatenate(parts) for parts in (zip(*found, strict=True) if isinstance(found[0], list) else [found])]


def predict(model: "keras.Model", images: np.ndarray, views: str) -> Predictions:
    """Class probabilities of uint8 pictures (N, 28, 28, 1), over `views` and plain."""
    model.predict_on_batch(images[:BATCH_SIZE])  # traces the graph, outside the clock
    weights, logits, seconds = [], [], []
    for weight, pictures in views_of(images, views):
        started = time.perf_counter()
        logits.append(in_batches(model, pictures)[0].astype(np.float64))
        seconds.append(time.perf_counter() - started)
        weights.append(weight)
    mean = np.average(logits, axis=0, weights=weights)
    return Predictions(softmax(mean, axis=1), softmax(logits[0], axis=1), seconds)
