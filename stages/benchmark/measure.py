"""The speed of training, measured in the same way for the notebook's model and for ours."""

import keras

from stages.trained import cost


def measured(model: "keras.Model", shown: int, seconds: list[float]) -> dict:
    """The speed at which `model` was trained.

    Args:
        model: The trained model.
        shown: Training images per epoch.
        seconds: Seconds of each measured epoch, without validation.

    Returns:
        `images_per_second` and `operations_per_second`, one value per epoch. A multiply-add is 2 operations; the backward
        pass counts as two forward passes.
    """
    work = cost.multiply_adds(model)
    return {
        "images_per_second": [shown / second for second in seconds],
        "operations_per_second": [6 * work * shown / second for second in seconds] if work else [],
    }
