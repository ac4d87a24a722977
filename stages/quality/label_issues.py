"""Label issues: labels that may be wrong, found by confident learning from out-of-sample probabilities.

Source: Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels" (2021), as cleanlab
computes it.
"""

import warnings

import numpy as np
import pandas as pd
from cleanlab.count import num_label_issues
from cleanlab.filter import find_label_issues


def label_issues(probabilities: np.ndarray, labels: np.ndarray) -> tuple[pd.DataFrame, int]:
    """Find label issues, and estimate the number of wrong labels.

    Args:
        probabilities: Of models that did not train on the images, (N, classes), rows sum to 1.
        labels: (N,), from 0.

    Returns:
        A table with one row per label issue, the least probable label first: place (index into the arrays), given and
        suggested (classes, from 0, always different), probability_given, probability_suggested; and the estimated number of
        wrong labels, which may differ from the number of rows.
    """
    probabilities, labels = probabilities.astype(np.float64), labels.astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about classes with few images
        places = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
        estimate = num_label_issues(labels, probabilities)
    places = places.astype(int)
    suggested = probabilities[places].argmax(axis=1)
    table = pd.DataFrame(
        {
            "place": places,
            "given": labels[places],
            "suggested": suggested,
            "probability_given": probabilities[places, labels[places]],
            "probability_suggested": probabilities[places, suggested],
        }
    )
    return table[table["given"] != table["suggested"]].reset_index(drop=True), int(estimate)
