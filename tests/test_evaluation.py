"""Metrics on cases small enough to count by hand, the choice of the best model, and the rows of the comparison."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn import metrics

from stages.base.runs import TIMING
from stages.compare import combine, ensemble, times
from stages.comparison.ensemble import members, runs_to_compare
from stages.data.publisher import CLASS_NAMES
from stages.results.predictions import save_predictions
from stages.scoring.classes import confusion, per_class
from stages.scoring.scores import auroc, confusion_matrix, precision_recall_f1, scores
from stages.scoring.temperature import fit_temperature, with_temperature
from stages.select import rank, reason
from tests.probabilities import probabilities_for

LABELS = np.array([0, 0, 1, 2])
PROBABILITIES = probabilities_for(np.array([0, 1, 1, 2]), 0.82)


def test_scores_of_four_images_one_of_them_wrong():
    result = scores(PROBABILITIES, PROBABILITIES[:, [2, 1, 0, *range(3, 10)]], LABELS)
    assert result["accuracy"] == 0.75
    assert result["accuracy_single_view"] == 0.25
    assert result["loss"] == pytest.approx(-(3 * np.log(0.82) + np.log(0.02)) / 4, abs=1e-6)
    assert result["macro_f1"] == round((2 / 3 + 2 / 3 + 1) / 10, 6)


def test_of_unbalanced_two_and_many_classes_more_is_measured():
    rng = np.random.default_rng(0)
    assert not {"balanced_accuracy", "auroc", "top_5_accuracy"} & set(
        scores(PROBABILITIES[:4], PROBABILITIES, np.arange(4))
    )
    labels, chances = np.repeat([0, 1], [30, 10]), rng.uniform(size=40)
    two = np.stack([1 - chances, chances], axis=1)
    found = scores(two, two, labels)
    assert found["auroc"] == pytest.approx(metrics.roc_auc_score(labels, chances), abs=1e-6)
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, chances > 0.5), abs=1e-6)
    many, labels = rng.dirichlet(np.ones(50), 300), rng.integers(50, size=300)
    found = scores(many, many, labels)
    expected = metrics.top_k_accuracy_score(labels, many, k=5, labels=range(50))
    assert found["top_5_accuracy"] == pytest.approx(expected, abs=1e-6)
    row = combine([run(0.9) | found], [run(0.9) | found])
    assert (row["test_top_5_accuracy"], row["test_top_5_accuracy_std"]) == (found["top_5_accuracy"], None)


def test_scikit_learn_says_the_same():
    rng = np.random.default_rng(1)
    labels, predicted = rng.integers(5, size=(2, 200))
    labels[labels == 4], predicted[predicted == 3] = 0, 1  # one class without images, one that is never predicted
    counts = confusion_matrix(labels.astype(np.uint8), predicted, 6)
    assert (counts == metrics.confusion_matrix(labels, predicted, labels=range(6))).all()
    expected = metrics.precision_recall_fscore_support(labels, predicted, labels=range(6), zero_division=0)
    np.testing.assert_allclose(precision_recall_f1(counts), expected[:3])
    low, high = rng.integers(9, size=50), rng.integers(4, 12, size=70)  # with ties
    joined = np.repeat([0, 1], [50, 70]), np.concatenate([low, high])
    assert auroc(low, high) == pytest.approx(metrics.roc_auc_score(*joined))
    certain = np.array([[1.0, 0], [0, 1]])
    assert scores(certain, certain, np.array([1, 1]))["loss"] == round(-np.log(np.finfo(float).eps) / 2, 6)


def test_precision_and_recall_of_each_class():
    table = per_class(PROBABILITIES, LABELS, CLASS_NAMES).set_index("class")
    assert table.loc["T-shirt/top", ["precision", "recall", "images"]].tolist() == [1, 0.5, 2]
    assert table.loc["Trouser", ["precision", "recall", "images"]].tolist() == [0.5, 1, 1]
    assert table.loc["Bag", ["precision", "recall", "f1", "images"]].tolist() == [0, 0, 0, 0]


def test_confusion_counts_actual_against_predicted():
    table = confusion(PROBABILITIES, LABELS, CLASS_NAMES)
    assert len(table) == 100
    assert table["images"].sum() == 4
    cell = table[(table["actual"] == CLASS_NAMES[0]) & (table["predicted"] == CLASS_NAMES[1])].iloc[0]
    assert (cell["images"], cell["share"]) == (1, 0.5)
    shares = table.pivot(index="actual", columns="predicted", values="share").loc[list(CLASS_NAMES), list(CLASS_NAMES)]
    assert np.diag(shares).tolist() == [0.5, 1, 1, *[0] * 7]  # 0 for a class without images


def run(accuracy: float, loss: float = 0.3, epochs: int = 5) -> dict:
    numbers = {"accuracy": accuracy, "accuracy_single_view": accuracy, "loss": loss, "macro_f1": accuracy}
    return numbers | {"epochs": epochs, "parameters": 10, "multiply_adds": 20}


@pytest.mark.parametrize(
    ("runs", "order", "why"),
    [
        ({"a": [run(0.9)]}, "a", "a is the only model; its validation accuracy is 90.00 %."),
        (
            {"a": [run(0.9, 0.2)], "b": [run(0.92, 0.5)], "c": [run(0.92, 0.4)]},
            "cba",
            "c and b have the same .*, 92.00 %; c has the lower loss, 0.4000 against 0.5000.",
        ),
        ({"b": [run(0.9)], "a": [run(0.9)]}, "ab", "the same loss; a comes first in the alphabet."),
        (  # the mean of several seeds counts
            {"a": [run(0.91), run(0.91)], "b": [run(0.93), run(0.88)]},
            "ab",
            "a has the highest validation accuracy, 91.00 %; b is next with 90.50 %.",
        ),
        ({"b": [run(0.9, 0.3)], "a": [run(0.9 - 1e-7, 0.3 + 1e-7)]}, "ab", "the same loss"),  # of six decimals
    ],
)
def test_the_highest_validation_accuracy_wins_and_ties_go_to_the_lower_loss(runs, order, why):
    ranking = rank(runs)
    assert [place["model"] for place in ranking] == list(order)
    assert re.search(why, reason(ranking))


def test_another_metric_selects_if_parameters_name_it():
    runs = {"a": [run(0.9) | {"macro_f1": 0.5}], "b": [run(0.8) | {"macro_f1": 0.7, "balanced_accuracy": 0.6}]}
    for metric, best, share in (
        ("accuracy", "a", "90.00"),
        ("macro_f1", "b", "70.00"),
        ("balanced_accuracy", "a", "90.00"),
    ):
        ranking = rank(runs, metric)
        assert ranking[0]["model"] == best
        assert f"highest validation {metric.replace('_', ' ')}, {share} %" in reason(ranking, metric)


def test_times_are_means_over_runs_of_seconds_and_milliseconds_per_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "evaluate"):
        (TIMING / name).mkdir(parents=True)
    for run_name, seconds in (("a-0", [1.0, 2.0]), ("a-1", [3.0, 6.0])):
        pd.DataFrame({"seconds": seconds}).to_csv(TIMING / "train" / f"{run_name}.csv")
        pd.DataFrame({"seconds": seconds, "images": [500, 400]}).to_csv(TIMING / "evaluate" / f"{run_name}.csv")
    assert times("a", ["a-0", "a-1"]) == {"model": "a", "training_seconds": 6, "milliseconds_per_image": 12}


def test_seeds_combine_to_mean_and_sample_std():
    row = combine([run(0.9, epochs=5), run(0.92, epochs=6)], [run(0.88), run(0.9)])
    assert (row["val_accuracy"], row["test_accuracy"]) == (0.91, 0.89)
    assert row["test_accuracy_std"] == pytest.approx(np.std([0.88, 0.9], ddof=1), abs=1e-6)
    assert (row["epochs"], row["runs"]) == (5.5, 2)
    alone = combine([run(0.9)], [run(2 / 3)])
    assert (alone["test_accuracy"], alone["test_accuracy_std"], alone["epochs"]) == (0.666667, None, 5)


def test_the_ensemble_averages_the_probabilities_of_all_runs_of_the_two_best(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    certain, unsure = np.full((4, 10), 0.01), np.full((4, 10), 0.05)
    certain[:, 0], unsure[:, 1] = 0.91, 0.55
    names = ["a-0", "a-1", "b-0", "b-1"]
    for run_name, probabilities in zip(names, [certain, certain, unsure, unsure], strict=True):
        for split in ("val", "test"):
            save_predictions(split, run_name, probabilities, unsure, LABELS)
    models = {model: combine([run(0.9)], [run(0.88)]) for model in "abc"}
    selection = {"ranking": [{"model": model} for model in "abc"]}
    selection["runs"] = {model: [f"{model}-{seed}" for seed in (0, 1)] for model in "cba"}
    name, row = ensemble(selection, models)
    assert name == "ensemble: a + b, 4 runs"
    assert (row["val_accuracy"], row["test_accuracy"]) == (0.5, 0.5)  # class 0, as the more certain half says
    assert row["test_accuracy_single_view"] == 0.25
    assert row["test_loss"] == pytest.approx(-np.log([0.48, 0.48, 0.28, 0.03]).mean(), abs=1e-6)
    assert (row["multiply_adds"], row["parameters"], row["epochs"], row["runs"]) == (80, 40, 20, 4)
    assert ensemble({"ranking": selection["ranking"][:1], "runs": {"a": ["a-0"]}}, models) is None


def test_two_runs_make_an_ensemble_and_one_does_not():
    selection = {"ranking": [{"model": "b"}, {"model": "a"}], "best_runs": {"a": "a-0", "b": "b-0"}}
    both = selection | {"runs": {"a": ["a-0"], "b": ["b-0"]}}
    assert members(both) == ["b-0", "a-0"]
    assert runs_to_compare(both) == {"a": ["a-0"], "b": ["b-0"], "ensemble": ["b-0", "a-0"]}
    alone = {"ranking": [{"model": "b"}], "best_runs": {"b": "b-0"}, "runs": {"b": ["b-0"]}}
    assert members(alone) == []
    assert runs_to_compare(alone) == {"b": ["b-0"]}


def test_a_temperature_stays_within_reason_if_every_validation_image_is_right():
    rng = np.random.default_rng(0)
    probabilities = softmax(5 * np.eye(4)[np.arange(54) % 4] + rng.normal(size=(54, 4)), axis=1)
    labels = probabilities.argmax(axis=1)
    confidence = with_temperature(probabilities, fit_temperature(probabilities, labels)).max(axis=1)
    assert 0.9 < confidence.mean() < 0.995
