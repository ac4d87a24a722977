"""Which differences of accuracy between models are significant: paired tests on the same images.

How often the intervals hold the true difference, and how often equal models are called different, was measured by
simulation: `tests/coverage.md`.
"""

import numpy as np
import pandas as pd
from scipy import stats


def compare_pairs(correct: dict[str, np.ndarray], confidence: float) -> pd.DataFrame:
    """Test all pairs of models on the same images.

    - p is of the exact test of McNemar (1947). Its null hypothesis: among the images that exactly one of the two models has
      right, each model is right equally often.
    - Holm's correction (1979) keeps the chance of one false claim or more in the whole table at most 1 - `confidence`.
    - The interval of the difference is that of Bonett and Price, "Adjusted Wald confidence interval for a difference of
      binomial proportions based on paired data" (2012). It is not corrected for the number of pairs.

    Args:
        correct: For each model, whether its prediction of each image is right, bool (N,).
        confidence: Of the intervals, and 1 - the level of the tests; above 0, below 1.

    Returns:
        One row per pair: better and worse, the models by their accuracy on these images; only_better, the number of images
        that only the better one has right, and only_worse; difference of the accuracies, 0 to 1, with difference_low and
        difference_high, -1 to 1; p; p_holm, corrected; verdict, in words.
    """
    names = sorted(correct, key=lambda name: -correct[name].mean())
    z = stats.norm.ppf((1 + confidence) / 2)
    rows = []
    for place, better in enumerate(names):
        for worse in names[place + 1 :]:
            n = len(correct[better])
            wins = int((correct[better] & ~correct[worse]).sum())
            losses = int((~correct[better] & correct[worse]).sum())
            p = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
            a, b = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
            half = z * np.sqrt((a + b - (a - b) ** 2) / (n + 2))
            rows.append((better, worse, wins, losses, (wins - losses) / n, a - b - half, a - b + half, p))
    columns = ["better", "worse", "only_better", "only_worse", "difference", "difference_low", "difference_high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = holm(table["p"].to_numpy())
    table["verdict"] = [verdict(row, 1 - confidence) for row in table.itertuples()]
    return table


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values corrected for their number, by Holm, "A simple sequentially rejective multiple test procedure" (1979).

    Args:
        p_values: float (tests,), 0 to 1.

    Returns:
        float (tests,), in the same order, 0 to 1, none smaller than before.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(adjusted, 1)


def verdict(row, level: float) -> str:
    """The result for one pair, in words."""
    if row.p_holm < level:
        return f"{row.better} is significantly better than {row.worse}"
    return f"{row.better} and {row.worse} are not significantly different"
