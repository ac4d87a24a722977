"""How often the intervals hold the true value, in simulated test sets from populations whose true values are known.

The slow tests run a short simulation. `python -m tests.test_coverage` runs the long one, which took 11 minutes on one core,
and writes `tests/coverage.md`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
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
BINS = 15
# Accuracy (%), and how the probabilities compare with the truth, of simulated models; see `Model`: sharpness, temperature.
MODELS = {"84 %, calibrated": (1.57, 1.0), "92 %, too sure": (3.0, 0.67), "95 %, not sure enough": (4.5, 1.5)}


@dataclass(frozen=True)
class Effort:
    """How long to simulate."""

    repetitions: int  # simulated test sets, where each needs a bootstrap or another simulation
    cheap_repetitions: int  # where it does not
    images: int  # of each test set
    resamples: int  # of each bootstrap

    def parameters(self, seed: int) -> Statistics:
        return Statistics(confidence=0.95, resamples=self.resamples, bins=BINS, seed=seed)


SHORT, LONG = Effort(300, 300, 1000, 200), Effort(1000, 2000, 10_000, 1000)


class Model:
    """A model, and a population of images whose classes have known chances.

    Five classes are mixed up with each other, as the garments of Fashion-MNIST are; the others are easy.

    Attributes:
        posterior: The chance of each class, given the image, (POPULATION, 10). Labels are drawn from it.
        probabilities: What the model says: the posterior with a temperature. Above 1 the model is less sure than it may be.
        right: The chance that the prediction is right, (POPULATION,).
        places: The bin of each image's confidence, (POPULATION,).
    """

    def __init__(self, sharpness: float, temperature: float) -> None:
        rng = np.random.default_rng(0)
        kind = rng.integers(0, 10, POPULATION)
        scores = rng.normal(size=(POPULATION, 10))
        scores += 2.5 * ((kind[:, None] < 5) == (np.arange(10) < 5))
        scores[np.arange(POPULATION), kind] += np.linspace(1.2, 5, 10)[kind]
        self.posterior = softmax(sharpness * scores, axis=1)
        self.cumulative = self.posterior.cumsum(axis=1)
        self.probabilities = with_temperature(self.posterior, temperature)
        self.predicted = self.probabilities.argmax(axis=1)
        self.right = self.posterior[np.arange(POPULATION), self.predicted]
        self.places = calibration.bin_of(self.probabilities.max(axis=1), BINS)

    def draw(self, images: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of randomly drawn images of the population, and their labels, both (images,)."""
        chosen = rng.integers(0, POPULATION, images)
        labels = (self.cumulative[chosen] < rng.random((images, 1))).sum(axis=1)
        return chosen, np.minimum(labels, 9)  # the sum of all chances may be a little less than 1

    @cached_property
    def truth(self) -> dict[str, float]:
        """The true values of the scores."""
        p, q = self.probabilities, self.posterior
        gaps = np.bincount(self.places, self.right - p.max(axis=1), minlength=BINS)
        return {
            "accuracy": self.right.mean(),
            "macro_f1": self.class_truth["f1"].mean(),
            "loss": -(q * np.log(np.maximum(p, SMALLEST))).sum(axis=1).mean(),
            "brier": ((p**2).sum(axis=1) - 2 * (p * q).sum(axis=1) + 1).mean(),
            "ece": np.abs(gaps).sum() / POPULATION,
        }

    @cached_property
    def class_truth(self) -> dict[str, np.ndarray]:
        """The true precision, recall and F1 of each class, each (10,)."""
        counts = np.stack([self.posterior[self.predicted == which].sum(axis=0) for which in range(10)])
        hits, predicted, actual = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
        return {"precision": hits / predicted, "recall": hits / actual, "f1": 2 * hits / (predicted + actual)}

    @cached_property
    def bin_truth(self) -> np.ndarray:
        """The true accuracy of each bin, (BINS,)."""
        return np.bincount(self.places, self.right) / np.maximum(np.bincount(self.places), 1)

    @cache  # noqa: B019  there are three models
    def guesses(self, noises: Sequence[float]) -> np.ndarray:
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
    return {metric: [low <= ours.truth[metric] <= high] for metric, (_, low, high) in found.items()}


def classes(ours: Model, chosen: np.ndarray, labels: np.ndarray, parameters: Statistics) -> dict:
    table = intervals.class_intervals(ours.probabilities[chosen], labels, parameters)
    return {
        f"{metric} of each class": table[f"{metric}_low"].le(values) & table[f"{metric}_high"].ge(values)
        for metric, values in ours.class_truth.items()
    }


