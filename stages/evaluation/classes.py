"""How a model does on each class, from probabilities (N, 10) and labels (N,)."""

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from stages.dataset import CLASS_NAMES


def per_class(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """A row a class: class, precision, recall, f1, pictures."""
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=range(10), zero_division=0
    )
    return pd.DataFrame({"class": CLASS_NAMES, "precision": precision, "recall": recall, "f1": f1, "pictures": support})


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """A row a pair of classes (100 rows): actual, predicted, pictures, share (of the actual class's pictures)."""
    counts = confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(10))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = [(CLASS_NAMES[i], CLASS_NAMES[j], counts[i, j], shares[i, j]) for i, j in np.ndindex(10, 10)]
    return pd.DataFrame(rows, columns=["actual", "predicted", "pictures", "share"])
