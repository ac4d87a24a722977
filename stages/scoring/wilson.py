"""The interval of a share, such as an accuracy."""

from scipy import stats


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
    interval = stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
