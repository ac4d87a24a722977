"""How often the intervals hold the true value, in simulated test sets from populations whose true values are known.

The tests run a short simulation. `python -m tests.test_coverage` runs the long one, which took 11 minutes on
one core, and writes `tests/coverage.md`.
"""

from collections.abc import Iterable, Iterator, Sequence
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

from stages.common.files import write_text
from stages.common.parameters import Statistics
from stages.evaluation import calibration, intervals, significance

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
    """

    def __init__(self, sharpness: float, temperature: float) -> None:
        rng = np.random.default_rng(0)
        kind = rng.integers(0, 10, POPULATION)
        scores = rng.normal(size=(POPULATION, 10))
        scores += 2.5 * ((kind[:, None] < 5) == (np.arange(10) < 5))
        scores[np.arange(POPULATION), kind] += np.linspace(1.2, 5, 10)[kind]
        self.posterior = softmax(sharpness * scores, axis=1)
        self.cumulative = self.posterior.cumsum(axis=1)
        self.probabilities = calibration.with_temperature(self.posterior, temperature)
        self.predicted = self.probabilities.argmax(axis=1)

    def draw(self, images: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of randomly drawn images of the population, and their labels, both (images,)."""
        chosen = rng.integers(0, POPULATION, images)
        labels = (self.cumulative[chosen] < rng.random((images, 1))).sum(axis=1)
        return chosen, np.minimum(labels, 9)  # the sum of all chances may be a little less than 1

    def truth(self) -> dict[str, float]:
        """The true values of the scores."""
        p, q = self.probabilities, self.posterior
        squares = (p**2).sum(axis=1) - 2 * (p * q).sum(axis=1) + 1
        gaps = np.bincount(self.places(), self.right() - p.max(axis=1), minlength=BINS)
        return {
            "accuracy": self.right().mean(),
            "macro_f1": self.class_truth()["f1"].mean(),
            "loss": -(q * np.log(np.maximum(p, intervals.LEAST))).sum(axis=1).mean(),
            "brier": squares.mean(),
            "ece": np.abs(gaps).sum() / POPULATION,
        }

    def class_truth(self) -> dict[str, np.ndarray]:
        """The true precision, recall and F1 of each class, each (10,)."""
        counts = np.stack([self.posterior[self.predicted == which].sum(axis=0) for which in range(10)])
        hits, predicted, actual = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
        return {"precision": hits / predicted, "recall": hits / actual, "f1": 2 * hits / (predicted + actual)}

    def right(self) -> np.ndarray:
        """The chance that the prediction is right, (POPULATION,)."""
        return self.posterior[np.arange(POPULATION), self.predicted]

    def places(self) -> np.ndarray:
        """The bin of each image's confidence, (POPULATION,)."""
        return calibration.bin_of(self.probabilities.max(axis=1), BINS)


@cache
def model(name: str) -> Model:
    return Model(*MODELS[name])


# What, method, model, images, repetitions, and the coverages, 0 to 1, of one interval or of several of a kind.
Row = tuple[str, str, str, int, str, Sequence[float]]


def scores(name: str, effort: Effort) -> Iterator[Row]:
    """Coverage of whatever `with_intervals` gives."""
    ours, rng, held = model(name), np.random.default_rng(1), {}
    truth = ours.truth()
    for repetition in range(effort.repetitions):
        chosen, labels = ours.draw(effort.images, rng)
        found = intervals.with_intervals(ours.probabilities[chosen], labels, effort.parameters(repetition))
        for metric, (_, low, high) in found.items():
            held.setdefault(metric, []).append(low <= truth[metric] <= high)
    for metric, each in held.items():
        method = "Wilson" if metric == "accuracy" else "percentile bootstrap"
        yield metric, method, name, effort.images, str(effort.repetitions), [np.mean(each)]


def classes(name: str, effort: Effort) -> Iterator[Row]:
    """Coverage of the intervals of precision, recall and F1, class by class."""
    ours, rng = model(name), np.random.default_rng(2)
    truth = ours.class_truth()
    held = {metric: np.zeros(10) for metric in truth}
    for _ in range(effort.cheap_repetitions):
        chosen, labels = ours.draw(effort.images, rng)
        table = intervals.class_intervals(ours.probabilities[chosen], labels, effort.parameters(0))
        for metric, values in truth.items():
            low, high = table[f"{metric}_low"].to_numpy(), table[f"{metric}_high"].to_numpy()
            held[metric] += (low <= values) & (values <= high)
    for metric, counts in held.items():
        method = "Wilson, indirect" if metric == "f1" else "Wilson"
        yield (
            f"{metric} of each class",
            method,
            name,
            effort.images,
            str(effort.cheap_repetitions),
            counts / effort.cheap_repetitions,
        )


