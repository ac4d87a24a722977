"""The metrics by which models are selected and compared, from probabilities (N, classes) and labels (N,).

Stage `train` depends on this file. `classes.py` is separate, so that a change there does not repeat the training.
"""

import numpy as np

MANY_CLASSES = 20  # with more, the accuracy of the five most probable ones is measured, too
SMALLEST = np.finfo(float).eps  # probabilities are raised to it before their logarithm is taken


def scores(probabilities: np.ndarray, single_view: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics of one set of images, rounded to six decimals.

    Args:
        probabilities: With the model's test-time augmentation (TTA), (N, classes), rows sum to 1.
        single_view: Without TTA, (N, classes), rows sum to 1.
        labels: (N,), from 0.

    Returns:
        `accuracy`, `loss` (the mean negative log-likelihood, nats) and `macro_f1` (the mean F1 of the classes), with TTA;
        `accuracy_single_view`, without TTA. Where the classes have different numbers of images, also `balanced_accuracy`,
        the mean recall of the classes; of two classes `auroc`, the chance that an image of the second class gets a higher
        probability of it than one of the first; of more than `MANY_CLASSES`, `top_5_accuracy`.
    """
    predicted, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    right = np.maximum(probabilities[np.arange(len(labels)), labels], SMALLEST)
    counts = confusion_matrix(labels, predicted, classes)
    values = {
        "accuracy": float((predicted == labels).mean()),
        "accuracy_single_view": float((single_view.argmax(axis=1) == labels).mean()),
        "loss": float(-np.log(right).mean()),
        "macro_f1": float(precision_recall_f1(counts)[2].mean()),
    }
    images = counts.sum(axis=1)
    if len(set(images[images > 0])) > 1:
        values["balanced_accuracy"] = float((counts.diagonal() / np.maximum(images, 1))[images > 0].mean())
    if classes == 2 and images.all():
        values["auroc"] = auroc(probabilities[labels == 0, 1], probabilities[labels == 1, 1])
    if classes > MANY_CLASSES:
        best = np.argpartition(-probabilities, 5, axis=1)[:, :5]
        values["top_5_accuracy"] = float((best == labels[:, None]).any(axis=1).mean())
    return {name: round(value, 6) for name, value in values.items()}


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How many images of each class (rows) were predicted as each class (columns): (classes, classes), from two (N,)."""
    pairs = np.asarray(labels).astype(int) * classes + predicted
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def precision_recall_f1(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The precision, recall and F1 of each class, each (classes,), from a confusion matrix; 0 where there is nothing."""
    right, actual, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    wholes = predicted, actual, (predicted + actual) / 2
    return tuple(right / np.where(whole > 0, whole, 1) for whole in wholes)


def auroc(low: np.ndarray, high: np.ndarray) -> float:
    """The chance that a random one of the values `high`, (M,), is above a random one of `low`, (N,); ties count half."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(below.mean() / (2 * len(low)))
