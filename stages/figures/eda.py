"""The figures of stage `eda`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.figures.style import MAX_CLASSES, RIGHT, bars, gap_of, matrix, put_title, scatter_classes, show_mosaic


def image_grid(
    rows: Sequence[np.ndarray], row_names: Sequence[str], title: str, column_names: Sequence[str] = ()
) -> Figure:
    """Rows of images, one row per name; each of `rows` has shape (K, H, W, C)."""
    columns, size, gap = max(map(len, rows)), rows[0].shape[1], gap_of(rows[0].shape[1])
    per_inch = 48 * (size + gap) / 31 / np.clip(7 / columns, 1, 2)  # pixels of the images
    beside, slanted = 1 + 0.13 * max(0, max(map(len, row_names)) - 11), max(map(len, column_names), default=0) > 11
    width, height = ((count * (size + gap) - gap) / per_inch for count in (columns, len(rows)))
    figure, axes = plt.subplots(figsize=(width + beside, height + 0.4 + 1.2 * slanted))
    show_mosaic(axes, rows, row_names, column_names)
    axes.set_anchor("E" if beside > 1 else "C")  # the names need the width at their side
    put_title(axes, title, inside=columns > 7 and not slanted)
    return figure


def typical_and_unusual(
    typical: Sequence[np.ndarray], unusual: Sequence[np.ndarray], names: Sequence[str], which: str = ""
) -> Figure:
    """The most typical images of each class beside the most unusual ones, (K, H, W, C); `which` ends the title."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 0.64 * len(names) + 0.6))
    show_mosaic(left, typical, names)
    show_mosaic(right, unusual)
    left.set_title("Most typical: close to others of the class")
    right.set_title("Most unusual: far from the others")
    if which:
        figure.suptitle(f"Typical and unusual training images{which}", x=0.01, ha="left", fontsize=11)
    return figure


def class_balance(table: pd.DataFrame) -> Figure:
    """Bars of the number of training images per class; columns `class`, `images`. Of many classes, the ends are shown."""
    title = "Training images per class"
    if len(table) > MAX_CLASSES:
        half, ranked = MAX_CLASSES // 2, table.sort_values("images", ascending=False, kind="stable")
        title += f": the {half} most frequent and the {half} rarest of {len(table)} classes"
        table = pd.concat([ranked[:half], ranked[-half:]])
    return bars(table["class"], table["images"], [f"{count:,}" for count in table["images"]], title, "images")


def pixel_histogram(table: pd.DataFrame) -> Figure:
    """The share of each level among the training pixels, and of each colour: see `stages.eda.histogram`."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    title, xlabel = "Levels of the training pixels, by colour", "level, 0 to 255"
    if "red" in table:
        for channel in table.columns[2:]:
            axes.plot(table["pixel"], 100 * table[channel], color=channel, lw=1.2, label=channel)
        axes.legend()
    else:
        most = table["share"].idxmax()
        left_out = [most] if table["share"][most] > 0.1 else []  # a plain background would hide all other levels
        rest = table.drop(left_out)
        axes.bar(rest["pixel"], 100 * rest["share"], width=1, color=RIGHT)
        notes = [f" (not shown: {100 * table['share'][level]:.1f} % are {level})" for level in left_out]
        title, xlabel = f"Grey levels of the training pixels{''.join(notes)}", "grey level, 0 to 255"
    axes.set(title=title, xlabel=xlabel, ylabel="% of pixels")
    return figure


def embeddings(points: dict[str, np.ndarray], labels: np.ndarray, names: Sequence[str]) -> Figure:
    """Scatter plots side by side: see `scatter_classes`.

    Args:
        points: The points of each plot, (N, 2), by its title.
        labels: (N,), from 0.
        names: Of the classes.
    """
    figure, grid = plt.subplots(1, len(points), figsize=(6 * len(points), 5.6))
    for axes, (title, places) in zip(grid, points.items(), strict=True):
        scatter_classes(axes, places, labels, names, 8, 1, s=5, alpha=0.6)
        axes.set(title=title, xticks=[], yticks=[])
        axes.grid(False)
    return figure


def class_overlap(shares: np.ndarray, names: Sequence[str], neighbours: int) -> Figure:
    """The share of each class (columns) among the nearest neighbours of a class (rows); of many classes, the largest ones.

    Args:
        shares: (classes, classes), rows sum to 1.
        names: Of the classes.
        neighbours: How many nearest neighbours of each image were counted.
    """
    words = {
        "title": f"Class overlap: classes of the {neighbours} nearest neighbours, %",
        "bars": f"Overlap of {len(names)} classes: the largest shares among {neighbours} neighbours of another class",
        "xlabel": "class of the neighbour",
        "ylabel": "class of the image",
        "label": "% of neighbours",
    }
    texts = np.where(shares >= 0.005, np.char.mod("%.0f", 100 * shares), "")
    return matrix(100 * shares, texts, shares > 0.5, names, words, cmap="Blues", vmin=0, vmax=100)
