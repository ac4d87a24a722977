"""Temperature scaling: probabilities that agree with how often the model is right."""

import numpy as np
import scipy  # which loads its parts when they are used
from scipy.special import softmax

SMALLEST = 1e-12  # probabilities are raised to this value before their logarithm is taken


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T for which softmax(log p / T) has the lowest mean negative log-likelihood.

    To be fitted on validation images only. If all are right, no temperature is low enough; then one more image, like the
    least certain one, counts as wrong. Source: Guo et al. (2017), temperature scaling.

    Args:
        probabilities: (N, classes); rows sum to 1.
        labels: (N,), from 0.

    Returns:
        From 0.05 to 20 (e^-3 to e^3); above 1 if the probabilities are too high on average, below 1 if too low.
    """

    order = np.argsort(-probabilities, axis=1)
    if (order[:, 0] == labels).all():
        least = probabilities.max(axis=1).argmin()
        probabilities = np.concatenate([probabilities, probabilities[[least]]])
        labels = np.append(labels, order[least, 1])

    def loss(log_temperature: float) -> float:
        scaled = with_temperature(probabilities, np.exp(log_temperature))
        return -np.log(scaled[np.arange(len(labels)), labels]).mean()

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / T), float64 (N, classes). The order of the classes does not change, so neither does the accuracy.

    Args:
        probabilities: (N, classes); rows sum to 1.
        temperature: T, above 0.
    """
    return softmax(np.log(np.maximum(probabilities.astype(np.float64), SMALLEST)) / temperature, axis=1)
