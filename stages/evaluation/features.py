"""What a network makes of pictures before it names a class."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from stages.evaluation.inference import in_batches

if TYPE_CHECKING:
    import keras


def features_and_probabilities(model: "keras.Model", images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the last dense layer gets of each picture, and what the model says of it, in one pass.

    Args:
        model: From pixels to logits (N, 10).
        images: uint8 (N, 28, 28, 1).

    Returns:
        Features, float32 (N, D), the logits themselves for a model without a dense layer; probabilities, float64 (N, 10).
    """
    import keras

    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    logits = model.outputs[0]
    both = keras.Model(model.inputs[0], [dense[-1].input if dense else logits, logits])
    features, logits = in_batches(both, images)
    return features.reshape(len(images), -1).astype(np.float32), softmax(logits.astype(np.float64), axis=1)
