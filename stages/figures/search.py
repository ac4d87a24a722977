"""The figures of a search: its trials as Optuna draws them, and the finalists."""

import math
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullLocator
from optuna import Study
from optuna.importance import FanovaImportanceEvaluator
from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances, plot_slice

from stages.figures.style import NEUTRAL, RIGHT, save

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


def draw_finalists(table: pd.DataFrame, accuracies: pd.DataFrame, path: Path) -> None:
    """Draw the accuracies with each seed, and their comparison by `stages.tuning.finalists.compare`; and save."""
    figure, axes = plt.subplots(figsize=(8, 1.5 + 0.5 * len(table)))
    places, present = range(len(table)), table["val_accuracy"] - table["advantage"]
    axes.hlines(places, present + table["advantage_low"], present + table["advantage_high"], color=RIGHT, linewidth=2)
    axes.plot(accuracies.loc[table.index], places, "o", markersize=4, color=NEUTRAL)
    axes.plot(table["val_accuracy"], places, "D", markersize=6, color=RIGHT)
    axes.axvline(present.iloc[0], color=NEUTRAL, linewidth=1.2, linestyle="--", zorder=0)
    axes.set_yticks(places, table.index)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel(ACCURACY)
    axes.set_title(
        "Dots: each seed; diamond: their mean; dashed line: the mean of the block;\n"
        "blue line: that plus Dunnett's interval of the advantage"
    )
    save(figure, path)
