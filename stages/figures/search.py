"""The figures of a search: its trials as Optuna draws them."""

import math
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator
from optuna import Study
from optuna.importance import FanovaImportanceEvaluator
from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances, plot_slice

from stages.figures.style import save

COLUMNS = 3  # of slices
ACCURACY = "validation accuracy"


def draw_trials(study: Study, path: str) -> None:
    """Draw the complete trials of a study: their history, the importance of each key and one slice per key; and save.

    The trials must not be equally good. `path` is the beginning of the figures' paths.
    """
    with plt.rc_context({"figure.figsize": (8, 4.5)}), warnings.catch_warnings():  # Optuna sets a style of its own,
        warnings.simplefilter("ignore")  # and warns that these functions may change
        history = plot_optimization_history(study, target_name=ACCURACY)
        importance = plot_param_importances(study, FanovaImportanceEvaluator(seed=0))
        slices = np.ravel(plot_slice(study, target_name=ACCURACY))
    importance.set_xlabel(f"share of the variation of {ACCURACY}, by functional ANOVA")
    importance.get_legend().remove()
    rows, figure = math.ceil(len(slices) / COLUMNS), slices[0].figure
    figure.set_size_inches(9, 1 + 2.5 * rows)
    grid = figure.add_gridspec(rows, COLUMNS)
    for place, axes in enumerate(slices):  # Optuna draws them side by side
        axes.set_subplotspec(grid[place // COLUMNS, place % COLUMNS])
        axes.tick_params(labelleft=place % COLUMNS == 0)
        axes.set_ylabel("" if place % COLUMNS else ACCURACY)
        axes.autoscale(axis="x")
        axes.margins(x=0.1)
        if axes.get_xscale() == "log":
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
    for name, axes in (("history", history), ("importance", importance), ("slices", slices[0])):
        save(axes.figure, Path(f"{path}-{name}.png"))
