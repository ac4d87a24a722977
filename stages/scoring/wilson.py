"""The interval of a share, such as an accuracy."""

from statistics import NormalDist


def wilson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a share of independent trials, for example of an accuracy.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).

    Args:
        successes: From 0 to `trials`.
        trials: 0 or more.
        confidence: Above 0, below 1.

    Returns:
        Lower and upper end, from 0 to 1; (0, 1) without trials.

    Raises:
        ValueError: There are more successes than trials, or one of them is negative.
    """
    if not trials:
        return 0.0, 1.0
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials: must be from 0 to the number of trials")
    share, z = successes / trials, NormalDist().inv_cdf((1 + confidence) / 2)
    middle, half = share + z**2 / (2 * trials), z * (share * (1 - share) / trials + (z / trials / 2) ** 2) ** 0.5
    low, high = ((middle + side) / (1 + z**2 / trials) for side in (-half, half))
    return (low if successes else 0.0), (high if successes < trials else 1.0)
