"""Probabilities whose results are known beforehand, for the tests of intervals and of calibration."""

import numpy as np

from stages.parameters.statistics import Statistics

PARAMETERS = Statistics(confidence=0.95, resamples=300, bins=10, seed=0)


def probabilities_for(guesses: np.ndarray, confidence: np.ndarray | float) -> np.ndarray:
    """Probabilities (N, 10) whose largest is `confidence`, at `guesses`; the rest is shared evenly."""
    confidence = np.broadcast_to(confidence, guesses.shape)
    chances = np.repeat((1 - confidence)[:, None] / 9, 10, axis=1)
    chances[np.arange(len(guesses)), guesses] = confidence
    return chances


def four_fifths_right() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of 1,000 images, of which the model has 800 right; it is 90 % sure of every one."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 1000)
    guesses = np.where(np.arange(1000) < 800, labels, (labels + 1) % 10)
    return probabilities_for(guesses, 0.9), labels
