"""Confidence intervals of test results, from probabilities (N, classes) and labels (N,), from 0.

An interval says how far a result may lie from that of infinitely many images of the same kind, for one trained model. How
much training itself varies is another question: see the standard deviations over seeds in stage `compare`.

How often each interval holds the true value was measured by simulation: `tests/coverage.md`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from stages.parameters.statistics import Statistics
from stages.scoring.temperature import SMALLEST
from stages.scoring.wilson import wilson


def wilson_f1(hits: int, others: int, confidence: float) -> tuple[float, float]:
    """Interval of the F1 of one class, from Wilson's interval of a share.

    F1 = 2 TP / (2 TP + FP + FN) grows with the share s = TP / (TP + FP + FN), since F1 = 2 s / (1 + s). Source: Lam, Gopal
    and Qian, "Confidence intervals for the F1 score: a comparison of four methods" (2023), the Wilson indirect method.
    `hits` are TP, `others` FP + FN; the ends are 0 and 1 without images.
    """
    low, high = wilson(hits, hits + others, confidence)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def f1_of(codes: np.ndarray, classes: int) -> np.ndarray:
    """F1 of each class in each of many samples.

    Args:
        codes: Integers (samples, N): `classes` x actual class + predicted class.
        classes: Their number.

    Returns:
        float64 (classes, samples): 2 TP / (2 TP + FP + FN); 0 for a class that neither occurs nor is predicted.
    """
    pairs = classes**2
    shifted = codes + pairs * np.arange(len(codes))[:, None]
    counts = np.bincount(shifted.ravel(), minlength=pairs * len(codes)).reshape(-1, classes, classes)
    hits, actual, predicted = np.einsum("sii->si", counts), counts.sum(axis=2), counts.sum(axis=1)
    return (2 * hits / np.maximum(actual + predicted, 1)).T


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], images: int, parameters: Statistics) -> np.ndarray:
    """Percentile bootstrap intervals, over images drawn with replacement.

    Not for a statistic whose estimate is biased, such as the calibration error: each resample adds the bias once more.
    Source: Efron and Tibshirani, "An introduction to the bootstrap" (1993), chapter 13.

    Args:
        statistic: From image numbers, int (samples, N), to values, (..., samples).
        images: N.
        parameters: `resamples`, `confidence` and `seed` are read.

    Returns:
        Lower and upper ends, float64 (2, ...).
    """
    interval = stats.bootstrap(
        (np.arange(images),),
        lambda indices, axis: statistic(np.atleast_2d(indices)),
        n_resamples=parameters.resamples,
        confidence_level=parameters.confidence,
        method="percentile",
        batch=100,
        vectorized=True,
        rng=np.random.default_rng(parameters.seed),
    ).confidence_interval
    return np.array([interval.low, interval.high])


def with_intervals(probabilities: np.ndarray, labels: np.ndarray, parameters: Statistics) -> dict[str, list[float]]:
    """The scores of a model with their intervals.

    Args:
        probabilities: (N, classes); rows sum to 1.
        labels: (N,), from 0.
        parameters: `resamples`, `confidence` and `seed` are read.

    Returns:
        Value, lower and upper end, rounded to six decimals, of

        - `accuracy`, 0 to 1, with Wilson's interval;
        - `macro_f1`, the mean of the classes' F1, 0 to 1, with a bootstrap interval, as the next two;
        - `loss`, the mean negative log-likelihood in nats, 0 or more;
        - `brier`, the mean over images of the squared errors summed over the classes, from 0 (certain and right) to 2
          (certain and wrong).
    """
    predicted, (count, classes) = probabilities.argmax(axis=1), probabilities.shape
    hits = int((predicted == labels).sum())
    codes = classes * labels.astype(int) + predicted
    losses = -np.log(np.maximum(probabilities[np.arange(count), labels], SMALLEST))
    squares = ((probabilities - np.eye(classes)[labels]) ** 2).sum(axis=1)

    def statistic(chosen: np.ndarray) -> np.ndarray:
        return np.stack(
            [f1_of(codes[chosen], classes).mean(axis=0), losses[chosen].mean(axis=1), squares[chosen].mean(axis=1)]
        )

    values = statistic(np.arange(count)[None])[:, 0]
    ends = bootstrap(statistic, count, parameters).T  # (3, 2)
    result = {"accuracy": [hits / count, *wilson(hits, count, parameters.confidence)]}
    for name, value, (low, high) in zip(("macro_f1", "loss", "brier"), values, ends, strict=True):
        result[name] = [float(value), float(low), float(high)]
    return {name: [round(number, 6) for number in numbers] for name, numbers in result.items()}


def class_intervals(
    probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str], parameters: Statistics
) -> pd.DataFrame:
    """Precision, recall and F1 of each class, with Wilson's intervals.

    Args:
        probabilities: (N, classes); rows sum to 1.
        labels: (N,), from 0.
        names: Of the classes.
        parameters: `confidence` is read.

    Returns:
        One row per class: class; f1, precision and recall, 0 to 1, each with its ends, `_low` and `_high`. A value without
        images is 0, and its interval is (0, 1).
    """
    predicted = probabilities.argmax(axis=1)
    rows = []
    for which, name in enumerate(names):
        answered, actual = int((predicted == which).sum()), int((labels == which).sum())
        hits = int(((predicted == which) & (labels == which)).sum())
        of_f1 = wilson_f1(hits, answered + actual - 2 * hits, parameters.confidence)
        row: dict = {"class": name}
        for metric, share, ends in (
            ("f1", 2 * hits / max(answered + actual, 1), of_f1),
            ("precision", hits / max(answered, 1), wilson(hits, answered, parameters.confidence)),
            ("recall", hits / max(actual, 1), wilson(hits, actual, parameters.confidence)),
        ):
            row |= {metric: share, f"{metric}_low": ends[0], f"{metric}_high": ends[1]}
        rows.append(row)
    return pd.DataFrame(rows)
