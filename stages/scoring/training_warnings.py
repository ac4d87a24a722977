"""Warnings about a training that ended without an error, but cannot be right. No result depends on their wording."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

MAX_INITIAL_SHARE = 0.05  # of its initial statistics, that a batch normalization may keep to the end
MAX_LOSS_RISE = 1.1  # times the first validation loss


def least(guessing: float) -> float:
    """The share of right answers below which no model is that learned something, from the share that guessing gives."""
    return min(1.5 * guessing, guessing + 0.1 * (1 - guessing))


def training_warnings(
    training: dict, history: pd.DataFrame, probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> list[str]:
    """Sentences about what is probably wrong with a trained model; mostly none.

    Args:
        training: What `stages.training.fit.facts` says of the training.
        history: One row per epoch: see `stages.training.fit.Trained`.
        probabilities: Of the validation images, (N, classes).
        labels: Of the validation images, (N,).
        names: Of the classes.
    """
    predicted = probabilities.argmax(axis=1)
    accuracy, most_frequent = (predicted == labels).mean(), np.bincount(labels).max() / len(labels)
    recall, chance = np.mean([(predicted[labels == one] == one).mean() for one in np.unique(labels)]), 1 / len(names)
    losses, teachers = history["val_loss"], training["teachers_accuracy"]
    found = []
    if recall < least(chance):
        found.append(
            f"the validation recall is {100 * recall:.1f} % in the mean of the classes, about what guessing gives "
            f"({100 * chance:.1f} %): the model has learned nothing. Its learning_rate is probably too high or too low"
        )
    if never := [names[label] for label in np.unique(labels) if label not in predicted]:
        found.append(f"these classes are never predicted for the validation images: {', '.join(never)}")
    right = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).tiny)
    loss, guessing = -np.log(right).mean(), np.log(probabilities.shape[1])
    if loss > guessing and not found:
        found.append(
            f"{100 * accuracy:.1f} % of the validation images are right, but the loss is {loss:.1f} nats, and guessing has "
            f"{guessing:.1f}: the model is far too sure of what is wrong. Its learning_rate is probably too high"
        )
    if len(losses) > 2 and losses.idxmin() == losses.index[0] and losses.iloc[-1] > MAX_LOSS_RISE * losses.iloc[0]:
        found.append(
            f"the validation loss only rose, from {losses.iloc[0]:.3f} after the first epoch to {losses.iloc[-1]:.3f}: "
            "lower learning_rate, or set patience"
        )
    if teachers is not None and teachers < least(most_frequent):
        found.append(
            f"its teachers classify {100 * teachers:.1f} % of the training images right, about what guessing gives "
            f"({100 * most_frequent:.1f} %): they have learned nothing, and nothing can be learned from them. The "
            "learning_rate is probably too high or too low, or the numbers of epochs in teachers are too small"
        )
    kept = training["batch_norm_momentum"] ** training["steps"]
    if kept > MAX_INITIAL_SHARE:
        found.append(
            f"after the {training['steps']} steps of this training, a batch normalization (momentum "
            f"{training['batch_norm_momentum']}) still has {100 * kept:.0f} % of its initial statistics, so that the model "
            "does worse when it predicts than when it trains: lower its momentum, or train for more steps"
        )
    return found
