"""The figures of robustness: accuracy on corrupted images, and examples of these images."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.figures.style import model_colours, show_mosaic
from stages.stress.corruptions import KINDS, LEVELS, STRENGTHS, UNITS, corrupt
from stages.stress.ood import INPUTS, draw_ood


def curves(table: pd.DataFrame) -> Figure:
    """Accuracy by strength, one panel per corruption and one line per model.

    Args:
        table: Columns model, corruption, strength (0 to 5), accuracy; one run per model, in the order of `params.yaml`.
    """
    colours = model_colours(list(table["model"].unique()))
    figure, grid = plt.subplots(2, 5, figsize=(13, 5.4), sharey=True)
    for axes, kind in zip(grid.flat, KINDS, strict=True):
        rows = table[table["corruption"] == kind]
        for model, run in rows.groupby("model", sort=False):
            axes.plot(run["strength"], 100 * run["accuracy"], "-o", ms=3, color=colours[model], label=model)
        axes.set(title=kind, xlabel=UNITS[kind], ylim=(-3, 100))
        axes.set_xticks([0, *STRENGTHS], ["clean", *map(str, LEVELS[kind])], fontsize=8.5)
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy, %")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def samples(images: np.ndarray, seed: int) -> Figure:
    """Corrupted images, one row per corruption, from clean on the left to strength 5; and OOD inputs below.

    Unlike in other figures, grey images are light on black, as in the data. White is drawn as light grey, which stands
    out from the page.

    Args:
        images: uint8 (K, H, W, C), which the rows take in turn.
        seed: Seed of the corruptions and the OOD inputs.
    """
    names, steps = list(KINDS), (0, *STRENGTHS)
    rows = []
    for place, kind in enumerate(names):
        image = images[place % len(images), None]
        rows.append(np.concatenate([corrupt(image, kind, strength, seed) for strength in steps]))
    halves = [slice(0, len(names) // 2), slice(len(names) // 2, len(names))]
    shown = 2 * len(steps) + 2
    figure, grid = plt.subplot_mosaic([["left", "right"], ["below", "below"]], figsize=(10, 6.5), height_ratios=[5, 3])
    rows += [draw_ood(name, shown, images.shape[1:], seed) for name in INPUTS]
    rows = [255 - 0.9 * row if row.shape[-1] == 1 else row for row in rows]
    for axes, half in zip((grid["left"], grid["right"]), halves, strict=True):
        show_mosaic(axes, rows[half], names[half], ["clean", *map(str, STRENGTHS)])
    grid["left"].set_title("Test images, corrupted at strengths 1 to 5")
    show_mosaic(grid["below"], rows[len(names) :], list(INPUTS))
    grid["below"].set_title("Out-of-distribution (OOD) inputs")
    return figure
