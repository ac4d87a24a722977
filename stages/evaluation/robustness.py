"""How far a model's answers hold: accuracy on corrupted pictures, and confidence in pictures that are no clothing.

Every picture is predicted once, without mirrored and shifted views.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from stages.evaluation.corruptions import KINDS, STRENGTHS, corrupt
from stages.evaluation.uncertainty import wilson
from stages.evaluation.unfamiliar import INPUTS, detection, draw_unfamiliar

Classifier = Callable[[np.ndarray], np.ndarray]  # from pictures, uint8 (N, 28, 28, 1), to probabilities (N, 10)


def robustness(
    classify: Classifier, images: np.ndarray, labels: np.ndarray, seed: int, confidence: float
) -> pd.DataFrame:
    """A row a corruption and strength, 0 (the pictures as they are) to 5.

    Args:
        images: uint8 (N, 28, 28, 1); labels (N,).
        seed: Of what is random in the corruptions.
        confidence: Of the intervals.

    Returns:
        Columns corruption, strength, pictures, accuracy with its ends accuracy_low and accuracy_high (Wilson), and
        confidence, the mean of the highest probabilities.
    """
    clean = classify(images)
    rows = []
    for kind in KINDS:
        corrupted = np.concatenate([corrupt(images, kind, strength, seed) for strength in STRENGTHS])
        answers = [clean, *np.split(classify(corrupted), len(STRENGTHS))]
        for strength, probabilities in enumerate(answers):
            hits = int((probabilities.argmax(axis=1) == labels).sum())
            share, ends = hits / len(labels), wilson(hits, len(labels), confidence)
            rows.append((kind, strength, len(labels), share, *ends, probabilities.max(axis=1).mean()))
    columns = ["corruption", "strength", "pictures", "accuracy", "accuracy_low", "accuracy_high", "confidence"]
    return pd.DataFrame(rows, columns=columns)


def confidence_in_the_unfamiliar(classify: Classifier, images: np.ndarray, seed: int) -> pd.DataFrame:
    """A row a kind of unfamiliar input, of which there are as many pictures as of `images`, uint8 (N, 28, 28, 1).

    Returns:
        Columns input, pictures, auroc and fpr_at_95 (see `detection`), mean_confidence, the mean of the highest
        probabilities, and clean_confidence, the same of `images`.
    """
    clean = classify(images).max(axis=1)
    rows = []
    for name in INPUTS:
        found = classify(draw_unfamiliar(name, len(images), seed)).max(axis=1)
        means = {"mean_confidence": found.mean(), "clean_confidence": clean.mean()}
        rows.append({"input": name, "pictures": len(found), **detection(clean, found), **means})
    return pd.DataFrame(rows)


def summary(corrupted: pd.DataFrame, unfamiliar: pd.DataFrame) -> dict:
    """`accuracy`, the mean over all corruptions and strengths but 0; and `details`, which `dvc metrics` leaves out.

    Returns:
        Beside `accuracy`, in a dict in the list, `worst_accuracy`, that of the corruption with the lowest mean over its
        strengths, and `mean_auroc` over all unfamiliar input.
    """
    means = corrupted[corrupted["strength"] > 0].groupby("corruption")["accuracy"].mean()
    details = {"worst_accuracy": means.min(), "mean_auroc": unfamiliar["auroc"].mean()}
    rounded = {name: round(float(value), 6) for name, value in details.items()}
    return {"accuracy": round(float(means.mean()), 6), "details": [rounded]}
