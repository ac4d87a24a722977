"""The figures of robustness: accuracy on corrupted images, and examples of these images."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.figures.style import show_mosaic
from stages.stress.corruptions import KINDS, STRENGTHS, UNITS, corrupt, level_of
from stages.stress.ood import INPUTS, draw_ood


def strengths(table: pd.DataFrame, model: str, height: int) -> Figure:
    """The accuracy of a model by corruption and strength, as a table of colours; what harms it most is below.

    Args:
        table: Columns model, corruption, strength (0 to 5), accuracy, of one run per model.
        model: The model that is shown.
        height: Of the images, pixels.
    """
    rows = table[table["model"] == model].pivot(index="corruption", columns="strength", values="accuracy")
    rows = 100 * rows.loc[rows.mean(axis=1).sort_values(ascending=False, kind="stable").index]
    figure, axes = plt.subplots(figsize=(7.2, 5.4))
    shown = axes.imshow(rows, cmap="YlOrBr_r", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(rows.to_numpy()):
        kind = rows.index[row]
        level = level_of(kind, column, height) if column else 0
        told = f"  ({round(level, 1 if level >= 1 else 2):g})" if column else ""
        axes.text(
            column,
            row,
            f"{value:.0f}{told}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if value < 45 else "black",
        )
    axes.set_xticks(range(6), ["clean", *map(str, STRENGTHS)])
    axes.set_yticks(range(len(rows)), [f"{kind}\n{UNITS[kind]}" for kind in rows.index], fontsize=8.5)
    axes.set_xlabel("strength (in parentheses: the level)")
    axes.set_title(f"{model}: accuracy on corrupted test images, %")
    axes.grid(False)
    figure.colorbar(shown, shrink=0.8, label="accuracy, %")
    return figure


def samples(images: np.ndarray, seed: int) -> Figure:
    """Corrupted images, one row per corruption, from clean on the left to strength 5; and OOD inputs below.

    All are as in the data: those of Fashion-MNIST, light on black. White of grey images is drawn as light grey, which
    stands out from the page.

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
    rows = [0.9 * row if row.shape[-1] == 1 else row for row in rows]
    for axes, half in zip((grid["left"], grid["right"]), halves, strict=True):
        show_mosaic(axes, rows[half], names[half], ["clean", *map(str, STRENGTHS)])
    grid["left"].set_title("Test images, corrupted at strengths 1 to 5")
    show_mosaic(grid["below"], rows[len(names) :], list(INPUTS))
    grid["below"].set_title("Out-of-distribution (OOD) inputs")
    return figure
