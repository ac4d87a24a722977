"""How well probabilities, (N, classes), agree with how often the model is right; labels are (N,), from 0."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.parameters.statistics import Statistics
from stages.scoring.scores import SMALLEST
from stages.scoring.wilson import wilson


def calibration_error(confidences: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """Expected calibration error (ECE) of the predicted class.

    The images fall into `bins` equally wide bins of confidence. The ECE is the mean over bins, weighted by images, of the
    absolute difference between accuracy and mean confidence. Source: Guo et al., "On calibration of modern neural
    networks" (2017).

    It has no interval: with finitely many images the ECE is biased upwards, most where the model is calibrated, and in
    simulations a percentile bootstrap never held the true value of such a model (0), a basic bootstrap only half of the
    time. `ece_if_calibrated` says how large the ECE becomes by chance alone.

    Args:
        confidences: Probability of the predicted class, (N,), 0 to 1.
        correct: Whether the predicted class is the label, bool (N,).
        bins: 1 or more.

    Returns:
        From 0 to 1.
    """
    gaps = np.bincount(bin_of(confidences, bins), correct - confidences, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))


def ece_if_calibrated(probabilities: np.ndarray, parameters: Statistics) -> dict[str, float]:
    """The ECE that a perfectly calibrated model with the same confidences has by chance.

    In each of `resamples` simulated test sets, an image is right with a chance that equals its confidence. Source: Bröcker
    and Smith, "Increasing the reliability of reliability diagrams" (2007); here the confidences stay as they are.

    Args:
        probabilities: (N, classes); rows sum to 1.
        parameters: `bins`, `resamples`, `confidence` and `seed` are read.

    Returns:
        Rounded to six decimals: `ece_if_calibrated`, the mean; and `ece_if_calibrated_high`, which a calibrated model
        exceeds in a share of 1 - `confidence` of all test sets. A larger ECE is evidence that the model is not calibrated.
    """
    confidences = probabilities.max(axis=1)
    rng = np.random.default_rng(parameters.seed)
    by_chance = [
        calibration_error(confidences, rng.random(len(confidences)) < confidences, parameters.bins)
        for _ in range(parameters.resamples)
    ]
    return {
        "ece_if_calibrated": round(float(np.mean(by_chance)), 6),
        "ece_if_calibrated_high": round(float(np.quantile(by_chance, parameters.confidence)), 6),
    }


def bin_of(confidences: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each confidence, int (N,), 0 to `bins` - 1. A bin holds its upper edge, the first also its lower one."""
    return np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> dict[str, float]:
    """Scores of the probabilities, without intervals, rounded to six decimals.

    Args:
        probabilities: (N, classes); rows sum to 1.
        labels: (N,), from 0.
        bins: Of the calibration error.

    Returns:
        `loss`, the mean negative log-likelihood in nats; `brier`, from 0 (certain and right) to 2 (certain and wrong);
        `ece`, see `calibration_error`.
    """
    right, squares = probabilities[np.arange(len(labels)), labels], (probabilities**2).sum(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    return {
        "loss": round(float(-np.log(np.maximum(right, SMALLEST)).mean()), 6),
        "brier": round(float((squares - 2 * right + 1).mean()), 6),
        "ece": round(calibration_error(probabilities.max(axis=1), correct, bins), 6),
    }


def reliability(probabilities: np.ndarray, labels: np.ndarray, parameters: Statistics) -> pd.DataFrame:
    """Accuracy by confidence.

    Args:
        probabilities: (N, classes); rows sum to 1.
        labels: (N,), from 0.
        parameters: `bins` and `confidence` are read.

    Returns:
        One row per bin that holds images: from and to, its edges; images; confidence, the mean; accuracy with its ends
        accuracy_low and accuracy_high (Wilson).
    """
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = bin_of(confidences, parameters.bins)
    rows = []
    for place in np.unique(places):
        inside = places == place
        hits, count = correct[inside].sum(), inside.sum()
        ends = wilson(hits, count, parameters.confidence)
        edges = (place / parameters.bins, (place + 1) / parameters.bins)
        rows.append((*edges, count, confidences[inside].mean(), hits / count, *ends))
    columns = ["from", "to", "images", "confidence", "accuracy", "accuracy_low", "accuracy_high"]
    return pd.DataFrame(rows, columns=columns)


def coverage(probabilities: np.ndarray, labels: np.ndarray, shares: Sequence[float]) -> pd.DataFrame:
    """Accuracy of a model that answers only for the images it is most confident about, and abstains from the others.

    Args:
        probabilities: (N, classes); rows sum to 1.
        labels: (N,), from 0.
        shares: Of the images to be answered, each above 0, at most 1.

    Returns:
        One row per share: coverage, the share; images, at least 1; threshold, the lowest confidence answered; accuracy.
    """
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidences, kind="stable")
    rows = []
    for share in shares:
        answered = order[: max(1, round(share * len(order)))]
        rows.append((share, len(answered), confidences[answered[-1]], correct[answered].mean()))
    return pd.DataFrame(rows, columns=["coverage", "images", "threshold", "accuracy"])
