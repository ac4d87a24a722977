"""What is measured of a trained model, the notebook's or one of ours, in the same way."""

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np

from stages.training.saving import multiply_adds

if TYPE_CHECKING:
    import keras


def latencies(model: "keras.Model", images: np.ndarray, times: int) -> list[float]:
    """Seconds of each of `times` predictions of `images` in one batch, after two that do not count."""
    seconds = []
    for _ in range(times + 2):
        before = time.perf_counter()
        model.predict_on_batch(images)
        seconds.append(time.perf_counter() - before)
    return seconds[2:]


def measured(model: "keras.Model", images: np.ndarray, shown: int, seconds: list[float]) -> dict:
    """How quickly `model` trained and predicts.

    Args:
        model: Trained.
        images: 1,000 of them or more, as the model takes them.
        shown: Training pictures an epoch.
        seconds: Of each epoch that counts, without its validation.

    Returns:
        `images_per_second` and `operations_per_second` in training, a value an epoch (2 operations a multiply-add; the
        backward pass is counted as twice the forward pass); `predicted_per_second` in batches of 1,000 and
        `milliseconds_for_one` picture, medians.
    """
    work = 6 * multiply_adds(model) * shown
    return {
        "images_per_second": [shown / second for second in seconds],
        "operations_per_second": [work / second for second in seconds],
        "predicted_per_second": 1000 / statistics.median(latencies(model, images[:1000], 10)),
        "milliseconds_for_one": 1000 * statistics.median(latencies(model, images[:1], 100)),
    }
