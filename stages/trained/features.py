"""The features of images: the input of a network's last dense layer."""

import keras
import numpy as np
from keras import ops
from scipy.special import softmax

from stages.trained.prediction import in_batches


def with_features(model: keras.Model) -> keras.Model:
    """A model from pixels to three outputs: its features and its logits, see below, and its `layers`, (N, L).

    These are the outputs of all ReLU, addition and activation layers, or of none the features: of maps (N, H, W, C), the
    mean and the maximum over the places.
    """
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    logits = model.outputs[0]
    features, pooled = dense[-1].input if dense else logits, []
    kinds = keras.layers.ReLU, keras.layers.Add, keras.layers.Activation
    for output in [layer.output for layer in model.layers if isinstance(layer, kinds)] or [features]:
        maps = len(output.shape) == 4
        pooled += [ops.mean(output, (1, 2)), ops.max(output, (1, 2))] if maps else [keras.layers.Flatten()(output)]
    layers = ops.concatenate([ops.cast(one, "float32") for one in pooled], axis=-1)
    return keras.Model(model.inputs[0], [features, logits, layers])


def features_and_probabilities(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and probabilities of images, in one pass, from a single view.

    Args:
        model: From pixels to logits (N, classes).
        images: uint8 (N, H, W, C).

    Returns:
        Features, float32 (N, D): the input of the last dense layer, or the logits if the model has no dense layer at its
        top level; probabilities, float64 (N, classes), rows sum to 1.
    """
    features, logits, _ = in_batches(with_features(model), images)
    return features.reshape(len(images), -1).astype(np.float32), softmax(logits.astype(np.float64), axis=1)
