"""The speed of training and prediction, measured in the same way for the notebook's model and for ours."""

import statistics
import time

import keras
import numpy as np

from stages.trained.cost import multiply_adds


def latencies(model: keras.Model, images: np.ndarray, times: int) -> list[float]:
    """Seconds of each of `times` predictions of `images` in one batch, after two warm-up predictions."""
    seconds = []
    for _ in range(times + 2):
        before = time.perf_counter()
        model.predict_on_batch(images)
        seconds.append(time.perf_counter() - before)
    return seconds[2:]


def measured(model: keras.Model, images: np.ndarray, shown: int, seconds: list[float]) -> dict:
    """The speed at which `model` was trained and predicts.

    Args:
        model: The trained model.
        images: At least 1,000 images, in the model's input format.
        shown: Training images per epoch.
        seconds: Seconds of each measured epoch, without validation.

    Returns:
        `images_per_second` and `operations_per_second` in training, one value per epoch. A multiply-add is 2 operations;
        the backward pass counts as two forward passes. `predicted_per_second`, images in batches of 1,000, and
        `milliseconds_for_one`, the latency of one image: medians.
    """
    work = multiply_adds(model)
    return {
        "images_per_second": [shown / second for second in seconds],
        "operations_per_second": [6 * work * shown / second for second in seconds] if work else [],
        "predicted_per_second": 1000 / statistics.median(latencies(model, images[:1000], 10)),
        "milliseconds_for_one": 1000 * statistics.median(latencies(model, images[:1], 100)),
    }
