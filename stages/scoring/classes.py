"""Metrics of each class, from probabilities (N, 10) and labels (N,), 0-9."""

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from stages.base.splits import CLASS_NAMES


def per_class(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """One row per class: class, precision, recall, f1, images."""
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=range(10), zero_division=0
    )
    return pd.DataFrame({"class": CLASS_NAMES, "precision": precision, "recall": recall, "f1": f1, "images": support})


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """The confusion matrix, one row per pair of classes: actual, predicted, images, share (of the actual class)."""
    counts = confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(10))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = [(CLASS_NAMES[i], CLASS_NAMES[j], counts[i, j], shares[i, j]) for i, j in np.ndindex(10, 10)]
    return pd.DataFrame(rows, columns=["actual", "predicted", "images", "share"])
