"""Intervals and paired tests, on cases whose answer is known; and the tables that stage `compare` makes of them."""

import re

import numpy as np
import pytest

from stages.compare import statistics
from stages.comparison import calibration, intervals, significance
from stages.scoring.wilson import wilson
from tests.probabilities import PARAMETERS, four_fifths_right, probabilities_for


@pytest.fixture(scope="module")
def predicted() -> tuple[np.ndarray, np.ndarray]:
    return four_fifths_right()


def test_wilsons_interval_is_that_of_the_textbook():
    assert wilson(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-4)  # Newcombe (1998), table I
    assert wilson(0, 20, 0.95) == pytest.approx((0, 0.1611), abs=5e-4)
    assert wilson(0, 0, 0.95) == (0, 1)


def test_the_f1_has_the_interval_of_a_share():
    low, high = wilson(8, 10, 0.95)
    assert intervals.wilson_f1(8, 2, 0.95) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
    assert intervals.wilson_f1(0, 0, 0.95) == (0, 1)
    assert 0.8 < intervals.wilson_f1(20, 0, 0.95)[0] < intervals.wilson_f1(20, 0, 0.95)[1] == 1


def test_intervals_hold_the_value_and_are_as_wide_as_chance(predicted):
    found, plain = intervals.with_intervals(*predicted, PARAMETERS), calibration.calibration(*predicted, 10)
    assert set(found) == {"accuracy", "macro_f1", "loss", "brier"}  # the calibration error has none
    assert [found["loss"][0], found["brier"][0]] == pytest.approx([plain["loss"], plain["brier"]], abs=1e-6)
    for value, low, high in found.values():
        assert low < value < high
        assert [value, low, high] == [round(number, 6) for number in (value, low, high)]
    _, low, high = found["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 1000), rel=0.2)
    assert intervals.with_intervals(*predicted, PARAMETERS) == found
    assert intervals.with_intervals(*predicted, PARAMETERS.model_copy(update={"seed": 1})) != found


def test_f1_of_many_samples_at_once():
    actual, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    result = intervals.f1_of(np.stack([10 * actual + predicted, 10 * actual + actual]))
    np.testing.assert_allclose(result, [[2 / 3, 1], [0.8, 1], *[[0, 0]] * 8])


def test_precision_is_of_what_was_predicted_and_recall_of_what_was_there():
    labels, guesses = np.array([0] * 6 + [1] * 4), np.array([0] * 3 + [1] * 7)
    table = intervals.class_intervals(probabilities_for(guesses, 0.9), labels, PARAMETERS).set_index("class")
    assert table[["precision", "recall", "f1"]].iloc[:3].to_numpy() == pytest.approx(
        np.array([[1, 0.5, 2 / 3], [4 / 7, 1, 8 / 11], [0, 0, 0]])
    )
    trousers = table.iloc[1]
    assert tuple(trousers[["precision_low", "precision_high"]]) == pytest.approx(wilson(4, 7, 0.95))
    assert tuple(trousers[["recall_low", "recall_high"]]) == pytest.approx(wilson(4, 4, 0.95))
    assert tuple(trousers[["f1_low", "f1_high"]]) == pytest.approx(intervals.wilson_f1(4, 3, 0.95))


def test_pairs_are_tested_on_the_images_where_they_differ():
    one, other, same = np.ones((3, 200), bool)
    one[:2], other[2:22], same[:2] = False, False, False
    table = significance.compare_pairs({"other": other, "one": one, "same": same}, 0.95)
    pair = table[(table["better"] == "one") & (table["worse"] == "other")].iloc[0]
    assert (pair["only_better"], pair["only_worse"], pair["difference"]) == (20, 2, pytest.approx(0.09))
    assert pair["p"] == pytest.approx(2 * (1 + 22 + 231) / 2**22)  # both tails of the binomial distribution
    ends = [pair["difference_low"], pair["difference_high"]]
    assert ends == pytest.approx([0.043191, 0.135027], abs=1e-6)  # 18/202 -+ 1.96 sqrt((24/202 - (18/202)^2) / 202)
    assert re.fullmatch("one is .*better than other", pair["verdict"])
    equal = table[(table["better"] == "one") & (table["worse"] == "same")].iloc[0]
    assert equal["p_holm"] == 1
    assert "better" not in equal["verdict"]


def test_a_difference_that_is_significant_only_before_the_correction_is_not_called_so():
    one, other = np.ones((2, 200), bool)
    one[0], other[1:10] = False, False
    table = significance.compare_pairs({"one": one, "other": other, "copy of one": one.copy()}, 0.95)
    assert table["p"].min() == pytest.approx(2 * (1 + 10) / 2**10)
    assert table["p"].min() < 0.05 < table["p_holm"].min()
    assert not table["verdict"].str.contains("better").any()
    np.testing.assert_allclose(significance.holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])


def test_statistics_name_the_errors_that_all_models_share(predicted):
    chances, labels = predicted
    better = probabilities_for(np.where(np.arange(1000) < 950, labels, (labels + 1) % 10), 0.9)
    test = {name: {"probabilities": p, "labels": labels} for name, p in {"a": chances, "b": better}.items()}
    tables = statistics(test, {"a": 1.0, "b": 2.0}, np.array([0, 1, 999]), PARAMETERS)
    alone = tables["without_near_duplicates"].set_index("model").loc["a"]
    assert (alone["images"], alone["accuracy"]) == (997, pytest.approx(798 / 997))
    assert (alone["low"], alone["high"]) == pytest.approx(wilson(798, 997, 0.95))
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
    assert len(tables["classes"]) == 20
