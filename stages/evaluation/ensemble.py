"""Soft voting: several runs' probabilities, averaged. It costs no training of its own."""

import numpy as np

from stages.models import ENSEMBLE
from stages.runs import load_predictions, run_name


def vote(split: str, runs: list[str]) -> dict[str, np.ndarray]:
    """The mean of the predictions of `runs` on `"val"` or `"test"`: keys and shapes as `load_predictions`."""
    members = [load_predictions(split, run) for run in runs]
    means = {kind: np.mean([member[kind] for member in members], axis=0) for kind in ("probabilities", "plain")}
    return means | {"labels": members[0]["labels"]}


def members(selection: dict, seeds: list[int]) -> list[str]:
    """The runs that vote: all seeds of the two models with the best validation accuracy; none where there is but one run.

    Args:
        selection: The content of `reports/selection.json`.
    """
    runs = [run_name(place["model"], seed) for place in selection["ranking"][:2] for seed in seeds]
    return runs if len(runs) > 1 else []


def contenders(selection: dict, models: list[str], seeds: list[int]) -> dict[str, list[str]]:
    """What tables of pictures compare, with the runs behind it: the first seed of every model, and the ensemble."""
    runs = {model: [run_name(model, seeds[0])] for model in models}
    together = members(selection, seeds)
    return runs | {ENSEMBLE: together} if together else runs
