"""The features of images: the input of a network's last dense layer."""

import keras
import numpy as np
from scipy.special import softmax

from stages.trained.prediction import in_batches


def with_features(model: keras.Model) -> keras.Model:
    """A model from pixels to two outputs: its features, see below, and its logits."""
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    logits = model.outputs[0]
    return keras.Model(model.inputs[0], [dense[-1].input if dense else logits, logits])


def features_and_probabilities(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and probabilities of images, in one pass, from a single view.

    Args:
        model: From pixels to logits (N, classes).
        images: uint8 (N, H, W, C).

    Returns:
        Features, float32 (N, D): the input of the last dense layer, or the logits if the model has no dense layer at its
        top level; probabilities, float64 (N, classes), rows sum to 1.
    """
    features, logits = in_batches(with_features(model), images)
    return features.reshape(len(images), -1).astype(np.float32), softmax(logits.astype(np.float64), axis=1)
