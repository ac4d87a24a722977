"""Intervals, paired tests and calibration, on cases whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from stages.compare import statistics
from stages.evaluation import uncertainty
from stages.parameters import Statistics

PARAMETERS = Statistics(confidence=0.95, resamples=300, bins=10, seed=0)


def probabilities_for(guesses: np.ndarray, confidence: np.ndarray | float) -> np.ndarray:
    """Probabilities (N, 10) whose largest is `confidence`, at `guesses`; the rest is shared evenly."""
    confidence = np.broadcast_to(confidence, guesses.shape)
    chances = np.repeat((1 - confidence)[:, None] / 9, 10, axis=1)
    chances[np.arange(len(guesses)), guesses] = confidence
    return chances


@pytest.fixture(scope="module")
def drawn():
    """1,000 pictures, of which the model has 800 right; it is 90 % sure of every one."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 1000)
    guesses = np.where(np.arange(1000) < 800, labels, (labels + 1) % 10)
    return probabilities_for(guesses, 0.9), labels


def test_wilsons_interval_is_that_of_the_textbook():
    assert uncertainty.wilson(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-4)  # Newcombe (1998), table I
    assert uncertainty.wilson(0, 20, 0.95) == pytest.approx((0, 0.1611), abs=5e-4)
    assert uncertainty.wilson(0, 0, 0.95) == (0, 1)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy(drawn):
    result = uncertainty.with_intervals(*drawn, PARAMETERS)
    assert result["ece"][0] == pytest.approx(0.1)
    assert uncertainty.calibration(*drawn, 10)["ece"] == pytest.approx(0.1)


def test_the_scores_of_intervals_are_those_of_scikit_learn(drawn):
    result, plain = uncertainty.with_intervals(*drawn, PARAMETERS), uncertainty.calibration(*drawn, 10)
    for name in ("loss", "brier", "ece"):
        assert result[name][0] == pytest.approx(plain[name], abs=1e-6)
    assert plain["brier"] == pytest.approx(0.8 * (0.01 + 0.01 / 9) + 0.2 * (0.81 + (1 - 0.1 / 9) ** 2 + 8 * 0.01 / 81))


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "loss", "brier", "ece"])
def test_intervals_hold_the_value_and_are_as_wide_as_chance(drawn, name):
    value, low, high = uncertainty.with_intervals(*drawn, PARAMETERS)[name]
    assert low < value < high
    if name in {"accuracy", "ece"}:
        assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 1000), rel=0.2)


def test_bootstrap_repeats_with_its_seed_and_changes_with_another(drawn):
    first, again = (uncertainty.with_intervals(*drawn, PARAMETERS) for _ in range(2))
    assert first == again
    assert uncertainty.with_intervals(*drawn, PARAMETERS.model_copy(update={"seed": 1})) != first


def test_f1_of_many_samples_at_once():
    actual, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    result = uncertainty.f1_of(np.stack([10 * actual + predicted, 10 * actual + actual]))
    assert result.shape == (10, 2)
    np.testing.assert_allclose(result[:2], [[2 / 3, 1], [0.8, 1]])
    assert (result[2:] == 0).all()


def test_pairs_are_tested_on_the_pictures_where_they_differ():
    base = np.ones(200, bool)
    one, other, same = base.copy(), base.copy(), base.copy()
    one[:2], other[2:22], same[:2] = False, False, False
    table = uncertainty.compare_pairs({"other": other, "one": one, "same": same}, 0.95)
    pair = table[(table["better"] == "one") & (table["worse"] == "other")].iloc[0]
    assert (pair["only_better"], pair["only_worse"], pair["difference"]) == (20, 2, pytest.approx(0.09))
    assert pair["p"] == pytest.approx(2 * (1 + 22 + 231) / 2**22)  # both tails of the binomial distribution
    ends = [pair["difference_low"], pair["difference_high"]]
    assert ends == pytest.approx([0.043191, 0.135027], abs=1e-6)  # 18/202 -+ 1.96 sqrt((24/202 - (18/202)^2) / 202)
    assert pair["verdict"] == "one is better than other"
    equal = table[table["verdict"].str.contains("cannot be told apart")].iloc[0]
    assert equal["p_holm"] == 1


def test_a_difference_that_is_only_real_before_the_correction_is_not_called_so():
    one, other = np.ones(200, bool), np.ones(200, bool)
    one[0], other[1:10] = False, False
    table = uncertainty.compare_pairs({"one": one, "other": other, "twin": one.copy()}, 0.95)
    assert table["p"].min() == pytest.approx(2 * (1 + 10) / 2**10)
    assert table["p"].min() < 0.05 < table["p_holm"].min()
    assert table["verdict"].str.contains("cannot be told apart").all()


