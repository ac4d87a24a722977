"""The figures of stage `audit`: near-duplicates and label issues."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.figures.style import RIGHT, UNITS, WRONG, gap_of, short, show_pixels, tiled

SHOWN = 24  # pairs, and label issues
COLUMNS = 4


def near_duplicates(table: pd.DataFrame, images: dict[str, np.ndarray], near: float) -> Figure:
    """Pairs side by side, with their labels, splits and numbers below. Vermilion and bold: the labels differ.

    Args:
        table: Columns split_a, image_a, label_a, likewise _b, distance, exact, mirrored; its first `SHOWN` rows.
        images: The images of each split, (N, H, W, C).
        near: The distance below which two images are near-duplicates.
    """
    table = table[:SHOWN]
    rows = max(1, -(-len(table) // COLUMNS))
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(11, 1.62 * rows + 0.4), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, table.itertuples(), strict=False):
        pair = np.stack([images[row.split_a][row.image_a], images[row.split_b][row.image_b]])
        mosaic = tiled([pair], gap=2 * gap_of(pair.shape[1]))
        show_pixels(axes, mosaic, extent=(-0.5, UNITS * mosaic.shape[1] / pair.shape[1] - 0.5, UNITS - 0.5, -0.5))
        differ = row.label_a != row.label_b
        labels = f"{short(row.label_a, 14)} ≠ {short(row.label_b, 14)}" if differ else row.label_a
        kind = "identical" if row.exact else f"{row.distance:.2f}" + (", mirrored" if row.mirrored else "")
        style = {"color": WRONG, "weight": "bold"} if differ else {"color": "black"}
        axes.text(31, 31, labels, ha="center", va="top", fontsize=9, **style)
        places = f"{row.split_a} {row.image_a} | {row.split_b} {row.image_b}"
        axes.text(31, 36, f"{places}\n{kind}", ha="center", va="top", fontsize=8, color="#444444")
        axes.set(xlim=(-8, 70), ylim=(46, -1))
    title = f"Near-duplicates: pairs with a distance below {near:g}"
    notes = "vermilion: the labels differ" if len(table) else "none were found"
    figure.suptitle(f"{title}; {notes}", x=0.01, ha="left", fontsize=11)
    return figure


def label_issues(table: pd.DataFrame, images: dict[str, np.ndarray]) -> Figure:
    """Label issues: images with the given label in black and the suggested label in blue.

    Args:
        table: Columns split, image, given, suggested, probability_given, probability_suggested; its first `SHOWN` rows.
        images: The images of each split, (N, H, W, C).
    """
    table = table[:SHOWN]
    rows = max(1, -(-len(table) // COLUMNS))
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(11, 1.45 * rows + 0.4), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, table.itertuples(), strict=False):
        show_pixels(axes, images[row.split][row.image], extent=(-0.5, 27.5, 27.5, -0.5))
        axes.text(31, 4, f"{row.split} {row.image}", fontsize=8, va="center", color="#444444")
        for y, what, name, chance, colour in (
            (10, "given", row.given, row.probability_given, "black"),
            (20, "suggested", row.suggested, row.probability_suggested, RIGHT),
        ):
            axes.text(31, y, f"{what}, {100 * chance:.1f} %", fontsize=8, va="center", color=colour)
            axes.text(31, y + 4.5, short(name, 16), fontsize=9, va="center", color=colour, weight="bold")
        axes.set(xlim=(-1, 70), ylim=(29, -1))
    notes = "black: the given label, blue: the suggested label" if len(table) else "none were found"
    figure.suptitle(
        f"Label issues: the flagged labels with the lowest probabilities; {notes}", x=0.01, ha="left", fontsize=11
    )
    return figure
