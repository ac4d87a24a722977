"""How sure the result of a search is: its best configurations, and the present one, trained anew with other seeds."""

import warnings

import numpy as np
import pandas as pd
from scipy import stats


def compare(accuracies: pd.DataFrame, present: str, confidence: float) -> pd.DataFrame:
    """Compare configurations, the index of `accuracies`, with the present one; columns are seeds, values 0 to 1.

    The intervals are Dunnett's, "A multiple comparison procedure for comparing several treatments with a control" (1955).
    They all hold at once with the given confidence: so does that of the best one, although it was chosen as the best. They
    say how much training varies, if it varies equally for all; not how the images were drawn.

    Returns:
        One row per configuration, the best one first: val_accuracy, the mean; standard_deviation; advantage, the difference
        of the mean from that of the present one, advantage_low and advantage_high, its interval, which the present one has
        not. Nor have others if no accuracy varies.
    """
    mean, others = accuracies.mean(axis=1), accuracies.drop(index=present)
    found = pd.DataFrame({"val_accuracy": mean, "standard_deviation": accuracies.std(axis=1)})
    found["advantage"] = mean - mean[present]
    found[["advantage_low", "advantage_high"]] = np.nan
    if np.ptp(accuracies, axis=1).any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of SciPy, where a configuration's accuracies are equal
            result = stats.dunnett(*others.to_numpy(), control=accuracies.loc[present], rng=np.random.default_rng(0))
            interval = result.confidence_interval(confidence)
        found.loc[others.index, ["advantage_low", "advantage_high"]] = np.transpose(interval)
    return found.sort_values("val_accuracy", ascending=False, kind="stable")


def verdict(best: pd.Series) -> str:
    """The advantage of a row of `compare` over the present configuration, in words."""
    better = "significantly better" if best["advantage_low"] > 0 else "not significantly better"
    if best["advantage"] <= 0:
        better = "not better, so keep the block"
    low, high = (f"{100 * best[end]:+.2f}" for end in ("advantage_low", "advantage_high"))
    return f"{best.name}: {100 * best['advantage']:+.2f} points compared with the block ({low} to {high}): {better}."