def bins(name: str, effort: Effort) -> Iterator[Row]:
    """Coverage of the accuracies in the bins of confidence, over all bins, and over those of fewer than 30 images."""
    ours, rng, held, images = model(name), np.random.default_rng(3), [], []
    places = ours.places()
    truth = np.bincount(places, ours.right(), minlength=BINS) / np.maximum(np.bincount(places, minlength=BINS), 1)
    for _ in range(effort.cheap_repetitions):
        chosen, labels = ours.draw(effort.images, rng)
        table = calibration.reliability(ours.probabilities[chosen], labels, effort.parameters(0))
        values = truth[np.unique(places[chosen])]
        held.append((table["accuracy_low"] <= values) & (values <= table["accuracy_high"]))
        images.append(table["images"])
    every, few = np.concatenate(held), np.concatenate(images) < 30
    for what, each in (("accuracy of a bin", every), ("accuracy of a bin, fewer than 30 images", every[few])):
        yield what, "Wilson", name, effort.images, str(effort.cheap_repetitions), [each.mean()]


def by_chance(name: str, effort: Effort) -> Iterator[Row]:
    """How often the calibration error of a calibrated model stays within what `ece_if_calibrated` says."""
    ours, rng, held = model(name), np.random.default_rng(4), []
    for repetition in range(effort.repetitions):
        chosen, labels = ours.draw(effort.images, rng)
        chances = ours.posterior[chosen]
        ece = calibration.calibration(chances, labels, BINS)["ece"]
        held.append(
            ece <= calibration.ece_if_calibrated(chances, effort.parameters(repetition))["ece_if_calibrated_high"]
        )
    label = f"{name.split(',')[0]}, calibrated"
    yield "ece_if_calibrated_high", "simulation", label, effort.images, str(effort.repetitions), [np.mean(held)]


def guesses(name: str, noises: Sequence[float]) -> np.ndarray:
    """Predictions of models that see the images with more or less noise, int (len(noises), POPULATION)."""
    logits, rng = np.log(model(name).posterior), np.random.default_rng(5)
    return np.stack([(logits + noise * rng.normal(size=logits.shape)).argmax(axis=1) for noise in noises])


def pairs(name: str, effort: Effort) -> Iterator[Row]:
    """Coverage of the differences between six models of different accuracy, pair by pair."""
    ours, rng = model(name), np.random.default_rng(6)
    found = guesses(name, (0, 0.2, 0.5, 1, 1.5, 2))
    truth = [ours.posterior[np.arange(POPULATION), each].mean() for each in found]
    held = dict.fromkeys(combinations(range(6), 2), 0)
    for _ in range(effort.cheap_repetitions):
        chosen, labels = ours.draw(effort.images, rng)
        for row in significance.compare_pairs(dict(enumerate(found[:, chosen] == labels)), 0.95).itertuples():
            difference = truth[row.better] - truth[row.worse]
            held[min(row.better, row.worse), max(row.better, row.worse)] += (
                row.difference_low <= difference <= row.difference_high
            )
    shares = np.array(list(held.values())) / effort.cheap_repetitions
    yield "difference of a pair", "Bonett-Price", name, effort.images, str(effort.cheap_repetitions), shares


def false_claims(name: str, effort: Effort, equal: int) -> float:
    """How often a table of six models calls two equally good ones different.

    Args:
        equal: Models that are equally good, first of the six; the others, too, are equal to each other, but worse.
    """
    ours, rng = model(name), np.random.default_rng(7)
    found = guesses(name, [0.5] * equal + [2] * (6 - equal))
    claims = 0
    for _ in range(effort.cheap_repetitions):
        chosen, labels = ours.draw(effort.images, rng)
        right = found[:, chosen] == labels
        # What one model has right another one could have: the models of a group are equal exactly, and stay correlated.
        right = np.concatenate([rng.permuted(part, axis=0) for part in (right[:equal], right[equal:])])
        table = significance.compare_pairs(dict(enumerate(right)), 0.95)
        claims += ((table["p_holm"] < 0.05) & ((table["better"] < equal) == (table["worse"] < equal))).any()
    return claims / effort.cheap_repetitions


def shares(what: str, trials: int, true: np.ndarray) -> Row:
    """Coverage of Wilson's interval for each true share, computed exactly."""
    ends = np.array([intervals.wilson(hits, trials, 0.95) for hits in range(trials + 1)])
    held = (ends[:, 0, None] <= true) & (true <= ends[:, 1, None])
    chances = stats.binom.pmf(np.arange(trials + 1)[:, None], trials, true)
    return what, "Wilson", f"shares {true[0]:g} to {true[-1]:g}", trials, "exact", (held * chances).sum(axis=0)


