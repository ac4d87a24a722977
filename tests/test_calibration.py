"""Whether probabilities mean what they say, on cases whose answer is known."""

import numpy as np
import pytest

from stages.comparison import calibration
from stages.scoring.temperature import fit_temperature, with_temperature
from tests.probabilities import PARAMETERS, four_fifths_right, probabilities_for


def test_calibration_error_is_the_gap_between_confidence_and_accuracy_in_each_bin():
    assert calibration.calibration(*four_fifths_right(), 10)["ece"] == pytest.approx(0.1)
    assert calibration.bin_of(np.array([0, 0.1, 0.5, 0.51, 1]), 2).tolist() == [0, 0, 0, 1, 1]


def test_scores_of_labels_of_one_class_have_six_decimals():
    found = calibration.calibration(probabilities_for(np.array([0, 0, 1]), 0.7), np.zeros(3, int), 10)
    others = 0.3 / 9
    right, wrong = 0.3**2 + 9 * others**2, (1 - others) ** 2 + 0.7**2 + 8 * others**2
    assert found["loss"] == round(-(2 * np.log(0.7) + np.log(others)) / 3, 6)
    assert found["brier"] == round((2 * right + wrong) / 3, 6)
    assert found["ece"] == round(0.7 - 2 / 3, 6)


def test_the_calibration_error_by_chance_is_that_of_the_largest_probabilities():
    chances = np.array([[0.6, 0.4, *[0] * 8]])  # of one image, which is right or not: the error is 0.4 or 0.6
    found = calibration.ece_if_calibrated(chances, PARAMETERS.model_copy(update={"resamples": 2000}))
    assert found["ece_if_calibrated"] == pytest.approx(0.6 * 0.4 + 0.4 * 0.6, abs=0.01)
    assert found["ece_if_calibrated_high"] == 0.6


def test_the_temperature_of_a_model_that_is_always_wrong_or_right_stays_within_bounds():
    labels = np.zeros(50, int)
    assert fit_temperature(probabilities_for(labels + 1, 0.99), labels) == pytest.approx(np.exp(3), rel=1e-3)
    assert fit_temperature(probabilities_for(labels, 0.2), labels) == pytest.approx(np.exp(-3), rel=1e-3)


def test_a_temperature_above_one_makes_less_sure():
    chances = np.array([[0.8, 0.2, *[0] * 8]])
    np.testing.assert_allclose(with_temperature(chances, 2)[0, :2], [2 / 3, 1 / 3], atol=1e-5)


def test_the_temperature_fixes_a_model_that_says_too_little():
    rng = np.random.default_rng(0)
    truth = probabilities_for(rng.integers(0, 10, 4000), 0.5)
    labels = np.array([rng.choice(10, p=row) for row in truth])
    timid = with_temperature(truth, 2)
    temperature = fit_temperature(timid, labels)
    assert temperature == pytest.approx(0.5, rel=0.1)
    fixed = with_temperature(timid, temperature)
    assert (fixed.argmax(axis=1) == timid.argmax(axis=1)).all()
    before, after = (calibration.calibration(chances, labels, 10)["ece"] for chances in (timid, fixed))
    assert after < 0.03 < 0.2 < before


def test_reliability_counts_every_image_in_its_bin():
    labels = np.zeros(10, int)
    chances = probabilities_for(np.array([0] * 9 + [1]), np.array([0.95] * 5 + [0.55] * 5))
    table = calibration.reliability(chances, labels, PARAMETERS)
    assert table[["from", "to", "images", "accuracy"]].to_numpy().tolist() == [[0.5, 0.6, 5, 0.8], [0.9, 1, 5, 1]]


def test_a_model_that_abstains_keeps_the_surest_images():
    labels = np.zeros(4, int)
    chances = probabilities_for(np.array([0, 1, 0, 0]), np.array([0.9, 0.3, 0.8, 0.7]))
    table = calibration.coverage(chances, labels, (0.5, 1))
    assert table["accuracy"].tolist() == [1, 0.75]
    assert table["threshold"].tolist() == pytest.approx([0.8, 0.3])
