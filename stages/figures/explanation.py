"""The figures of stage `explain`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.figures.style import scatter_classes, short, show_pixels

# Few steps each: a saved figure has at most 256 colours.
DIVERGING = plt.get_cmap("PuOr", 31)  # orange, white, purple: safe for colour-blind readers
GREY = plt.get_cmap("gray", 64)
COLUMNS = 6  # images side by side in `occlusion`
OUTLINE = 223  # the highest grey level inside the outline


def occlusion(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    drops: np.ndarray,
    patch: int,
    names: Sequence[str],
    outline: str,
) -> Figure:
    """Images above their occlusion maps, all on the same colour scale: correct predictions first, then mistakes.

    Args:
        images: uint8 (N, H, W, C), at most `COLUMNS` correct ones and as many mistakes.
        labels: (N,).
        probabilities: (N, classes).
        drops: (N, H, W, classes), how much the probability of each class falls, -1 to 1.
        patch: Height and width of the black square, pixels.
        names: Of the classes.
        outline: What a grey image shows, dark on white, whose outline is drawn; empty for none.
    """
    predicted = probabilities.argmax(axis=1)
    maps = {"the predicted class": predicted, "the actual class": labels}
    limit = max([100 * np.abs(drops[range(len(drops)), ..., classes]).max() for classes in maps.values()] + [1])
    right, wrong = predicted == labels, predicted != labels
    count = 5 if wrong.any() else 2
    figure, grid = plt.subplots(count, COLUMNS, figsize=(10.4, 1.8 * count + 1.8))
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set_visible(False)
    blocks = [("Correct,\ndrawn at random", grid[:2], right), ("The most\nconfident mistakes", grid[2:], wrong)]
    for name, rows, members in blocks[: 2 if wrong.any() else 1]:
        rows[0, 0].set_ylabel(name, weight="bold")
        for column, index in enumerate(np.flatnonzero(members)):
            chances = 100 * probabilities[index]
            title = f"{short(names[predicted[index]], 11)} {chances[predicted[index]]:.0f} %"
            if predicted[index] != labels[index]:
                title = f"\n{title}\nactual: {short(names[labels[index]], 11)} {chances[labels[index]]:.0f} %"
            rows[0, column].set_title(title, fontsize=9)
            show_pixels(rows[0, column], images[index], cmap=GREY)
            for axes, (what, classes) in zip(rows[1:, column], maps.items(), strict=False):
                values = -100 * drops[index, ..., classes[index]]  # changes of the probability
                shown = axes.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
                inside = images[index, ..., 0] <= OUTLINE
                if outline and len(np.unique(inside)) == 2:
                    axes.contour(inside, levels=[0.5], colors="#777777", linewidths=0.8, antialiased=False)
                lowest, highest = (round(float(change)) for change in (values.min(), values.max()))
                axes.set_xlabel(f"{lowest:+d} to {highest:+d} points", fontsize=9)
                if column == 0:
                    axes.set_ylabel(f"change of\n{what}")
    label = (
        "change of the probability when the place is covered, percentage points: it falls (orange) or rises (purple)"
    )
    figure.colorbar(shown, ax=grid, location="bottom", shrink=0.6, aspect=40, pad=0.02, label=label)
    figure.suptitle(
        f"Occlusion maps. Each pixel shows how the probability changes when a square of {patch} x {patch} pixels around it "
        "is\nset to 0, black. Details smaller than the square are not visible."
        + (f" Grey line: outline of the {outline}." if outline else "")
        + ("\n" if wrong.any() else " There are no mistakes.\n"),
        x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    return figure


def embedding(table: pd.DataFrame, labels: np.ndarray, width: int, names: Sequence[str]) -> Figure:
    """Points with the colours and names of their actual classes, as in `scatter_classes`, and a ring around each mistake.

    Args:
        table: Columns x, y and right (0 or 1); one row per image.
        labels: The actual classes, (N,), from 0.
        width: The number of features per image.
        names: Of the classes.
    """
    figure, axes = plt.subplots(figsize=(9.6, 8))
    scatter_classes(axes, table[["x", "y"]].to_numpy(), labels, names, 9, 1.5, s=14, alpha=0.75)
    wrong = table[table["right"] == 0]
    label = f"mistakes: {len(wrong)} of {len(table):,}"
    axes.scatter(wrong["x"], wrong["y"], s=44, facecolors="none", edgecolors="black", linewidths=0.9, label=label)
    axes.set(
        xticks=[],
        yticks=[],
        title=f"t-SNE of the {width} features per test image that the last dense layer gets, coloured by actual class."
        "\nNeighbours stay neighbours; distances between groups have no meaning.",
    )
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.legend(loc="best")
    return figure
