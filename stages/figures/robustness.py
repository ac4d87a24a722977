"""Pictures of robustness: accuracy as pictures get worse, and what they look like."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.evaluation.corruptions import KINDS, LEVELS, STRENGTHS, UNITS, corrupt
from stages.evaluation.unfamiliar import INPUTS, draw_unfamiliar
from stages.figures.results import model_colour
from stages.figures.style import show_mosaic, tiled


def curves(table: pd.DataFrame) -> Figure:
    """Accuracy by strength, a panel a corruption, a line a model: the mean over its runs.

    Args:
        table: Columns model, corruption, strength (0 to 5), accuracy, as in `reports/robustness`, all runs one below the
            other. Models have the colours of `learning_curves` where they come in the same order.
    """
    figure, grid = plt.subplots(2, 5, figsize=(13, 5.4), sharey=True)
    for axes, kind in zip(grid.flat, KINDS, strict=True):
        rows = table[table["corruption"] == kind]
        for index, (model, runs) in enumerate(rows.groupby("model", sort=False)):
            means = 100 * runs.groupby("strength")["accuracy"].mean()
            axes.plot(means.index, means, "-o", ms=3, color=model_colour(index), label=model)
        axes.set(title=kind, xlabel=UNITS[kind], ylim=(-3, 100))
        axes.set_xticks([0, *STRENGTHS], ["clean", *map(str, LEVELS[kind])], fontsize=8.5)
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy, %")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def samples(images: np.ndarray, seed: int) -> Figure:
    """Corrupted pictures, a row a kind, from the clean one on the left to strength 5; and unfamiliar input below.

    Unlike elsewhere they are shown light on black, as models get them: a brighter one looks brighter.
    White is toned down to stand out from the page.

    Args:
        images: uint8 (K, 28, 28, 1), which the rows take in turn.
        seed: Of what is random.
    """
    names, steps = list(KINDS), (0, *STRENGTHS)
    rows = []
    for place, kind in enumerate(names):
        picture = images[place % len(images), None]
        rows.append(np.concatenate([corrupt(picture, kind, strength, seed) for strength in steps]))
    halves = [slice(0, len(names) // 2), slice(len(names) // 2, None)]
    shown = 2 * len(steps) + 2
    figure, grid = plt.subplot_mosaic([["left", "right"], ["below", "below"]], figsize=(10, 6.5), height_ratios=[5, 3])
    for axes, half in zip((grid["left"], grid["right"]), halves, strict=True):
        show_mosaic(axes, tiled([255 - 0.9 * row for row in rows[half]]), names[half], ["clean", *map(str, STRENGTHS)])
    grid["left"].set_title("Test pictures, corrupted with strength 1 to 5")
    unfamiliar = [255 - 0.9 * draw_unfamiliar(name, shown, seed) for name in INPUTS]
    show_mosaic(grid["below"], tiled(unfamiliar), list(INPUTS))
    grid["below"].set_title("Unfamiliar input")
    return figure
