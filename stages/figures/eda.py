"""The figures of stage `eda`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.figures.style import RIGHT, class_colour, show_mosaic, tiled


def image_grid(
    rows: Sequence[np.ndarray], row_names: Sequence[str], title: str, column_names: Sequence[str] = ()
) -> Figure:
    """Rows of images, one row per name; each of `rows` has shape (K, H, W, C)."""
    mosaic = tiled(rows)
    figure, axes = plt.subplots(figsize=(mosaic.shape[1] / 48 + 1, mosaic.shape[0] / 48 + 0.4))
    show_mosaic(axes, mosaic, row_names, column_names)
    axes.set_title(title)
    return figure


def typical_and_unusual(typical: np.ndarray, unusual: np.ndarray, names: Sequence[str]) -> Figure:
    """The most typical images of each class beside the most unusual ones; both arrays are (classes, K, H, W, C)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 7))
    show_mosaic(left, tiled(typical), names)
    show_mosaic(right, tiled(unusual), ())
    left.set_title("Most typical: close to others of the class")
    right.set_title("Most unusual: far from the others")
    return figure


def class_balance(table: pd.DataFrame) -> Figure:
    """Bars of the number of training images per class; columns `class`, `images`."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    bars = axes.barh(table["class"], table["images"], color=RIGHT)
    axes.bar_label(bars, [f"{count:,}" for count in table["images"]], padding=3)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set(title="Training images per class", xlabel="images")
    return figure


def pixel_histogram(table: pd.DataFrame) -> Figure:
    """The share of each grey level among the training pixels; columns `pixel` (0-255), `share`."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    axes.bar(table["pixel"][1:], 100 * table["share"][1:], width=1, color=RIGHT)
    black = 100 * table["share"][0]
    axes.set(
        title=f"Grey levels of the training pixels (not shown: {black:.1f} % are 0, the background)",
        xlabel="grey level, 1 to 255",
        ylabel="% of pixels",
    )
    return figure


def embeddings(points: dict[str, np.ndarray], labels: np.ndarray, names: Sequence[str]) -> Figure:
    """Scatter plots side by side, with one colour and one label per class.

    Args:
        points: The points of each plot, (N, 2), by its title.
        labels: (N,), from 0.
        names: Of the classes.
    """
    figure, grid = plt.subplots(1, len(points), figsize=(6 * len(points), 5.6))
    for axes, (title, places) in zip(grid, points.items(), strict=True):
        axes.scatter(*places.T, s=5, alpha=0.6, linewidths=0, c=[class_colour(label) for label in labels])
        for label, name in enumerate(names):
            x, y = np.median(places[labels == label], axis=0)
            box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": class_colour(label), "alpha": 0.85}
            axes.text(x, y, name, ha="center", va="center", fontsize=8, bbox=box)
        axes.set(title=title, xticks=[], yticks=[])
        axes.grid(False)
    return figure


def class_overlap(shares: np.ndarray, names: Sequence[str], neighbours: int) -> Figure:
    """The share of each class (columns) among the nearest neighbours of a class (rows).

    Args:
        shares: (classes, classes), rows sum to 1.
        names: Of the classes.
        neighbours: How many nearest neighbours of each image were counted.
    """
    figure, axes = plt.subplots(figsize=(7.2, 6.2))
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.grid(False)
    for row, column in np.ndindex(shares.shape):
        if shares[row, column] >= 0.005:
            dark = shares[row, column] > 0.5
            axes.text(
                column, row, f"{100 * shares[row, column]:.0f}",
                ha="center", va="center", fontsize=9, color="white" if dark else "black",
            )  # fmt: skip
    axes.set(
        title=f"Class overlap: classes of the {neighbours} nearest neighbours, %",
        xlabel="class of the neighbour",
        ylabel="class of the image",
    )
    figure.colorbar(image, shrink=0.8, label="% of neighbours")
    return figure
