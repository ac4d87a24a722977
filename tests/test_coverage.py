"""How often the intervals hold the true value, in simulated test sets from populations whose true values are known.

The slow tests run a short simulation. `python -m tests.test_coverage` runs the long one, which takes minutes, and writes
`tests/coverage.md`. Accuracies, precision, recall and F1 (by way of a share) have Wilson's interval, whose coverage is
computed exactly.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import softmax
from tabulate import tabulate

from stages.base.files import write_text
from stages.comparison import calibration, intervals, significance
from stages.parameters.statistics import Statistics
from stages.scoring.temperature import SMALLEST, with_temperature
from stages.scoring.wilson import wilson

TABLE = Path(__file__).with_name("coverage.md")
POPULATION = 100_000  # images, drawn from with replacement
# Accuracy (%), and how the probabilities compare with the truth, of simulated models; see `Model`: sharpness, temperature.
MODELS = {"84 %, calibrated": (1.57, 1.0), "92 %, too sure": (3.0, 0.67), "95 %, not sure enough": (4.5, 1.5)}


@dataclass(frozen=True)
class Effort:
    """How long to simulate."""

    repetitions: int  # simulated test sets; of pairs of models twice as many
    images: int  # of each test set
    resamples: int  # of each bootstrap


SHORT, LONG = Effort(200, 1000, 200), Effort(1000, 10_000, 1000)


class Model:
    """A model, and a population of images whose classes have known chances.

    Five classes are mixed up with each other, as the garments of Fashion-MNIST are; the others are easy.

    Attributes:
        posterior: The chance of each class, given the image, (POPULATION, 10). Labels are drawn from it.
        probabilities: What the model says: the posterior with a temperature. Above 1 the model is less sure than it may be.
        truth: The true values of the scores that have bootstrap intervals.
    """

    def __init__(self, sharpness: float, temperature: float) -> None:
        rng, every = np.random.default_rng(0), np.arange(POPULATION)
        kind, scores = rng.integers(0, 10, POPULATION), rng.normal(size=(POPULATION, 10))
        scores += 2.5 * ((kind[:, None] < 5) == (np.arange(10) < 5))
        scores[every, kind] += np.linspace(1.2, 5, 10)[kind]
        self.posterior = q = softmax(sharpness * scores, axis=1)
        self.cumulative = q.cumsum(axis=1)
        self.probabilities = p = with_temperature(q, temperature)
        counts = np.stack([q[p.argmax(axis=1) == which].sum(axis=0) for which in range(10)])  # predicted, actual
        self.truth = {
            "macro_f1": (2 * np.diag(counts) / (counts.sum(axis=1) + counts.sum(axis=0))).mean(),
            "loss": -(q * np.log(np.maximum(p, SMALLEST))).sum(axis=1).mean(),
            "brier": ((p**2).sum(axis=1) - 2 * (p * q).sum(axis=1) + 1).mean(),
        }

    def draw(self, images: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of randomly drawn images of the population, and their labels, both (images,)."""
        chosen = rng.integers(0, POPULATION, images)
        labels = (self.cumulative[chosen] < rng.random((images, 1))).sum(axis=1)
        return chosen, np.minimum(labels, 9)  # the sum of all chances may be a little less than 1

    @cache  # noqa: B019  there are three models
    def guesses(self, noises: tuple[float, ...]) -> np.ndarray:
        """Predictions of models that see the images with more or less noise, int (len(noises), POPULATION)."""
        logits, rng = np.log(self.posterior), np.random.default_rng(5)
        return np.stack([(logits + noise * rng.normal(size=logits.shape)).argmax(axis=1) for noise in noises])


@cache
def model(name: str) -> Model:
    return Model(*MODELS[name])


# Each of the next functions gets a model, the images and labels of a simulated test set, and parameters. It says, by the
# name of what an interval is of, whether that interval (or each of several) holds the true value.


def scores(ours: Model, chosen: np.ndarray, labels: np.ndarray, parameters: Statistics) -> dict:
    found = intervals.with_intervals(ours.probabilities[chosen], labels, parameters)
    return {metric: [found[metric][1] <= true <= found[metric][2]] for metric, true in ours.truth.items()}


def pairs(ours: Model, chosen: np.ndarray, labels: np.ndarray, parameters: Statistics) -> dict:
    found = ours.guesses((0, 0.2, 0.5, 1, 1.5, 2))
    truth, held = ours.posterior[np.arange(POPULATION), found].mean(axis=1), {}
    for row in significance.compare_pairs(dict(enumerate(found[:, chosen] == labels)), 0.95).itertuples():
        difference = truth[row.better] - truth[row.worse]
        held[frozenset((row.better, row.worse))] = row.difference_low <= difference <= row.difference_high
    return {"difference of a pair": [held[frozenset(pair)] for pair in combinations(range(6), 2)]}


def by_chance(ours: Model, chosen: np.ndarray, labels: np.ndarray, parameters: Statistics) -> dict:
    """Of a calibrated model, the calibration error is to stay within what `ece_if_calibrated` says."""
    chances = ours.posterior[chosen]
    high = calibration.ece_if_calibrated(chances, parameters)["ece_if_calibrated_high"]
    return {"ece_if_calibrated_high": [calibration.calibration(chances, labels, parameters.bins)["ece"] <= high]}