def simulate(effort: Effort, names: Iterable[str]) -> pd.DataFrame:
    """One row per kind of interval and model, in %: coverage, a mean over classes, pairs or shares, lowest and highest."""
    rows = [row for kind in (scores, classes, bins, pairs, by_chance) for name in names for row in kind(name, effort)]
    rows.append(shares("accuracy on corrupted images", 1000, np.arange(10, 98) / 100))
    rows.append(shares("a share of few", 40, np.arange(2, 51) / 100))
    columns = ["what", "method", "model", "images", "repetitions"]
    table = pd.DataFrame([row[:-1] for row in rows], columns=columns)
    each = [100 * np.asarray(row[-1]) for row in rows]
    table["coverage"] = [values.mean() for values in each]
    table["lowest"] = [values.min() if len(values) > 1 else None for values in each]
    table["highest"] = [values.max() if len(values) > 1 else None for values in each]
    return table


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    return simulate(SHORT, ["84 %, calibrated"])


def test_intervals_hold_the_true_value_about_as_often_as_they_say(simulated):
    lower, upper = stats.binom.ppf([0.001, 0.999], SHORT.repetitions, [0.93, 0.97]) / SHORT.repetitions * 100
    outside = simulated[
        (simulated["coverage"] < lower)
        | (simulated["lowest"] < lower)
        | (simulated["highest"] > upper)
        | (simulated["coverage"] > upper)
    ]
    assert outside.empty, outside.to_string()


def test_f1_has_an_interval_without_images_and_without_errors():
    assert intervals.wilson_f1(0, 0, 0.95) == (0, 1)
    low, high = intervals.wilson_f1(20, 0, 0.95)
    assert 0.8 < low < high == 1


def test_equal_models_are_seldom_called_different():
    upper = stats.binom.ppf(0.999, SHORT.cheap_repetitions, 0.05) / SHORT.cheap_repetitions
    assert false_claims("84 %, calibrated", SHORT, equal=3) <= upper


def test_the_calibration_error_of_a_calibrated_model_is_that_of_chance():
    calibrated, rng = model("84 %, calibrated"), np.random.default_rng(0)
    assert calibrated.truth()["ece"] < 1e-9
    draws = [calibrated.draw(2000, rng) for _ in range(50)]
    found = [calibration.calibration(calibrated.probabilities[chosen], labels, BINS)["ece"] for chosen, labels in draws]
    chance = calibration.ece_if_calibrated(calibrated.probabilities[draws[0][0]], SHORT.parameters(0))
    assert np.mean(found) == pytest.approx(chance["ece_if_calibrated"], rel=0.1)


def test_the_calibration_error_of_a_model_that_is_too_sure_is_above_chance():
    too_sure = model("92 %, too sure")
    chosen, labels = too_sure.draw(10_000, np.random.default_rng(0))
    chances = too_sure.probabilities[chosen]
    chance = calibration.ece_if_calibrated(chances, SHORT.parameters(0))
    assert calibration.calibration(chances, labels, BINS)["ece"] > chance["ece_if_calibrated_high"]


def test_the_committed_table_shows_every_interval_between_93_and_97_percent(simulated):
    lines = [line[1:-1].split("|") for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line] for line in lines]
    coverage = {(row[0], row[2]): float(row[5]) for row in rows if len(row) == 8 and row[5][0].isdigit()}
    assert set(zip(simulated["what"], simulated["model"], strict=True)) <= set(coverage)
    assert all(93 <= value <= 97 for value in coverage.values())
    claims = [float(row[2]) for row in rows if len(row) == 3 and row[2][0].isdigit()]
    assert claims
    assert max(claims) <= 5


HEAD = """# Coverage of the intervals

How often nominal 95 % intervals hold the true value, in simulated test sets: the required 93 to 97 %. Written by
`python -m tests.test_coverage`; the tests run a short version.

The models are simulated, and named by their accuracy and calibration. Of ten classes, five are hard to tell apart. Each
image has known chances of its classes, from which its label is drawn, so the true values are known. Some rows stand for
several intervals (of classes, of pairs of models, of true shares): coverage is their mean, beside the lowest and the
highest. With 1,000 repetitions a coverage has a standard error of 0.7 points, with 2,000 one of 0.5.
`ece_if_calibrated_high` is an upper limit: how often the calibration error (ECE) of a calibrated model does not exceed it.

"""
CLAIMS = """
Tables of six models on the same images in which equally good models were called different (McNemar's exact test with
Holm's correction; at most 5 % allowed):

"""


def main() -> None:
    table = simulate(LONG, MODELS).astype(object)
    table = table.where(table.notna(), None)
    claims = [
        (
            f"{equal} equally good" if equal == 6 else f"{equal} equally good, {6 - equal} equally worse",
            LONG.cheap_repetitions,
            100 * false_claims("92 %, too sure", LONG, equal),
        )
        for equal in (6, 3)
    ]
    text = HEAD + table.to_markdown(index=False, floatfmt=".1f", missingval="") + "\n" + CLAIMS
    text += tabulate(claims, ["models", "repetitions", "with a false claim, %"], "pipe", floatfmt=".1f") + "\n"
    write_text(TABLE, text)


if __name__ == "__main__":
    main()
