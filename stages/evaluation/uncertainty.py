"""How sure the numbers are: intervals, paired tests, calibration. From probabilities (N, 10) and labels (N,), 0-9.

Two uncertainties are kept apart. Intervals here say how far a number may lie from that of infinitely many pictures of the
same kind, for this one trained model. The deviation over seeds, in `compare`, says how much training itself varies.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, log_loss

from stages.dataset import CLASS_NAMES
from stages.parameters import Statistics

LEAST = 1e-12  # a probability of 0 counts as this one where its logarithm is taken


def wilson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Interval of a share. Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).

    Returns:
        Lower and upper end, 0 to 1; all of it, (0, 1), where there were no trials.
    """
    if not trials:
        return 0.0, 1.0
    interval = stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def f1_of(codes: np.ndarray) -> np.ndarray:
    """F1 of each class in each of many samples.

    Args:
        codes: Integers (samples, N): 10 x actual class + predicted class.

    Returns:
        float64 (10, samples): 2 TP / (2 TP + FP + FN); 0 for a class that is neither there nor predicted.
    """
    shifted = codes + 100 * np.arange(len(codes))[:, None]
    counts = np.bincount(shifted.ravel(), minlength=100 * len(codes)).reshape(-1, 10, 10)
    hits, actual, predicted = np.einsum("sii->si", counts), counts.sum(axis=2), counts.sum(axis=1)
    return (2 * hits / np.maximum(actual + predicted, 1)).T


def calibration_error(confidences: np.ndarray, correct: np.ndarray, bins: int) -> np.ndarray:
    """Expected calibration error (ECE) of the likeliest class, in each of many samples.

    The pictures fall into `bins` equally wide bins of confidence; ECE is the mean, weighted by pictures, of the absolute
    difference of accuracy and mean confidence in each (the L1 norm). Source: Guo et al., "On calibration of modern neural
    networks" (2017).

    Args:
        confidences: Probability of the predicted class, (samples, N).
        correct: Whether it was right, (samples, N).

    Returns:
        (samples,), each from 0 to 1.
    """
    samples, pictures = confidences.shape
    places = bin_of(confidences, bins) + bins * np.arange(samples)[:, None]
    gaps = np.bincount(places.ravel(), (correct - confidences).ravel(), minlength=bins * samples)
    return np.abs(gaps.reshape(samples, bins)).sum(axis=1) / pictures


