"""Metrics of each class, from probabilities (N, classes), labels (N,), from 0, and the names of the classes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.scoring.scores import confusion_matrix, precision_recall_f1


def per_class(probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """One row per class: class, precision, recall, f1, images."""
    counts = confusion_matrix(labels, probabilities.argmax(axis=1), len(names))
    precision, recall, f1 = precision_recall_f1(counts)
    return pd.DataFrame(
        {"class": names, "precision": precision, "recall": recall, "f1": f1, "images": counts.sum(axis=1)}
    )


def confusion(probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """The confusion matrix, one row per pair of classes: actual, predicted, images, share (of the actual class)."""
    counts = confusion_matrix(labels, probabilities.argmax(axis=1), len(names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = [(names[i], names[j], counts[i, j], shares[i, j]) for i, j in np.ndindex(counts.shape)]
    return pd.DataFrame(rows, columns=["actual", "predicted", "images", "share"])
