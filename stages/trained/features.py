"""The features of images: the input of a network's last dense layer."""

import math

import keras
import numpy as np
from keras import ops
from scipy.special import softmax

from stages.trained.prediction import in_batches


class Pooled(keras.layers.Layer):
    """The mean and the maximum over the places of maps (N, H, W, C), other outputs as they are: all of them as (N, L)."""

    def call(self, outputs):
        found = []
        for output in outputs:
            output = ops.cast(output, "float32")
            maps = len(output.shape) == 4
            found += [ops.mean(output, (1, 2)), ops.max(output, (1, 2))] if maps else [output]
        return ops.concatenate([ops.reshape(one, (-1, math.prod(one.shape[1:]))) for one in found], axis=-1)


def with_features(model: keras.Model) -> keras.Model:
    """A model from pixels to three outputs: its features and its logits, see below, and those of its layers, (N, L).

    The last are the outputs of all ReLU and addition layers and of those with an activation, `Pooled`; if there are none,
    the features.
    """
    features, logits = inner(model), model.outputs[0]
    outputs = [
        layer.output
        for layer in model.layers
        if isinstance(layer, (keras.layers.ReLU, keras.layers.Add))
        or getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear
    ]
    layers = Pooled(name="outputs_of_layers", dtype="float32")(
        outputs or [features]
    )  # a name that no layer of the model has
    return keras.Model(model.inputs[0], [features, logits, layers])


def inner(model: keras.Model) -> keras.KerasTensor:
    """The input of a model's last dense layer at its top level; its logits, if there is none."""
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    return dense[-1].input if dense else model.outputs[0]


def features_and_probabilities(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and probabilities of images, in one pass, from a single view.

    Args:
        model: From pixels to logits (N, classes).
        images: uint8 (N, H, W, C).

    Returns:
        Features, float32 (N, D): see `inner`; probabilities, float64 (N, classes), rows sum to 1.
    """
    features, logits = in_batches(keras.Model(model.inputs[0], [inner(model), model.outputs[0]]), images)
    return features.reshape(len(images), -1).astype(np.float32), softmax(logits.astype(np.float64), axis=1)
