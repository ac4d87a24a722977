"""The ensemble: soft voting, the mean of several runs' probabilities. It needs no training of its own."""

import numpy as np

from stages.base.runs import ENSEMBLE
from stages.results.predictions import load_predictions


def mean_predictions(split: str, runs: list[str]) -> dict[str, np.ndarray]:
    """The mean predictions of `runs` on `"val"` or `"test"`, with the keys and shapes of `load_predictions`."""
    members = [load_predictions(split, run) for run in runs]
    means = {kind: np.mean([member[kind] for member in members], axis=0) for kind in ("probabilities", "single_view")}
    return means | {"labels": members[0]["labels"]}


def members(selection: dict) -> list[str]:
    """The runs of the ensemble: all runs of the two models with the best validation accuracy.

    Args:
        selection: The content of `reports/selection.json`.

    Returns:
        The names of the runs; an empty list if there would be only one.
    """
    runs = [run for place in selection["ranking"][:2] for run in selection["runs"][place["model"]]]
    return runs if len(runs) > 1 else []


def runs_to_compare(selection: dict) -> dict[str, list[str]]:
    """What is compared image by image: each model's best run, and the ensemble.

    Args:
        selection: The content of `reports/selection.json`.

    Returns:
        For each name of a model or of the ensemble, its runs.
    """
    runs = {model: [run] for model, run in selection["best_runs"].items()}
    together = members(selection)
    return runs | {ENSEMBLE: together} if together else runs
