"""Prediction: from images to logits and probabilities, with or without test-time augmentation (TTA)."""

import time
from dataclasses import dataclass

import keras
import numpy as np
from scipy.special import softmax

from stages.data.transforms import TUNED_SIZE, shift

BATCH_SIZE = 250


# Test-time augmentation (TTA): for each kind, the views of an image whose logits are averaged. A view is its weight, by how
# many pixels the image is shifted down and to the right (of `TUNED_SIZE`; others in proportion), and whether it is
# mirrored. The first is the image as it is. Source: Jordan, "94 % on CIFAR-10 in 3.29 seconds" (2024).
VIEWS = {
    "none": [(1.0, 0, False)],
    "flip": [(0.5, 0, False), (0.5, 0, True)],
    "shift": [(0.5, 0, False), (0.25, -1, False), (0.25, 1, False)],
    "flip_and_shift": [
        (weight, offset, mirrored)
        for weight, offset in [(0.25, 0), (0.125, -1), (0.125, 1)]
        for mirrored in (False, True)
    ],
}


def views_of(images: np.ndarray, augmentation: str) -> list[tuple[float, np.ndarray]]:
    """The views of test-time augmentation (TTA).

    Args:
        images: uint8 (N, H, W, C).
        augmentation: `"none"`: a single view, the images as they are. `"flip"`: the images and their mirror images.
            `"shift"`: the images with half the weight, and shifted by one pixel up-left and down-right with the other half.
            `"flip_and_shift"`: the same of the images and their mirror images.

    Returns:
        The views, each a weight and images, uint8 (N, H, W, C). The weights sum to 1. The first view is the images as
        they are.
    """
    views = []
    for weight, offset, mirrored in VIEWS[augmentation]:
        pixels = offset * round(images.shape[1] / TUNED_SIZE)
        view = shift(images, np.full((len(images), 2), pixels)) if pixels else images
        views.append((weight, view[:, :, ::-1] if mirrored else view))
    return views


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for N images.

    Attributes:
        probabilities: From the weighted mean of the logits of all views, float64 (N, classes), rows sum to 1.
        single_view: From the images as they are, without test-time augmentation, float64 (N, classes), rows sum to 1.
        seconds: The wall time of each view.
    """

    probabilities: np.ndarray
    single_view: np.ndarray
    seconds: list[float]


def in_batches(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """The outputs of the model for uint8 images (N, H, W, C): one array with N rows per output.

    `model.predict` returns the same values, but starts an input pipeline each time, which takes longer than a small model.
    """
    batches = np.array_split(images, -(-len(images) // BATCH_SIZE))  # of nearly equal sizes
    found = [model.predict_on_batch(batch) for batch in batches]
    return [np.concatenate(parts) for parts in (zip(*found, strict=True) if isinstance(found[0], list) else [found])]


def predict(model: keras.Model, images: np.ndarray, augmentation: str) -> Predictions:
    """Class probabilities of uint8 images (N, H, W, C), with test-time augmentation (`views_of`) and from one view."""
    model.predict_on_batch(images[:BATCH_SIZE])  # traces the graph before the time is measured
    weights, logits, seconds = [], [], []
    for weight, view in views_of(images, augmentation):
        started = time.perf_counter()
        logits.append(in_batches(model, view)[0].astype(np.float64))
        seconds.append(time.perf_counter() - started)
        weights.append(weight)
    mean = np.average(logits, axis=0, weights=weights)
    return Predictions(softmax(mean, axis=1), softmax(logits[0], axis=1), seconds)


def classify(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Class probabilities of uint8 images (N, H, W, C) from a single view: float64 (N, classes), rows sum to 1."""
    return softmax(in_batches(model, images)[0].astype(np.float64), axis=1)