def bin_of(confidences: np.ndarray, bins: int) -> np.ndarray:
    """The number, from 0, of the bin (lower, upper] that each confidence falls into."""
    return np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], pictures: int, parameters: Statistics) -> np.ndarray:
    """Percentile interval of a statistic over resampled pictures. Source: Efron and Tibshirani (1993), chapter 13.

    Args:
        statistic: From indices of pictures, (samples, N), to values, (..., samples).
        pictures: N.

    Returns:
        Lower and upper ends, (2, ...).
    """
    interval = stats.bootstrap(
        (np.arange(pictures),),
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
    """What a model scored, with intervals: for each name a list of value, lower and upper end.

    Returns:
        `accuracy` (Wilson); and, by the bootstrap: `macro_f1`; `loss`, the mean negative log-likelihood, nats; `brier`, the
        mean over pictures of the squared differences summed over all classes, from 0 (sure and right) to 2 (sure and
        wrong); `ece`, see `calibration_error`.
    """
    predicted, count = probabilities.argmax(axis=1), len(labels)
    correct, confidences = predicted == labels, probabilities.max(axis=1)
    codes = 10 * labels.astype(int) + predicted
    losses = -np.log(np.maximum(probabilities[np.arange(count), labels], LEAST))
    squares = ((probabilities - np.eye(10)[labels]) ** 2).sum(axis=1)
    statistics: dict[str, Callable] = {
        "macro_f1": lambda chosen: f1_of(codes[chosen]).mean(axis=0),
        "loss": lambda chosen: losses[chosen].mean(axis=1),
        "brier": lambda chosen: squares[chosen].mean(axis=1),
        "ece": lambda chosen: calibration_error(confidences[chosen], correct[chosen], parameters.bins),
    }
    result = {"accuracy": [float(correct.mean()), *wilson(correct.sum(), count, parameters.confidence)]}
    for name, statistic in statistics.items():
        value = float(statistic(np.arange(count)[None])[0])
        result[name] = [value, *map(float, bootstrap(statistic, count, parameters))]
    return {name: [round(number, 6) for number in numbers] for name, numbers in result.items()}


def class_intervals(probabilities: np.ndarray, labels: np.ndarray, parameters: Statistics) -> pd.DataFrame:
    """A row a class: precision and recall with Wilson's intervals, F1 with the bootstrap's (`_low`, `_high`)."""
    predicted = probabilities.argmax(axis=1)
    codes = 10 * labels.astype(int) + predicted
    low, high = bootstrap(lambda chosen: f1_of(codes[chosen]), len(labels), parameters)
    table = pd.DataFrame({"class": CLASS_NAMES, "f1": f1_of(codes[None])[:, 0], "f1_low": low, "f1_high": high})
    for name, among in (("precision", predicted), ("recall", labels)):
        hits = [((predicted == which) & (labels == which)).sum() for which in range(10)]
        trials = [(among == which).sum() for which in range(10)]
        ends = [wilson(hit, trial, parameters.confidence) for hit, trial in zip(hits, trials, strict=True)]
        table[name] = np.array(hits) / np.maximum(trials, 1)
        table[[f"{name}_low", f"{name}_high"]] = ends
    return table


def compare_pairs(correct: dict[str, np.ndarray], confidence: float) -> pd.DataFrame:
    """All pairs of models on the same pictures, the better one first.

    The p-value is that of the exact test of McNemar (1947): of the pictures that one model has right and the other wrong,
    each is right as often as the other. Holm's step-down correction (1979) keeps the chance of one false alarm in the
    whole table at most 1 - `confidence`. The interval of the difference is that of Bonett and Price, "Adjusted Wald
    confidence interval for a difference of binomial proportions based on paired data" (2012), for each pair alone.

    Args:
        correct: For each model whether it has a picture right, bool (N,).

    Returns:
        A row a pair: better, worse, only_better (pictures that only the better one has right), only_worse, difference of
        the accuracies with difference_low and difference_high, p, p_holm, verdict.
    """
    names = sorted(correct, key=lambda name: -correct[name].mean())
    z = stats.norm.ppf((1 + confidence) / 2)
    rows = []
    for place, better in enumerate(names):
        for worse in names[place + 1 :]:
            n = len(correct[better])
            wins = int((correct[better] & ~correct[worse]).sum())
            losses = int((~correct[better] & correct[worse]).sum())
            p = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
            a, b = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
            half = z * np.sqrt((a + b - (a - b) ** 2) / (n + 2))
            rows.append((better, worse, wins, losses, (wins - losses) / n, a - b - half, a - b + half, p))
    columns = ["better", "worse", "only_better", "only_worse", "difference", "difference_low", "difference_high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = holm(table["p"].to_numpy())
    table["verdict"] = [verdict(row, 1 - confidence) for row in table.itertuples()]
    return table


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p-values, in the order given.

    Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(adjusted, 1)


def verdict(row, level: float) -> str:
    """One pair in words."""
    if row.p_holm < level:
        return f"{row.better} is better than {row.worse}"
    return f"{row.better} and {row.worse} cannot be told apart"


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The T for which softmax(log p / T) has the lowest mean negative log-likelihood; fitted on validation alone.

    Above 1 the model was too sure, below 1 not sure enough. Source: Guo et al. (2017), temperature scaling.
    """

    def loss(log_temperature: float) -> float:
        return log_loss(labels, with_temperature(probabilities, np.exp(log_temperature)), labels=range(10))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / T), float64 (N, 10): the order of the classes, and so the accuracy, stays."""
    return softmax(np.log(np.maximum(probabilities.astype(np.float64), LEAST)) / temperature, axis=1)


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> dict[str, float]:
    """`loss`, `brier` (scikit-learn's, 0 to 2) and `ece` of the probabilities, without intervals."""
    correct = probabilities.argmax(axis=1) == labels
    return {
        "loss": round(float(log_loss(labels, probabilities, labels=range(10))), 6),
        "brier": round(float(brier_score_loss(labels, probabilities, labels=range(10), scale_by_half=False)), 6),
        "ece": round(float(calibration_error(probabilities.max(axis=1)[None], correct[None], bins)[0]), 6),
    }


def reliability(probabilities: np.ndarray, labels: np.ndarray, parameters: Statistics) -> pd.DataFrame:
    """A row a bin of confidence that holds pictures: from, to, pictures, confidence (mean), accuracy, with its interval."""
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = bin_of(confidences, parameters.bins)
    rows = []
    for place in np.unique(places):
        inside = places == place
        hits, count = correct[inside].sum(), inside.sum()
        ends = wilson(hits, count, parameters.confidence)
        edges = (place / parameters.bins, (place + 1) / parameters.bins)
        rows.append((*edges, count, confidences[inside].mean(), hits / count, *ends))
    columns = ["from", "to", "pictures", "confidence", "accuracy", "accuracy_low", "accuracy_high"]
    return pd.DataFrame(rows, columns=columns)


def coverage(probabilities: np.ndarray, labels: np.ndarray, shares: Sequence[float]) -> pd.DataFrame:
    """Accuracy where the model may abstain: a row a share of the pictures, the most confident ones, that it answers."""
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidences, kind="stable")
    rows = []
    for share in shares:
        answered = order[: max(1, round(share * len(order)))]
        rows.append((share, len(answered), confidences[answered[-1]], correct[answered].mean()))
    return pd.DataFrame(rows, columns=["coverage", "pictures", "threshold", "accuracy"])