# The method and the seed of each, and how often it is repeated.
CHECKS = {scores: ("percentile bootstrap", 1, 1), pairs: ("Bonett-Price", 6, 2), by_chance: ("simulation", 4, 1)}


def simulate(effort: Effort, names: Iterable[str]) -> pd.DataFrame:
    """One row per kind of interval and model, in %: coverage, a mean over pairs or shares, lowest and highest."""
    rows = []
    for check, name in ((check, name) for check in CHECKS for name in names):
        (method, seed, times), held = CHECKS[check], defaultdict(list)
        rng = np.random.default_rng(seed)
        for repetition in range(times * effort.repetitions):
            parameters = Statistics(confidence=0.95, resamples=effort.resamples, bins=15, seed=repetition)
            for what, each in check(model(name), *model(name).draw(effort.images, rng), parameters).items():
                held[what].append(each)
        shown = f"{name.partition(',')[0]}, calibrated" if check is by_chance else name
        for what, each in held.items():
            rows.append((what, method, shown, effort.images, str(len(each)), np.mean(each, axis=0)))
    rows += [shares(trials, np.arange(10, 98) / 100) for trials in (10_000, 1000, 100)]
    rows.append(shares(40, np.arange(2, 51) / 100))
    table = pd.DataFrame([row[:-1] for row in rows], columns=["what", "method", "model", "images", "repetitions"])
    each = [100 * row[-1] for row in rows]
    table["coverage"] = [values.mean() for values in each]
    table["lowest"] = [values.min() if len(values) > 1 else None for values in each]
    table["highest"] = [values.max() if len(values) > 1 else None for values in each]
    return table


def shares(trials: int, true: np.ndarray) -> tuple:
    """A row of the table: coverage of Wilson's interval for each true share, computed exactly."""
    ends = np.array([wilson(hits, trials, 0.95) for hits in range(trials + 1)])
    held = (ends[:, 0, None] <= true) & (true <= ends[:, 1, None])
    chances = stats.binom.pmf(np.arange(trials + 1)[:, None], trials, true)
    return "a share", "Wilson", f"shares {true[0]:g} to {true[-1]:g}", trials, "exact", (held * chances).sum(axis=0)


def false_claims(name: str, effort: Effort, equal: int) -> float:
    """How often a table of six models calls two equally good ones different.

    Args:
        equal: Models that are equally good, first of the six; the others, too, are equal to each other, but worse.
    """
    ours, rng, claims = model(name), np.random.default_rng(7), 0
    found = ours.guesses((0.5,) * equal + (2,) * (6 - equal))
    for _ in range(2 * effort.repetitions):
        chosen, labels = ours.draw(effort.images, rng)
        right = found[:, chosen] == labels
        # What one model has right another one could have: the models of a group are equal exactly, and stay correlated.
        right = np.concatenate([rng.permuted(part, axis=0) for part in (right[:equal], right[equal:])])
        table = significance.compare_pairs(dict(enumerate(right)), 0.95)
        claims += ((table["p_holm"] < 0.05) & ((table["better"] < equal) == (table["worse"] < equal))).any()
    return claims / (2 * effort.repetitions)


@pytest.mark.slow
def test_intervals_hold_the_true_value_about_as_often_as_they_say():
    table = simulate(SHORT, ["84 %, calibrated"])
    lower, upper = stats.binom.ppf([0.001, 0.999], SHORT.repetitions, [0.93, 0.97]) / SHORT.repetitions * 100
    values = table[["coverage", "lowest", "highest"]].astype(float)
    outside = table[((values < lower) | (values > upper)).any(axis=1)]
    assert outside.empty, outside.to_string()


@pytest.mark.slow
def test_equal_models_are_seldom_called_different():
    upper = stats.binom.ppf(0.999, 2 * SHORT.repetitions, 0.05) / (2 * SHORT.repetitions)
    assert false_claims("84 %, calibrated", SHORT, equal=3) <= upper


def test_wilsons_interval_holds_shares_as_often_as_it_says():
    *_, coverage = shares(40, np.arange(2, 51) / 100)
    assert coverage.mean() == pytest.approx(0.95, abs=0.01)
    assert coverage.min() > 0.9


def main() -> None:
    """Write the two tables of `coverage.md` anew."""
    table = simulate(LONG, MODELS).astype(object)
    claims = [
        (words, 2 * LONG.repetitions, 100 * false_claims("92 %, too sure", LONG, equal))
        for equal, words in ((6, "6 equally good"), (3, "3 equally good, 3 equally worse"))
    ]
    headers = ["models", "repetitions", "with a false claim, %"]
    first = table.where(table.notna(), None).to_markdown(index=False, floatfmt=".1f", missingval="")
    tables = iter((first, tabulate(claims, headers, "pipe", floatfmt=".1f")))
    write_text(TABLE, re.sub(r"(\|.*\n)+", lambda _: f"{next(tables)}\n", TABLE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
