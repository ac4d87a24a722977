"""The pictures of stage `report`: learning curves, comparison, certainty, confusion, predictions."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.dataset import CLASS_NAMES
from stages.figures.style import COLOURS, NEUTRAL, RIGHT, WRONG


def model_colour(index: int) -> str:
    """The colour of the model at place `index` of `params.yaml`, the same in every picture."""
    return COLOURS[(0, 6, 3, 4, 8, 1, 7, 9, 2, 5)[index % 10]]


def learning_curves(curves: pd.DataFrame) -> Figure:
    """Accuracy and loss by epoch for every model, training dashed, validation solid.

    Args:
        curves: Columns model, seed, epoch, accuracy, loss, val_accuracy, val_loss; a line a seed.
    """
    figure, grid = plt.subplots(1, 2, figsize=(11, 4.4))
    for axes, name, unit in zip(grid, ("accuracy", "loss"), ("%", "nats"), strict=True):
        scale = 100 if name == "accuracy" else 1
        for index, (model, runs) in enumerate(curves.groupby("model", sort=False)):
            colour = model_colour(index)
            for count, (_, rows) in enumerate(runs.groupby("seed")):
                label = None if count else model
                axes.plot(rows["epoch"], scale * rows[f"val_{name}"], "-o", ms=3, color=colour, label=label)
                axes.plot(rows["epoch"], scale * rows[name], "--", lw=1, color=colour)
        axes.set(title=f"{name.capitalize()} by epoch", xlabel="epoch", ylabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
    floor = 100 * curves["val_accuracy"].quantile(0.1)
    grid[0].set_ylim(max(0, floor - 4), None)
    grid[1].set_ylim(0, 1.15 * curves["val_loss"].quantile(0.95))
    grid[0].plot([], [], "-o", ms=3, color="black", label="validation")
    grid[0].plot([], [], "--", lw=1, color="black", label="training, as shown to it")
    figure.legend(*grid[0].get_legend_handles_labels(), fontsize=9, loc="outside right upper")
    return figure


def model_curves(history: pd.DataFrame, model: str) -> Figure:
    """One model's accuracy and loss by epoch; columns epoch, accuracy, loss, val_accuracy, val_loss."""
    figure, grid = plt.subplots(1, 2, figsize=(9, 3.4))
    for axes, name, unit in zip(grid, ("accuracy", "loss"), ("%", "nats"), strict=True):
        scale = 100 if name == "accuracy" else 1
        axes.plot(history["epoch"], scale * history[f"val_{name}"], "-o", ms=3, color=WRONG, label="validation")
        axes.plot(history["epoch"], scale * history[name], "--o", ms=3, color=RIGHT, label="training, as shown to it")
        axes.set(title=f"{model}: {name}", xlabel="epoch", ylabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
    grid[1].legend(fontsize=9)
    return figure


def comparison(table: pd.DataFrame, selected: str) -> Figure:
    """Test accuracy against multiply-adds a picture, a point a model; columns as in `reports/comparison.csv`."""
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    ranked = table.sort_values("test_accuracy", ascending=False)
    line = 6 * (table.test_accuracy.max() - table.test_accuracy.min())  # a label's height, percentage points
    height = np.inf
    for row in ranked.itertuples():
        colour = WRONG if row.model == selected else RIGHT
        accuracy = 100 * row.test_accuracy
        axes.plot(row.multiply_adds, accuracy, "o", ms=9, color=colour)
        label = f"{row.model} {accuracy:.2f} %" + (" (selected)" if row.model == selected else "")
        height = min(accuracy, height - line)  # beside its dot, or just below the label above
        place = (row.multiply_adds, height)
        axes.annotate(label, place, xytext=(-9, 0), textcoords="offset points", ha="right", va="center")
    axes.set(
        xscale="log",
        title="Test accuracy against the work a picture costs",
        xlabel="multiply-adds a picture",
        ylabel="test accuracy, %",
    )
    axes.set_xlim(table.multiply_adds.min() / 30, table.multiply_adds.max() * 2)  # labels stand to the left
    return figure


def differences(pairs: pd.DataFrame, confidence: float) -> Figure:
    """The differences of test accuracy of all pairs, with intervals; a table as from `uncertainty.compare_pairs`.

    Blue: one model is better; grey: the two cannot be told apart.
    """
    figure, axes = plt.subplots(figsize=(8, 1 + 0.3 * len(pairs)))
    places = np.arange(len(pairs))[::-1]
    for place, pair in zip(places, pairs.itertuples(), strict=True):
        colour = RIGHT if pair.p_holm < 1 - confidence else NEUTRAL
        axes.plot([100 * pair.difference_low, 100 * pair.difference_high], [place, place], color=colour, lw=3)
        axes.plot(100 * pair.difference, place, "o", color=colour, ms=6)
    axes.axvline(0, color="black", lw=1)
    axes.set_yticks(places, [f"{pair.better} - {pair.worse}" for pair in pairs.itertuples()])
    axes.set(
        title=f"Differences of test accuracy, with {100 * confidence:g} % intervals (grey: cannot be told apart)",
        xlabel="percentage points",
    )
    return figure


def reliability(table: pd.DataFrame, temperatures: dict[str, float]) -> Figure:
    """Accuracy by confidence, and how many pictures there are; a panel a model, rows as from `uncertainty.reliability`.

    Args:
        table: With a column model.
        temperatures: Of each model, fitted on validation, for its title.
    """
    models = list(table["model"].unique())
    columns = min(3, len(models))
    rows = -(-len(models) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3.6 * columns, 3.5 * rows), squeeze=False)
    for axes in grid.flat[len(models) :]:
        axes.set_axis_off()
    for axes, model in zip(grid.flat, models, strict=False):
        bins = table[table["model"] == model]
        counts = axes.twinx()
        counts.bar(bins["from"], bins["pictures"], bins["to"] - bins["from"], align="edge", color=NEUTRAL, alpha=0.5)
        counts.set(ylim=(0, 3 * bins["pictures"].max()), yticks=[])
        counts.spines[:].set_visible(False)
        largest = bins.loc[bins["pictures"].idxmax()]
        words = f"{largest['pictures']:,.0f} pictures"
        counts.text(largest["to"], largest["pictures"], words, ha="right", va="bottom", fontsize=8)
        axes.set_zorder(1)
        axes.patch.set_visible(False)
        axes.plot([0, 1], [0, 1], color="black", lw=1, ls=":")
        around = (bins["accuracy"] - bins["accuracy_low"], bins["accuracy_high"] - bins["accuracy"])
        axes.errorbar(bins["confidence"], bins["accuracy"], around, fmt="o", ms=4, color=RIGHT, lw=1.2)
        axes.set(title=f"{model} (temperature {temperatures[model]:.2f})", xlim=(0, 1), ylim=(0, 1.02))
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy")
    for axes in grid[-1]:
        axes.set_xlabel("confidence")
    figure.suptitle("Accuracy by confidence (dots, with intervals) and number of pictures (grey)", x=0.01, ha="left")
    return figure


