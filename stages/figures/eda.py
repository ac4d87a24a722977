"""The figures of stage `eda`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.figures.style import (
    COLOURS,
    MAX_CLASSES,
    RIGHT,
    WRONG,
    bars,
    gap_of,
    matrix,
    most_confused,
    scatter_classes,
    show_mosaic,
    wrapped,
)


def image_grid(
    rows: Sequence[np.ndarray], row_names: Sequence[str], title: str, column_names: Sequence[str] = ()
) -> Figure:
    """Rows of images, one row per name; each of `rows` has shape (K, H, W, C)."""
    columns, size, gap = max(map(len, rows)), rows[0].shape[1], gap_of(rows[0].shape[1])
    per_inch = min(110, 48 * (size + gap) / 31) / min(2, max(1, 7 / columns))  # pixels of the images
    beside = 1 + 0.13 * max(0, max(map(len, row_names)) - 11)  # inches
    slanted = max(map(len, column_names), default=0) > 11
    width = (columns * (size + gap) - gap) / per_inch + beside
    figure, axes = plt.subplots(figsize=(width, (len(rows) * (size + gap) - gap) / per_inch + 0.4 + 1.2 * slanted))
    show_mosaic(axes, rows, row_names, column_names)
    if slanted:
        figure.suptitle(wrapped(title, width), x=0.01, ha="left", fontsize=11)
    else:
        axes.set_title(wrapped(title, width - beside))
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
    """The share of each level among the training pixels: columns `pixel` (0-255), and `share`, or red, green and blue."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    if "share" not in table:
        for channel, colour in (("red", WRONG), ("green", COLOURS[3]), ("blue", RIGHT)):
            axes.plot(table["pixel"], 100 * table[channel], color=colour, lw=1.2, label=channel)
        axes.legend()
        axes.set(title="Levels of the training pixels, by colour", xlabel="level, 0 to 255", ylabel="% of pixels")
        return figure
    black = 100 * table["share"][0]
    first = int(black > 10)
    axes.bar(table["pixel"][first:], 100 * table["share"][first:], width=1, color=RIGHT)
    note = f" (not shown: {black:.1f} % are 0, the background)" if first else ""
    axes.set(
        title=f"Grey levels of the training pixels{note}",
        xlabel=f"grey level, {first} to 255",
        ylabel="% of pixels",
    )
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
        scatter_classes(axes, places, labels, names, {"fontsize": 8, "lw": 1}, s=5, alpha=0.6)
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
    percent = 100 * shares
    title = f"Class overlap: classes of the {neighbours} nearest neighbours, %"
    if len(names) > MAX_CLASSES:
        pairs = most_confused(shares)
        title = (
            f"Class overlap: the {len(pairs)} largest shares of another class among the {neighbours} nearest neighbours"
        )
        values = [percent[pair] for pair in pairs]
        texts = [f"{value:.0f} %" for value in values]
        return bars([f"{names[a]} → {names[b]}" for a, b in pairs], values, texts, title, "% of the neighbours")
    texts = np.where(shares >= 0.005, np.char.mod("%.0f", percent), "")
    words = {"title": title, "xlabel": "class of the neighbour", "ylabel": "class of the image"}
    words["label"] = "% of neighbours"
    return matrix(percent, texts, shares > 0.5, names, words, cmap="Blues", vmin=0, vmax=100)
