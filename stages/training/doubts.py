"""Warnings about a training that ended without an error, but cannot be right."""

import keras
import numpy as np

from stages.common.splits import CLASS_NAMES
from stages.training.fit import Trained

CHANCE = 1.5  # times the share of the most frequent class: no model that learned something is below
REMEMBERED = 0.05  # of the initial statistics that a batch normalization may keep to the end
RISE = 1.1  # times the first validation loss


def doubts(trained: Trained, probabilities: np.ndarray, labels: np.ndarray) -> list[str]:
    """Sentences about what is probably wrong with a trained model; mostly none.

    Args:
        trained: The model, its history and its steps.
        probabilities: Of the validation images, (N, classes).
        labels: Of the validation images, (N,).
    """
    predicted = probabilities.argmax(axis=1)
    accuracy, most_frequent = (predicted == labels).mean(), np.bincount(labels).max() / len(labels)
    losses, steps = trained.history["val_loss"], trained.steps
    found = []
    if accuracy < CHANCE * most_frequent:
        found.append(
            f"the validation accuracy is {100 * accuracy:.1f} %, about what guessing gives ({100 * most_frequent:.1f} %): "
            "the model has learned nothing. Its learning_rate is probably too high or too low"
        )
    if never := [CLASS_NAMES[label] for label in np.unique(labels) if label not in predicted]:
        found.append(f"these classes are never predicted for the validation images: {', '.join(never)}")
    right = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).tiny)
    loss, guessing = -np.log(right).mean(), np.log(probabilities.shape[1])
    if loss > guessing and not found:
        found.append(
            f"{100 * accuracy:.1f} % of the validation images are right, but the loss is {loss:.1f} nats, and guessing has "
            f"{guessing:.1f}: the model is far too sure of what is wrong. Its learning_rate is probably too high"
        )
    if len(losses) > 2 and losses.idxmin() == losses.index[0] and losses.iloc[-1] > RISE * losses.iloc[0]:
        found.append(
            f"the validation loss only rose, from {losses.iloc[0]:.3f} after the first epoch to {losses.iloc[-1]:.3f}: "
            "lower learning_rate, or set patience"
        )
    if trained.taught is not None and trained.taught < CHANCE * most_frequent:
        found.append(
            f"its teachers classify {100 * trained.taught:.1f} % of the training images right, about what guessing gives "
            f"({100 * most_frequent:.1f} %): they have learned nothing, and nothing can be learned from them. The "
            "learning_rate is probably too high or too low, or the numbers of epochs in teachers are too small"
        )
    for layer in trained.model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.momentum**steps > REMEMBERED:
            found.append(
                f"after the {steps} steps of this training, the batch normalization {layer.name} (momentum "
                f"{layer.momentum}) still has {100 * layer.momentum**steps:.0f} % of its initial statistics, so that the "
                "model does worse when it predicts than when it trains: lower its momentum, or train for more steps"
            )
            break
    return found