def coverage(table: pd.DataFrame) -> Figure:
    """Accuracy on the share of the test pictures of which a model is surest; columns model, coverage, accuracy."""
    figure, axes = plt.subplots(figsize=(7.5, 4))
    for index, (model, rows) in enumerate(table.groupby("model", sort=False)):
        axes.plot(100 * rows["coverage"], 100 * rows["accuracy"], color=model_colour(index), label=model, lw=2)
    axes.set(
        title="Accuracy where the model may abstain",
        xlabel="share of the pictures that it answers, %",
        ylabel="accuracy on these, %",
    )
    axes.legend(fontsize=9)
    return figure


def confusion(table: pd.DataFrame, model: str) -> Figure:
    """Confusion matrix; columns actual, predicted, pictures. Colour shows the mistakes alone, the diagonal is grey."""
    counts = table["pictures"].to_numpy().reshape(10, 10)
    mistakes = np.ma.masked_array(counts, np.eye(10, dtype=bool))
    figure, axes = plt.subplots(figsize=(7.2, 6.2))
    cmap = plt.get_cmap("YlOrBr").with_extremes(bad="#EFEFEF")
    image = axes.imshow(mistakes, cmap=cmap, vmin=0, vmax=max(1, mistakes.max()))
    axes.set_xticks(range(10), CLASS_NAMES, rotation=40, ha="right")
    axes.set_yticks(range(10), CLASS_NAMES)
    axes.grid(False)
    for row, column in np.ndindex(10, 10):
        if counts[row, column]:
            dark = row != column and counts[row, column] > 0.6 * mistakes.max()
            axes.text(
                column,
                row,
                counts[row, column],
                ha="center",
                va="center",
                fontsize=9,
                color="white" if dark else "black",
            )
    axes.set(
        title=f"{model}: what the test pictures were taken for ({counts.trace():,} of {counts.sum():,} right)",
        xlabel="predicted class",
        ylabel="actual class",
    )
    figure.colorbar(image, shrink=0.8, label="mistakes")
    return figure


def predictions(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, title: str) -> Figure:
    """Pictures, each with its three likeliest classes as bars: blue the actual class, vermilion a wrong first choice.

    Args:
        images: (N, 28, 28, 1); labels (N,); probabilities (N, 10).
        title: What these pictures are.
    """
    columns, width, height = 4, 84, 34  # a cell: the picture's 28 pixels, then 50 for the bars
    rows = max(1, -(-len(images) // columns))
    figure, axes = plt.subplots(figsize=(12, 12 * rows * height / (columns * width) + 0.4))
    for index, (picture, label, chances) in enumerate(zip(images, labels, probabilities, strict=True)):
        top, left = (index // columns) * height, (index % columns) * width
        extent = (left, left + 28, top + 28, top)
        axes.imshow(picture[..., 0], cmap="gray_r", vmin=0, vmax=255, interpolation="nearest", extent=extent)
        likeliest = np.argsort(-chances, kind="stable")[:3]
        shown = likeliest if label in likeliest else [*likeliest[:2], label]
        for place, guess in enumerate(shown):
            colour = RIGHT if guess == label else WRONG if guess == likeliest[0] else NEUTRAL
            y = top + 1 + 9.5 * place
            axes.barh(y + 6, 48 * chances[guess], left=left + 32, height=3.4, color=colour)
            weight = "bold" if guess == label else "normal"
            text = f"{CLASS_NAMES[guess]}  {100 * chances[guess]:.0f} %"
            axes.text(left + 32, y + 3.6, text, fontsize=8.5, va="bottom", weight=weight)
    axes.set(xlim=(0, columns * width), ylim=(rows * height, -1), aspect="equal")
    axes.set_axis_off()
    axes.set_title(f"{title}. Bold and blue: the actual class" if len(images) else f"{title}: none")
    return figure
