"""Doubtful labels by confident learning, from probabilities (N, 10) of models that did not see the pictures.

Source: Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels" (2021), as cleanlab
computes it.
"""

import warnings

import numpy as np
import pandas as pd
from cleanlab.count import num_label_issues
from cleanlab.filter import find_label_issues


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> tuple[pd.DataFrame, int]:
    """The pictures whose label is doubtful, and how many labels are estimated to be wrong.

    Args:
        probabilities: (N, 10), rows sum to 1; labels (N,), 0-9.

    Returns:
        A row a doubtful label, the one least likely to be right first: place (in the arrays), given and suggested
        (0-9, never the same), probability_given, probability_suggested. And the estimate, which need not be their number.
    """
    probabilities, labels = probabilities.astype(np.float64), labels.astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a class has few pictures
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
