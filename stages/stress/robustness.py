"""Robustness: accuracy on corrupted images, and detection of out-of-distribution (OOD) inputs.

All predictions are of a single view, without test-time augmentation (TTA).
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from stages.scoring.wilson import wilson
from stages.stress.corruptions import KINDS, STRENGTHS, corrupt
from stages.stress.ood import INPUTS, detection, draw_ood

Classifier = Callable[[np.ndarray], np.ndarray]  # maps images, uint8 (N, H, W, C), to probabilities (N, classes)


def robustness(
    classify: Classifier, clean: np.ndarray, images: np.ndarray, labels: np.ndarray, seed: int, confidence: float
) -> pd.DataFrame:
    """The accuracy on corrupted images.

    Args:
        classify: The model, as a function of images.
        clean: Its probabilities for the images as they are, (N, classes).
        images: uint8 (N, H, W, C).
        labels: (N,), from 0.
        seed: The seed of the corruptions.
        confidence: The confidence level of the intervals, above 0, below 1.

    Returns:
        One row per corruption and strength, from 0 (the images as they are) to 5. Columns: corruption, strength, images,
        accuracy, accuracy_low and accuracy_high (Wilson's interval), confidence (the mean of the highest probabilities).
    """
    rows = []
    for kind in KINDS:
        corrupted = np.concatenate([corrupt(images, kind, strength, seed) for strength in STRENGTHS])
        answers = [clean, *np.split(classify(corrupted), len(STRENGTHS))]
        for strength, probabilities in enumerate(answers):
            hits = int((probabilities.argmax(axis=1) == labels).sum())
            share, ends = hits / len(labels), wilson(hits, len(labels), confidence)
            rows.append((kind, strength, len(labels), share, *ends, probabilities.max(axis=1).mean()))
    columns = ["corruption", "strength", "images", "accuracy", "accuracy_low", "accuracy_high", "confidence"]
    return pd.DataFrame(rows, columns=columns)


def ood_detection(classify: Classifier, clean: np.ndarray, shape: tuple[int, int, int], seed: int) -> pd.DataFrame:
    """The detection of OOD inputs by the model's confidence.

    Args:
        classify: The model, as a function of images.
        clean: Its probabilities for test images, (N, classes). Each kind of OOD input has N images, too.
        shape: Of an image: height, width, channels.
        seed: The seed of the OOD inputs.

    Returns:
        One row per kind of OOD input. Columns: input, images, auroc and fpr_at_95 (see `detection`), mean_confidence (the
        mean of the highest probabilities), clean_confidence (the same for the test images).
    """
    familiar, rows = clean.max(axis=1), []
    for name in INPUTS:
        found = classify(draw_ood(name, len(familiar), shape, seed)).max(axis=1)
        means = {"mean_confidence": found.mean(), "clean_confidence": familiar.mean()}
        rows.append({"input": name, "images": len(found), **detection(familiar, found), **means})
    return pd.DataFrame(rows)


def summary(corrupted: pd.DataFrame, ood: pd.DataFrame) -> dict:
    """The summary of `robustness` and `ood_detection`, as metrics.

    Returns:
        `accuracy`, the mean over all corruptions and the strengths 1 to 5; and `details`, a list with one dict, which
        `dvc metrics` does not print: `worst_accuracy`, of the corruption with the lowest mean over its strengths, and
        `mean_auroc`, over all kinds of OOD inputs.
    """
    means = corrupted[corrupted["strength"] > 0].groupby("corruption")["accuracy"].mean()
    details = {"worst_accuracy": means.min(), "mean_auroc": ood["auroc"].mean()}
    rounded = {name: round(float(value), 6) for name, value in details.items()}
    return {"accuracy": round(float(means.mean()), 6), "details": [rounded]}
