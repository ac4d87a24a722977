"""The metrics by which models are selected and compared, from probabilities (N, classes) and labels (N,).

Stage `train` depends on this file. `classes.py` is separate, so that a change there does not repeat the training.
"""

import numpy as np
from sklearn.metrics import f1_score, log_loss, roc_auc_score

MANY_CLASSES = 20  # with more, the accuracy of the five most probable ones is measured, too


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
    predicted, classes = probabilities.argmax(axis=1), range(probabilities.shape[1])
    values = {
        "accuracy": float((predicted == labels).mean()),
        "accuracy_single_view": float((single_view.argmax(axis=1) == labels).mean()),
        "loss": float(log_loss(labels, probabilities, labels=classes)),
        "macro_f1": float(f1_score(labels, predicted, average="macro", labels=classes, zero_division=0)),
    }
    counts = np.bincount(labels, minlength=len(classes))
    if len(set(counts[counts > 0])) > 1:
        values["balanced_accuracy"] = float(
            np.mean([(predicted[labels == one] == one).mean() for one in np.unique(labels)])
        )
    if len(classes) == 2 and counts.all():
        values["auroc"] = float(roc_auc_score(labels, probabilities[:, 1]))
    if len(classes) > MANY_CLASSES:
        best = np.argpartition(-probabilities, 5, axis=1)[:, :5]
        values["top_5_accuracy"] = float((best == labels[:, None]).any(axis=1).mean())
    return {name: round(value, 6) for name, value in values.items()}
