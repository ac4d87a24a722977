"""The numbers that models are chosen and compared by, from probabilities (N, 10) and labels (N,).

Apart from `classes.py`, so that a change there trains nothing again.
"""

import numpy as np
from sklearn.metrics import f1_score, log_loss


def scores(probabilities: np.ndarray, plain: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics of one set of pictures.

    Args:
        probabilities: Over the model's views, (N, 10); rows sum to 1.
        plain: Of the pictures as they are, likewise.
        labels: (N,), 0-9.

    Returns:
        `accuracy`; `accuracy_plain`, without other views; `loss`, the mean negative log-likelihood in nats; `macro_f1`,
        the mean of the classes' F1.
    """
    predicted = probabilities.argmax(axis=1)
    values = {
        "accuracy": float((predicted == labels).mean()),
        "accuracy_plain": float((plain.argmax(axis=1) == labels).mean()),
        "loss": float(log_loss(labels, probabilities, labels=range(10))),
        "macro_f1": float(f1_score(labels, predicted, average="macro", labels=range(10), zero_division=0)),
    }
    return {name: round(value, 6) for name, value in values.items()}
