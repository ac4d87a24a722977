"""How sure the result of a search is: its best configurations, and the present one, trained anew with other seeds."""

import numpy as np
import pandas as pd
from scipy import stats


def compare(accuracies: dict[str, list[float]], present: str, confidence: float) -> pd.DataFrame:
    """Compare configurations with the present one, by their validation accuracy over the same number of seeds.

    The intervals are Dunnett's, "A multiple comparison procedure for comparing several treatments with a control" (1955).
    They all hold at once with the given confidence: so does that of the best one, although it was chosen as the best. They
    say how much training varies, if it varies equally for all; not how the images were drawn.

    Args:
        accuracies: For each configuration, one accuracy per seed, 0 to 1.
        present: The configuration with which the others are compared.
        confidence: Above 0, below 1.

    Returns:
        One row per configuration, the best one first: configuration; val_accuracy, the mean; standard_deviation; advantage,
        the difference of the mean from that of the present one, advantage_low and advantage_high. Ends are missing where
        no accuracy varies, and for the present one.
    """
    others = [name for name in accuracies if name != present]
    values = {name: np.array(found) for name, found in accuracies.items()}
    rows = [
        {
            "configuration": name,
            "val_accuracy": found.mean(),
            "standard_deviation": found.std(ddof=1),
            "advantage": found.mean() - values[present].mean(),
            "advantage_low": None,
            "advantage_high": None,
        }
        for name, found in values.items()
    ]
    if others and any(np.ptp(found) for found in values.values()):
        result = stats.dunnett(
            *(values[name] for name in others), control=values[present], rng=np.random.default_rng(0)
        )
        interval = result.confidence_interval(confidence)
        ends = dict(zip(others, zip(interval.low, interval.high, strict=True), strict=True))
        for row in rows:
            row["advantage_low"], row["advantage_high"] = ends.get(row["configuration"], (None, None))
    return pd.DataFrame(rows).sort_values("val_accuracy", ascending=False, kind="stable", ignore_index=True)
