"""Intervals of test results, on cases whose answer is known; and the tables that stage `compare` makes of them."""

import numpy as np
import pandas as pd
import pytest

from stages.compare import statistics
from stages.evaluation import calibration, intervals
from tests.probabilities import PARAMETERS, four_fifths_right, probabilities_for


@pytest.fixture(scope="module")
def predicted() -> tuple[np.ndarray, np.ndarray]:
    return four_fifths_right()


def test_wilsons_interval_is_that_of_the_textbook():
    assert intervals.wilson(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-4)  # Newcombe (1998), table I
    assert intervals.wilson(0, 20, 0.95) == pytest.approx((0, 0.1611), abs=5e-4)
    assert intervals.wilson(0, 0, 0.95) == (0, 1)


def test_the_scores_of_intervals_are_those_of_scikit_learn(predicted):
    result, plain = intervals.with_intervals(*predicted, PARAMETERS), calibration.calibration(*predicted, 10)
    for name in ("loss", "brier"):
        assert result[name][0] == pytest.approx(plain[name], abs=1e-6)
    assert plain["brier"] == pytest.approx(0.8 * (0.01 + 0.01 / 9) + 0.2 * (0.81 + (1 - 0.1 / 9) ** 2 + 8 * 0.01 / 81))


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "loss", "brier"])
def test_intervals_hold_the_value_and_are_as_wide_as_chance(predicted, name):
    value, low, high = intervals.with_intervals(*predicted, PARAMETERS)[name]
    assert low < value < high
    assert [value, low, high] == [round(number, 6) for number in (value, low, high)]
    if name == "accuracy":
        assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 1000), rel=0.2)


def test_the_calibration_error_has_no_interval(predicted):
    assert set(intervals.with_intervals(*predicted, PARAMETERS)) == {"accuracy", "macro_f1", "loss", "brier"}


def test_bootstrap_repeats_with_its_seed_and_changes_with_another(predicted):
    first, again = (intervals.with_intervals(*predicted, PARAMETERS) for _ in range(2))
    assert first == again
    assert intervals.with_intervals(*predicted, PARAMETERS.model_copy(update={"seed": 1})) != first


def test_f1_of_many_samples_at_once():
    actual, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    result = intervals.f1_of(np.stack([10 * actual + predicted, 10 * actual + actual]))
    assert result.shape == (10, 2)
    np.testing.assert_allclose(result[:2], [[2 / 3, 1], [0.8, 1]])
    assert (result[2:] == 0).all()


def test_precision_is_of_what_was_predicted_and_recall_of_what_was_there():
    labels, guesses = np.array([0] * 6 + [1] * 4), np.array([0] * 3 + [1] * 7)
    table = intervals.class_intervals(probabilities_for(guesses, 0.9), labels, PARAMETERS).set_index("class")
    shirts, trousers = table.iloc[0], table.iloc[1]
    assert (shirts["precision"], shirts["recall"]) == (1, 0.5)
    assert (trousers["precision"], trousers["recall"]) == (pytest.approx(4 / 7), 1)
    assert tuple(trousers[["precision_low", "precision_high"]]) == pytest.approx(intervals.wilson(4, 7, 0.95))
    assert tuple(trousers[["recall_low", "recall_high"]]) == pytest.approx(intervals.wilson(4, 4, 0.95))
    assert (shirts["f1"], trousers["f1"]) == pytest.approx((2 * 3 / (3 + 6), 2 * 4 / (7 + 4)))
    assert tuple(trousers[["f1_low", "f1_high"]]) == pytest.approx(intervals.wilson_f1(4, 3, 0.95))
    bags = table.loc["Bag"]  # neither there nor predicted
    assert (bags["f1"], bags["precision"], bags["recall"]) == (0, 0, 0)


def test_a_class_with_one_image_and_one_answer_counts_them_once():
    table = intervals.class_intervals(probabilities_for(np.array([0, 1]), 0.9), np.array([0, 2]), PARAMETERS)
    assert table[["f1", "precision", "recall"]].to_numpy()[:3].tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_the_f1_of_a_share_and_of_its_ends():
    low, high = intervals.wilson(8, 10, 0.95)
    assert intervals.wilson_f1(8, 2, 0.95) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))


def test_statistics_name_the_errors_that_all_models_share(predicted):
    chances, labels = predicted
    better = probabilities_for(np.where(np.arange(1000) < 950, labels, (labels + 1) % 10), 0.9)
    test = {name: {"probabilities": p, "labels": labels} for name, p in {"a": chances, "b": better}.items()}
    tables = statistics(test, {"a": 1.0, "b": 2.0}, np.array([0, 1, 999]), PARAMETERS)
    alone = tables["without_near_duplicates"].set_index("model").loc["a"]
    assert (alone["images"], alone["accuracy"]) == (997, pytest.approx(798 / 997))
    assert (alone["low"], alone["high"]) == pytest.approx(intervals.wilson(798, 997, 0.95))
    assert alone["accuracy_of_all"] == 0.8
    assert tables["intervals"].columns.tolist() == ["model", "metric", "value", "low", "high"]
    confused = tables["confused"].query("model == 'a'")
    assert len(confused) == 10
    assert confused["images"].tolist() == sorted(confused["images"], reverse=True)
    assert confused["images"].sum() == 200
    shared = tables["shared_errors"]
    assert shared["image"].tolist() == list(range(950, 1000))
    assert set(shared["models_that_agree"]) == {2}
    assert (shared["actual"] != shared["majority_prediction"]).all()
    assert tables["pairs"]["better"].tolist() == ["b"]
    temperature = tables["temperature"].set_index("model")
    assert temperature.loc["a", "loss_scaled"] == pytest.approx(temperature.loc["a", "loss"], abs=1e-6)
    assert temperature.loc["b", "loss_scaled"] > temperature.loc["b", "loss"]
    assert isinstance(tables["classes"], pd.DataFrame)
    assert len(tables["classes"]) == 20