def bins(ours: Model, chosen: np.ndarray, labels: np.ndarray, parameters: Statistics) -> dict:
    table = calibration.reliability(ours.probabilities[chosen], labels, parameters)
    truth = ours.bin_truth[np.unique(ours.places[chosen])]
    every = table["accuracy_low"].le(truth) & table["accuracy_high"].ge(truth)
    return {"accuracy of a bin": every, "accuracy of a bin, fewer than 30 images": every[table["images"] < 30]}


def pairs(ours: Model, chosen: np.ndarray, labels: np.ndarray, parameters: Statistics) -> dict:
    found = ours.guesses((0, 0.2, 0.5, 1, 1.5, 2))
    truth = [ours.posterior[np.arange(POPULATION), each].mean() for each in found]
    held = {}
    for row in significance.compare_pairs(dict(enumerate(found[:, chosen] == labels)), 0.95).itertuples():
        difference = truth[row.better] - truth[row.worse]
        held[frozenset((row.better, row.worse))] = row.difference_low <= difference <= row.difference_high
    return {"difference of a pair": [held[frozenset(pair)] for pair in combinations(range(6), 2)]}


def by_chance(ours: Model, chosen: np.ndarray, labels: np.ndarray, parameters: Statistics) -> dict:
    """Whether the calibration error of a calibrated model stays within what `ece_if_calibrated` says."""
    chances = ours.posterior[chosen]
    high = calibration.ece_if_calibrated(chances, parameters)["ece_if_calibrated_high"]
    return {"ece_if_calibrated_high": [calibration.calibration(chances, labels, BINS)["ece"] <= high]}


METHODS = {  # for the table, by what intervals are of
    **{"accuracy": "Wilson", "macro_f1": "percentile bootstrap", "loss": "percentile bootstrap"},
    **{"brier": "percentile bootstrap", "precision of each class": "Wilson", "recall of each class": "Wilson"},
    **{"f1 of each class": "Wilson, indirect", "accuracy of a bin": "Wilson", "difference of a pair": "Bonett-Price"},
    **{"accuracy of a bin, fewer than 30 images": "Wilson", "ece_if_calibrated_high": "simulation"},
}
SEEDS = {scores: 1, classes: 2, bins: 3, pairs: 6, by_chance: 4}


def simulate(effort: Effort, names: Iterable[str]) -> pd.DataFrame:
    """One row per kind of interval and model, in %: coverage, a mean over classes, pairs or shares, lowest and highest."""
    rows = []
    for check, name in ((check, name) for check in SEEDS for name in names):
        repetitions = effort.repetitions if check in (scores, by_chance) else effort.cheap_repetitions
        rng, held = np.random.default_rng(SEEDS[check]), defaultdict(list)
        for repetition in range(repetitions):
            drawn = model(name).draw(effort.images, rng)
            for what, each in check(model(name), *drawn, effort.parameters(repetition)).items():
                held[what].append(np.asarray(each))
        shown = f"{name.partition(',')[0]}, calibrated" if check is by_chance else name
        for what, each in held.items():
            share = (
                [np.concatenate(each).mean()] if check is bins else np.mean(each, axis=0)
            )  # not all bins hold images
            rows.append((what, METHODS[what], shown, effort.images, str(repetitions), share))
    rows.append(shares("accuracy on corrupted images", 1000, np.arange(10, 98) / 100))
    rows.append(shares("a share of few", 40, np.arange(2, 51) / 100))
    table = pd.DataFrame([row[:-1] for row in rows], columns=["what", "method", "model", "images", "repetitions"])
    each = [100 * np.asarray(row[-1]) for row in rows]
    table["coverage"] = [values.mean() for values in each]
    table["lowest"] = [values.min() if len(values) > 1 else None for values in each]
    table["highest"] = [values.max() if len(values) > 1 else None for values in each]
    return table


def shares(what: str, trials: int, true: np.ndarray) -> tuple:
    """A row of the table: coverage of Wilson's interval for each true share, computed exactly."""
    ends = np.array([wilson(hits, trials, 0.95) for hits in range(trials + 1)])
    held = (ends[:, 0, None] <= true) & (true <= ends[:, 1, None])
    chances = stats.binom.pmf(np.arange(trials + 1)[:, None], trials, true)
    return what, "Wilson", f"shares {true[0]:g} to {true[-1]:g}", trials, "exact", (held * chances).sum(axis=0)