def test_holms_correction():
    np.testing.assert_allclose(uncertainty.holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(uncertainty.holm(np.array([0.6, 0.9])), [1, 1])


def test_precision_is_of_what_was_said_and_recall_of_what_was_there():
    labels, guesses = np.array([0] * 6 + [1] * 4), np.array([0] * 3 + [1] * 7)
    table = uncertainty.class_intervals(probabilities_for(guesses, 0.9), labels, PARAMETERS).set_index("class")
    shirts, trousers = table.iloc[0], table.iloc[1]
    assert (shirts["precision"], shirts["recall"]) == (1, 0.5)
    assert (trousers["precision"], trousers["recall"]) == (pytest.approx(4 / 7), 1)
    assert tuple(trousers[["precision_low", "precision_high"]]) == pytest.approx(uncertainty.wilson(4, 7, 0.95))
    assert tuple(trousers[["recall_low", "recall_high"]]) == pytest.approx(uncertainty.wilson(4, 4, 0.95))


def test_a_bin_holds_its_upper_end_and_not_its_lower():
    assert uncertainty.bin_of(np.array([0, 0.1, 0.5, 0.51, 1]), 2).tolist() == [0, 0, 0, 1, 1]


def test_a_temperature_above_one_makes_less_sure():
    chances = np.array([[0.8, 0.2, *[0] * 8]])
    np.testing.assert_allclose(uncertainty.with_temperature(chances, 2)[0, :2], [2 / 3, 1 / 3], atol=1e-5)


def test_the_temperature_mends_a_model_that_says_too_little():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 4000)
    truth = probabilities_for(labels, 0.5)
    drawn_labels = np.array([rng.choice(10, p=row) for row in truth])
    timid = uncertainty.with_temperature(truth, 2)
    temperature = uncertainty.fit_temperature(timid, drawn_labels)
    assert temperature == pytest.approx(0.5, rel=0.1)
    mended = uncertainty.with_temperature(timid, temperature)
    assert (mended.argmax(axis=1) == timid.argmax(axis=1)).all()
    assert (
        uncertainty.calibration(mended, drawn_labels, 10)["ece"]
        < 0.03
        < 0.2
        < (uncertainty.calibration(timid, drawn_labels, 10)["ece"])
    )


def test_reliability_counts_every_picture_in_its_bin():
    labels = np.zeros(10, int)
    chances = probabilities_for(np.array([0] * 9 + [1]), np.array([0.95] * 5 + [0.55] * 5))
    table = uncertainty.reliability(chances, labels, PARAMETERS)
    assert table[["from", "to", "pictures", "accuracy"]].to_numpy().tolist() == [[0.5, 0.6, 5, 0.8], [0.9, 1, 5, 1]]


def test_a_model_that_abstains_keeps_the_surest_pictures():
    labels = np.zeros(4, int)
    chances = probabilities_for(np.array([0, 1, 0, 0]), np.array([0.9, 0.3, 0.8, 0.7]))
    table = uncertainty.coverage(chances, labels, (0.5, 1))
    assert table["accuracy"].tolist() == [1, 0.75]
    assert table["threshold"].tolist() == pytest.approx([0.8, 0.3])


def test_statistics_name_the_errors_that_all_models_share(drawn):
    chances, labels = drawn
    better = probabilities_for(np.where(np.arange(1000) < 950, labels, (labels + 1) % 10), 0.9)
    test = {name: {"probabilities": p, "labels": labels} for name, p in {"a": chances, "b": better}.items()}
    tables = statistics(test, {"a": 1.0, "b": 2.0}, np.array([0, 1, 999]), PARAMETERS)
    alone = tables["without_twins"].set_index("model").loc["a"]
    assert (alone["pictures"], alone["accuracy"]) == (997, pytest.approx(798 / 997))
    assert tables["shared_errors"]["picture"].tolist() == list(range(950, 1000))
    assert set(tables["shared_errors"]["models_that_say_so"]) == {2}
    assert tables["pairs"]["better"].tolist() == ["b"]
    temperature = tables["temperature"].set_index("model")
    assert temperature.loc["a", "loss_scaled"] == pytest.approx(temperature.loc["a", "loss"], abs=1e-6)
    assert temperature.loc["b", "loss_scaled"] > temperature.loc["b", "loss"]
    assert isinstance(tables["classes"], pd.DataFrame)
    assert len(tables["classes"]) == 20
