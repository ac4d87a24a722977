"""The numbers that models are chosen and compared by, from probabilities (N, 10) and labels (N,).

Apart from `classes.py`, so that a change there trains nothing again.
"""

import numpy as np
from sklearn.metrics import f1_score, log_loss


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The share of pictures whose most probable class is their label, rounded to six places."""
    return round(float((probabilities.argmax(axis=1) == labels).mean()), 6)


def scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`accuracy`; `loss`, the mean negative log-likelihood in nats; `macro_f1`, the mean of the classes' F1."""
    predicted = probabilities.argmax(axis=1)
    values = {
        "accuracy": accuracy(probabilities, labels),
        "loss": float(log_loss(labels, probabilities, labels=range(10))),
        "macro_f1": float(f1_score(labels, predicted, average="macro", labels=range(10), zero_division=0)),
    }
    return {name: round(value, 6) for name, value in values.items()}