def false_claims(name: str, effort: Effort, equal: int) -> float:
    """How often a table of six models calls two equally good ones different.

    Args:
        equal: Models that are equally good, first of the six; the others, too, are equal to each other, but worse.
    """
    ours, rng, claims = model(name), np.random.default_rng(7), 0
    found = ours.guesses((0.5,) * equal + (2,) * (6 - equal))
    for _ in range(effort.cheap_repetitions):
        chosen, labels = ours.draw(effort.images, rng)
        right = found[:, chosen] == labels
        # What one model has right another one could have: the models of a group are equal exactly, and stay correlated.
        right = np.concatenate([rng.permuted(part, axis=0) for part in (right[:equal], right[equal:])])
        table = significance.compare_pairs(dict(enumerate(right)), 0.95)
        claims += ((table["p_holm"] < 0.05) & ((table["better"] < equal) == (table["worse"] < equal))).any()
    return claims / effort.cheap_repetitions


@pytest.mark.slow
def test_intervals_hold_the_true_value_about_as_often_as_they_say():
    table = simulate(SHORT, ["84 %, calibrated"])
    lower, upper = stats.binom.ppf([0.001, 0.999], SHORT.repetitions, [0.93, 0.97]) / SHORT.repetitions * 100
    values = table[["coverage", "lowest", "highest"]].astype(float)
    outside = table[((values < lower) | (values > upper)).any(axis=1)]
    assert outside.empty, outside.to_string()


@pytest.mark.slow
def test_equal_models_are_seldom_called_different():
    upper = stats.binom.ppf(0.999, SHORT.cheap_repetitions, 0.05) / SHORT.cheap_repetitions
    assert false_claims("84 %, calibrated", SHORT, equal=3) <= upper


def test_wilsons_interval_holds_shares_as_often_as_it_says():
    *_, coverage = shares("", 40, np.arange(2, 51) / 100)
    assert coverage.mean() == pytest.approx(0.95, abs=0.01)
    assert coverage.min() > 0.9


@pytest.mark.parametrize(("name", "by_chance"), [("84 %, calibrated", True), ("92 %, too sure", False)])
def test_the_calibration_error_of_a_calibrated_model_alone_is_that_of_chance(name, by_chance):
    ours, rng = model(name), np.random.default_rng(0)
    assert (ours.truth["ece"] < 1e-9) == by_chance
    draws = [ours.draw(2000, rng) for _ in range(20)]
    found = [calibration.calibration(ours.probabilities[chosen], labels, BINS)["ece"] for chosen, labels in draws]
    chance = calibration.ece_if_calibrated(ours.probabilities[draws[0][0]], SHORT.parameters(0))
    assert (np.mean(found) == pytest.approx(chance["ece_if_calibrated"], rel=0.2)) == by_chance
    assert (np.mean(found) > chance["ece_if_calibrated_high"]) != by_chance


def test_the_committed_table_shows_every_interval_between_93_and_97_percent():
    lines = [line[1:-1].split("|") for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line] for line in lines]
    coverage = {(row[0], row[2]): float(row[5]) for row in rows if len(row) == 8 and row[5][0].isdigit()}
    assert {what for what, _ in coverage} >= set(METHODS)
    assert all(93 <= value <= 97 for value in coverage.values())
    claims = [float(row[2]) for row in rows if len(row) == 3 and row[2][0].isdigit()]
    assert 0 < max(claims) <= 5


CLAIMS = """
Tables of six models on the same images in which equally good models were called different (McNemar's exact test with
Holm's correction; at most 5 % allowed):

"""


def main() -> None:
    """Write the tables of `coverage.md` anew, below what stands above them."""
    table = simulate(LONG, MODELS).astype(object)
    table = table.where(table.notna(), None)
    claims = [
        (words, LONG.cheap_repetitions, 100 * false_claims("92 %, too sure", LONG, equal))
        for equal, words in ((6, "6 equally good"), (3, "3 equally good, 3 equally worse"))
    ]
    text = TABLE.read_text(encoding="utf-8").partition("\n| ")[0] + "\n"
    text += table.to_markdown(index=False, floatfmt=".1f", missingval="") + "\n" + CLAIMS
    text += tabulate(claims, ["models", "repetitions", "with a false claim, %"], "pipe", floatfmt=".1f") + "\n"
    write_text(TABLE, text)


if __name__ == "__main__":
    main()
