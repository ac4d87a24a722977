"""The figures of stage `report`: learning curves, comparison, statistics, confusion matrices, predictions."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from stages.base.runs import ENSEMBLE
from stages.figures.style import MAX_CLASSES, NEUTRAL, RIGHT, UNITS, WRONG, matrix, model_colours, short, show_pixels


def comparison(table: pd.DataFrame, selected: str) -> Figure:
    """Test accuracy against multiply-adds per image, one point per model.

    Args:
        table: Columns as in `reports/comparison.csv`. A model whose multiply-adds are unknown (NaN) has no point; the
            figure names it instead.
        selected: The selected model, which has another colour.
    """
    table = table.assign(multiply_adds=pd.to_numeric(table["multiply_adds"]))
    shown = table["multiply_adds"] > 0
    known, unknown = table[shown], list(table["model"][~shown])
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    ranked = known.sort_values("test_accuracy", ascending=False)
    spread = 100 * (known["test_accuracy"].max() - known["test_accuracy"].min())
    line = max(0.06 * spread, 0.1)  # a label's height, percentage points
    height = np.inf
    for row in ranked.itertuples():
        colour = WRONG if row.model == selected else RIGHT
        accuracy = 100 * row.test_accuracy
        axes.plot(row.multiply_adds, accuracy, "o", ms=9, color=colour)
        label = f"{row.model} {accuracy:.2f} %" + (" (selected)" if row.model == selected else "")
        height = min(accuracy, height - line)  # beside its dot, or just below the label above
        place = (row.multiply_adds, height)
        axes.annotate(label, place, xytext=(-9, 0), textcoords="offset points", ha="right", va="center")
    if len(known):
        axes.set_ylim(min(height, 100 * known["test_accuracy"].min()) - line, 100 * known["test_accuracy"].max() + line)
    several = "runs" in table and table["runs"].max() > 1
    axes.set(
        xscale="log",
        title="Test accuracy against multiply-adds" + (", means over the seeds" if several else ""),
        xlabel="multiply-adds per view of an image",
        ylabel="test accuracy, %",
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.ticklabel_format(axis="y", useOffset=False)
    if unknown:
        note = f"not shown, multiply-adds 0 or unknown:\n{', '.join(unknown)}"
        axes.text(0.98, 0.02, note, transform=axes.transAxes, ha="right", va="bottom", fontsize=9)
    if len(known):
        axes.set_xlim(known["multiply_adds"].min() / 30, known["multiply_adds"].max() * 2)  # labels stand to the left
    else:
        axes.set(xticks=[], yticks=[])
    return figure


def differences(pairs: pd.DataFrame, confidence: float) -> Figure:
    """The differences of test accuracy of all pairs, with intervals; a table as from `significance.compare_pairs`.

    Blue: the difference is significant; grey: it is not.
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
        title=f"Differences of test accuracy with {100 * confidence:g} % intervals (blue: significant, grey: not)",
        xlabel="percentage points",
    )
    return figure


