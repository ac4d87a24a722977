"""Intervals, paired tests and calibration, on cases whose answer is known; and the tables that `compare` makes of them."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss, log_loss

from stages.compare import statistics
from stages.comparison import calibration, intervals, significance
from stages.data.publisher import CLASS_NAMES
from stages.scoring.temperature import fit_temperature, with_temperature
from stages.scoring.wilson import wilson
from tests.probabilities import PARAMETERS, four_fifths_right, probabilities_for


@pytest.fixture(scope="module")
def predicted() -> tuple[np.ndarray, np.ndarray]:
    return four_fifths_right()


def test_wilsons_interval_is_that_of_the_textbook_and_f1_has_that_of_a_share():
    assert wilson(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-4)  # Newcombe (1998), table I
    assert wilson(0, 20, 0.95) == pytest.approx((0, 0.1611), abs=5e-4)
    for hits, trials in ((3, 7), (798, 997), (7, 7)):
        expected = stats.binomtest(hits, trials).proportion_ci(0.9, method="wilson")
        assert wilson(hits, trials, 0.9) == pytest.approx((expected.low, expected.high))
    for hits in (-1, 5):
        with pytest.raises(ValueError, match="of 4 trials"):
            wilson(hits, 4, 0.95)
    low, high = wilson(8, 10, 0.95)
    assert intervals.wilson_f1(8, 2, 0.95) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
    assert wilson(0, 0, 0.95) == intervals.wilson_f1(0, 0, 0.95) == (0, 1)


def test_intervals_hold_the_value_and_are_as_wide_as_chance(predicted):
    found, plain = intervals.with_intervals(*predicted, PARAMETERS), calibration.calibration(*predicted, 10)
    assert set(found) == {"accuracy", "macro_f1", "loss", "brier"}  # the calibration error has none
    assert [found["loss"][0], found["brier"][0]] == pytest.approx([plain["loss"], plain["brier"]], abs=1e-6)
    chances, labels = predicted
    every = {"labels": range(chances.shape[1])}
    of_sklearn = log_loss(labels, chances, **every), brier_score_loss(labels, chances, scale_by_half=False, **every)
    assert [plain["loss"], plain["brier"]] == pytest.approx(of_sklearn, abs=1e-6)
    for value, low, high in found.values():
        assert low < value < high
        assert [value, low, high] == [round(number, 6) for number in (value, low, high)]
    _, low, high = found["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 1000), rel=0.2)
    assert intervals.with_intervals(*predicted, PARAMETERS) == found
    assert intervals.with_intervals(*predicted, PARAMETERS.model_copy(update={"seed": 1})) != found


def test_f1_of_many_samples_at_once():
    actual, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    result = intervals.f1_of(np.stack([10 * actual + predicted, 10 * actual + actual]), 10)
    np.testing.assert_allclose(result, [[2 / 3, 1], [0.8, 1], *[[0, 0]] * 8])


def test_precision_is_of_what_was_predicted_and_recall_of_what_was_there():
    labels, guesses = np.array([0] * 6 + [1] * 4), np.array([0] * 3 + [1] * 7)
    table = intervals.class_intervals(probabilities_for(guesses, 0.9), labels, CLASS_NAMES, PARAMETERS)
    values = [[1, 0.5, 2 / 3], [4 / 7, 1, 8 / 11], [0, 0, 0]]
    np.testing.assert_allclose(table[["precision", "recall", "f1"]][:3], values)
    ends = {"precision": wilson(4, 7, 0.95), "recall": wilson(4, 4, 0.95), "f1": intervals.wilson_f1(4, 3, 0.95)}
    for name, (low, high) in ends.items():
        assert table.loc[1, [f"{name}_low", f"{name}_high"]].tolist() == pytest.approx([low, high])


def test_pairs_are_tested_on_the_images_where_they_differ():
    one, other, same = np.ones((3, 200), bool)
    one[:2], other[2:22], same[:2] = False, False, False
    table = significance.compare_pairs({"other": other, "one": one, "same": same}, 0.95)
    pair = table[(table["better"] == "one") & (table["worse"] == "other")].iloc[0]
    assert (pair["only_better"], pair["only_worse"], pair["difference"]) == (20, 2, pytest.approx(0.09))
    assert pair["p"] == pytest.approx(2 * (1 + 22 + 231) / 2**22)  # both tails of the binomial distribution
    ends = [pair["difference_low"], pair["difference_high"]]
    assert ends == pytest.approx([0.043191, 0.135027], abs=1e-6)  # 18/202 -+ 1.96 sqrt((24/202 - (18/202)^2) / 202)
    assert "better than other" in pair["verdict"]
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


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy_and_never_0_by_chance():
    assert calibration.calibration(*four_fifths_right(), 10)["ece"] == pytest.approx(0.1)
    assert calibration.bin_of(np.array([0, 0.1, 0.5, 0.51, 1]), 2).tolist() == [0, 0, 0, 1, 1]
    chances = np.array([[0.6, 0.4, *[0] * 8]])  # of one image, which is right or not: the error is 0.4 or 0.6
    found = calibration.ece_if_calibrated(chances, PARAMETERS.model_copy(update={"resamples": 2000}))
    assert found["ece_if_calibrated"] == pytest.approx(0.6 * 0.4 + 0.4 * 0.6, abs=0.01)
    assert found["ece_if_calibrated_high"] == 0.6


def test_loss_and_brier_score_of_labels_of_one_class():
    found = calibration.calibration(probabilities_for(np.array([0, 0, 1]), 0.7), np.zeros(3, int), 10)
    others = 0.3 / 9
    right, wrong = 0.3**2 + 9 * others**2, (1 - others) ** 2 + 0.7**2 + 8 * others**2
    assert found["loss"] == round(-(2 * np.log(0.7) + np.log(others)) / 3, 6)
    assert found["brier"] == round((2 * right + wrong) / 3, 6)


def test_the_temperature_fixes_a_model_that_says_too_little_and_stays_within_bounds():
    rng, sure = np.random.default_rng(0), np.zeros(50, int)
    truth = probabilities_for(rng.integers(0, 10, 4000), 0.5)
    labels = np.array([rng.choice(10, p=row) for row in truth])
    timid = with_temperature(truth, 2)
    temperature = fit_temperature(timid, labels)
    assert temperature == pytest.approx(0.5, rel=0.1)
    fixed = with_temperature(timid, temperature)
    assert (fixed.argmax(axis=1) == timid.argmax(axis=1)).all()
    before, after = (calibration.calibration(chances, labels, 10)["ece"] for chances in (timid, fixed))
    assert after < 0.03 < 0.2 < before
    assert fit_temperature(probabilities_for(sure + 1, 0.99), sure) == pytest.approx(
        np.exp(3), rel=1e-3
    )  # always wrong
    confident = with_temperature(probabilities_for(sure, 0.2), fit_temperature(probabilities_for(sure, 0.2), sure))
    assert confident.max(axis=1) == pytest.approx(50 / 51, rel=0.03)  # always right, as of 50 images


def test_reliability_counts_every_image_in_its_bin_and_who_abstains_keeps_the_surest():
    chances = probabilities_for(np.array([0] * 9 + [1]), np.array([0.95] * 5 + [0.55] * 5))
    table = calibration.reliability(chances, np.zeros(10, int), PARAMETERS)
    assert table[["from", "to", "images", "accuracy"]].values.tolist() == [[0.5, 0.6, 5, 0.8], [0.9, 1, 5, 1]]
    chances = probabilities_for(np.array([0, 1, 0, 0]), np.array([0.9, 0.3, 0.8, 0.7]))
    table = calibration.coverage(chances, np.zeros(4, int), (0.5, 1))
    assert table["accuracy"].tolist() == [1, 0.75]
    assert table["threshold"].tolist() == pytest.approx([0.8, 0.3])


def test_statistics_name_the_errors_that_all_models_share(predicted):
    chances, labels = predicted
    better = probabilities_for(np.where(np.arange(1000) < 950, labels, (labels + 1) % 10), 0.9)
    test = {name: {"probabilities": p, "labels": labels} for name, p in {"a": chances, "b": better}.items()}
    tables = statistics(test, {"a": 1.0, "b": 2.0}, np.array([0, 1, 999]), PARAMETERS, CLASS_NAMES)
    alone = tables["without_near_duplicates"].set_index("model").loc["a"]
    assert alone[["images", "accuracy", "accuracy_of_all"]].tolist() == [997, pytest.approx(798 / 997), 0.8]
    assert (alone["low"], alone["high"]) == pytest.approx(wilson(798, 997, 0.95))
    confused = tables["confused"].query("model == 'a'")["images"].tolist()
    assert (len(confused), sum(confused)) == (10, 200)
    assert confused == sorted(confused, reverse=True)
    shared = tables["shared_errors"]
    assert shared["image"].tolist() == list(range(950, 1000))
    assert set(shared["models_that_agree"]) == {2}
    assert (shared["actual"] != shared["majority_prediction"]).all()
    assert tables["pairs"]["better"].tolist() == ["b"]
    temperature = tables["temperature"].set_index("model")
    assert temperature.loc["a", "loss_scaled"] == pytest.approx(temperature.loc["a", "loss"], abs=1e-6)
    assert temperature.loc["b", "loss_scaled"] > temperature.loc["b", "loss"]
    assert len(tables["classes"]) == len(tables["intervals"].query("model == 'a'")) * 5 == 20