def reliability(table: pd.DataFrame, temperatures: dict[str, float]) -> Figure:
    """Accuracy by confidence and the number of images, one panel per model.

    Args:
        table: As from `calibration.reliability`, with a column model.
        temperatures: The temperature of each model, for the title of its panel.
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
        counts.bar(bins["from"], bins["images"], bins["to"] - bins["from"], align="edge", color=NEUTRAL, alpha=0.5)
        counts.set(ylim=(0, 3 * bins["images"].max()), yticks=[])
        counts.spines[:].set_visible(False)
        largest = bins.loc[bins["images"].idxmax()]
        words = f"{largest['images']:,.0f} images"
        counts.text(largest["to"], largest["images"], words, ha="right", va="bottom", fontsize=8)
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
    figure.suptitle(
        "Accuracy by confidence, before temperature scaling (dots with intervals), and number of images (grey)",
        x=0.01, ha="left",
    )  # fmt: skip
    return figure


def coverage(table: pd.DataFrame) -> Figure:
    """Accuracy on the most confident images, by their share; columns model, coverage, accuracy."""
    figure, axes = plt.subplots(figsize=(7.5, 4))
    colours = model_colours(list(table["model"].unique()))
    for model, rows in table.groupby("model", sort=False):
        dash = "--" if model == ENSEMBLE else "-"  # it can cover the line of one of its models
        axes.plot(100 * rows["coverage"], 100 * rows["accuracy"], dash, color=colours[model], label=model, lw=2)
    axes.set(
        title="Accuracy on the images of highest confidence",
        xlabel="share of the test images, %",
        ylabel="accuracy on these images, %",
    )
    axes.legend(fontsize=9)
    return figure


def confusion(counts: np.ndarray, names: Sequence[str], model: str) -> Figure:
    """Confusion matrix, (classes, classes), rows actual. Only mistakes are coloured. Of many classes: see `matrix`."""
    mistakes = np.ma.masked_array(counts, np.eye(len(names), dtype=bool))
    right, many = f"{counts.trace():,} of {counts.sum():,} test images correct", len(names) > MAX_CLASSES
    words = {
        "title": f"{model}: confusion matrix ({right})",
        "bars": f"{model}: the most frequent confusions of {len(names)} classes ({right}), with their share of the class",
        "xlabel": "predicted class",
        "ylabel": "actual class",
        "label": "test images, actual → predicted class" if many else "mistakes",
    }
    shares = np.char.mod(" (%.0f %%)", 100 * counts / counts.sum(axis=1, keepdims=True).clip(1))
    texts = np.char.add(counts.astype(str), shares if many else "")
    dark, most = (mistakes > 0.6 * mistakes.max()).filled(False), max(1, mistakes.max())
    cmap = plt.get_cmap("YlOrBr").with_extremes(bad="#EFEFEF")
    return matrix(mistakes, np.where(counts, texts, ""), dark, names, words, cmap=cmap, vmin=0, vmax=most)


def roc(predictions: dict[str, dict[str, np.ndarray]], names: Sequence[str]) -> Figure:
    """ROC curves of models of two classes, by model: `probabilities`, (N, 2), and `labels`, (N,)."""
    from sklearn.metrics import auc, roc_curve  # here: it takes a second, and most data have more classes

    figure, axes = plt.subplots(figsize=(6.4, 5.2))
    colours = model_colours(list(predictions))
    for model, found in predictions.items():
        x, y, _ = roc_curve(found["labels"], found["probabilities"][:, 1])
        axes.plot(100 * x, 100 * y, color=colours[model], lw=2, label=f"{model}: AUROC {100 * auc(x, y):.2f} %")
    axes.plot([0, 100], [0, 100], color="black", lw=1, ls=":")
    title = f"ROC curves on the test images. Positive: {names[1]}"
    axes.set(title=title, xlabel="false positive rate, %", ylabel="true positive rate, %")
    axes.legend(loc="lower right")
    return figure


def predictions(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str], title: str
) -> Figure:
    """Images with their three most probable classes as bars. Blue: the actual class; vermilion: a wrong prediction.

    If the actual class is none of the three, it takes the place of the third.

    Args:
        images: (N, H, W, C).
        labels: (N,).
        probabilities: (N, classes).
        names: Of the classes.
        title: Which images these are.
    """
    columns, width, height = 4, 84, 34  # a cell, in `UNITS`: one image, then 50 for the bars
    rows = max(1, -(-len(images) // columns))
    figure, axes = plt.subplots(figsize=(12, 12 * rows * height / (columns * width) + 0.4))
    for index, (image, label, chances) in enumerate(zip(images, labels, probabilities, strict=True)):
        top, left = (index // columns) * height, (index % columns) * width
        extent = (left, left + UNITS, top + UNITS, top)
        show_pixels(axes, image, extent=extent)
        likeliest = np.argsort(-chances, kind="stable")[:3]
        shown = likeliest if label in likeliest else [*likeliest[:2], label]
        for place, guess in enumerate(shown):
            colour = RIGHT if guess == label else WRONG if guess == likeliest[0] else NEUTRAL
            y = top + 1 + 9.5 * place
            axes.barh(y + 6, 48 * chances[guess], left=left + 32, height=3.4, color=colour)
            weight = "bold" if guess == label else "normal"
            text = f"{short(names[guess], 16)}  {100 * chances[guess]:.0f} %"
            axes.text(left + 32, y + 3.6, text, fontsize=8.5, va="bottom", weight=weight)
    axes.set(xlim=(0, columns * width), ylim=(rows * height, -1), aspect="equal")
    axes.set_axis_off()
    axes.set_title(f"{title}. Bold and blue: the actual class" if len(images) else f"{title}: none")
    return figure
