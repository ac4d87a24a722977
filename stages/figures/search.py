"""The figures of a search: its history, the importance of each key, one slice per key, and the finalists."""

import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stages.figures.style import NEUTRAL, RIGHT, WRONG, save

COLUMNS = 3  # of slices
MARK = {"marker": "v", "s": 26, "color": "#777777", "linewidths": 0}  # of a trial that was stopped early
COMPLETE, STOPPED = "complete", "pruned (at the edge: below)"


def limits(table: pd.DataFrame) -> tuple[float, float]:
    """The ends of the axis of accuracy, %; the worst complete trials may lie below, so that the others can be compared."""
    values = 100 * table.loc[table["state"] == "complete", "val_accuracy"]
    low, high = np.quantile(values, 0.1), values.max()
    margin = max(0.1 * (high - low), 0.05)
    return low - 4 * margin, high + margin


def show_trials(axes: Axes, x: pd.Series, table: pd.DataFrame) -> None:
    """Show the accuracy of complete and pruned trials, at `x`; those below the axis, at its lower edge."""
    bottom, top = limits(table)
    edge = bottom + 0.02 * (top - bottom)
    accuracy = (100 * table["val_accuracy"]).clip(lower=edge)
    pruned, complete = table["state"] == "pruned", table["state"] == "complete"
    axes.scatter(x[pruned], accuracy[pruned], label=STOPPED, zorder=2, **MARK)
    below = complete & (accuracy <= edge)
    axes.scatter(x[below], accuracy[below], marker="v", s=26, color=RIGHT, linewidths=0, zorder=3)
    axes.scatter(x[complete & ~below], accuracy[complete & ~below], s=26, color=RIGHT, label=COMPLETE, zorder=3)
    best = table["val_accuracy"].where(complete).idxmax()
    axes.scatter(
        x[[best]], accuracy[[best]], s=90, facecolors="none", edgecolors=WRONG, linewidths=1.8, label="best", zorder=4
    )
    axes.set_ylim(bottom, top)


def draw_history(table: pd.DataFrame, present: float | None, path: Path, dataset: str) -> None:
    """Draw the accuracy of each trial and the best so far, and save.

    Args:
        table: From `stages.tuning.study.table`, with at least one complete trial.
        present: The accuracy of the model's block as it is, 0 to 1, if that was a trial.
        path: Where to save.
        dataset: Of the images.
    """
    figure, axes = plt.subplots(figsize=(8, 4.8))
    best = (100 * table["val_accuracy"].where(table["state"] == "complete")).cummax().ffill()
    axes.step(table["number"], best, where="post", color=WRONG, linewidth=1.5, label="best so far", zorder=1)
    show_trials(axes, table["number"], table)
    if present is not None:
        axes.axhline(100 * present, color="black", linewidth=1, linestyle=":", label="the block as it is", zorder=0)
    counts = table["state"].value_counts()
    lost = table["state"].isin(["failed", "interrupted"])
    if lost.any():
        bottom = np.full(lost.sum(), axes.get_ylim()[0])
        axes.scatter(
            table["number"][lost], bottom, marker="x", s=40, color="black", label="failed or interrupted", clip_on=False
        )
    axes.set_xlabel("trial")
    axes.set_ylabel("validation accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("Trials: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    figure.legend(loc="outside upper center", ncols=3, fontsize=9)
    save(figure, path, dataset)


def draw_importance(importance: dict[str, float], path: Path, dataset: str) -> None:
    """Draw the importance of each key, from `stages.tuning.study.importance`, and save."""
    names = list(importance)[::-1]
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.32 * max(len(names), 2)))
    if names:
        shares = [100 * importance[name] for name in names]
        bars = axes.barh(names, shares, color=RIGHT, height=0.6)
        axes.bar_label(bars, [f"{share:.0f}" for share in shares], padding=3)
        axes.set_xlim(0, max(shares) * 1.1)
        axes.grid(axis="y", visible=False)
    else:
        axes.text(0.5, 0.5, "too few different complete trials to tell", ha="center", transform=axes.transAxes)
        axes.set_yticks([])
    axes.set_xlabel("share of the variation of validation accuracy, % (functional ANOVA)")
    axes.set_title("Which parameters matter in these ranges")
    save(figure, path, dataset)


def order(value: object) -> tuple:
    """The place of a value on an axis: numbers first, then lists, which are JSON, then words."""
    if isinstance(value, str):
        return (1, json.loads(value)) if value.startswith("[") else (2, value)
    return 0, value


def draw_slices(table: pd.DataFrame, logarithmic: dict[str, bool], path: Path, dataset: str) -> None:
    """Draw the accuracy of each trial by the value of each key, and save.

    Args:
        table: As for `draw_history`.
        logarithmic: For each key, whether its scale is.
        path: Where to save.
        dataset: Of the images.
    """
    table = table[table["state"].isin(["complete", "pruned"])]
    columns = min(COLUMNS, len(logarithmic))
    rows = math.ceil(len(logarithmic) / columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(1.2 + 2.5 * columns, 0.8 + 2.2 * rows), sharey=True, squeeze=False
    )
    for axes, (key, scale) in zip(grid.flat, logarithmic.items(), strict=False):
        x = table[key]
        if not pd.api.types.is_numeric_dtype(x) or pd.api.types.is_bool_dtype(x) or x.nunique() <= 2:
            names = sorted(x.unique(), key=order)
            x = x.map({name: place for place, name in enumerate(names)})
            axes.set_xticks(range(len(names)), map(str, names))
            axes.set_xlim(-0.5, len(names) - 0.5)
        elif scale:
            axes.set_xscale("log")
            ticks = [
                tick for tick in (a * 10.0**b for b in range(-9, 5) for a in (1, 2, 5)) if x.min() <= tick <= x.max()
            ]
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        show_trials(axes, x, table)
        axes.set_xlabel(key)
    for axes in list(grid.flat)[len(logarithmic) :]:
        axes.set_visible(False)
    figure.supylabel("validation accuracy, %", fontsize=10)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9)
    save(figure, path, dataset)


def draw_finalists(table: pd.DataFrame, seeds: list[str], confidence: float, path: Path, dataset: str) -> None:
    """Draw the accuracy of each configuration with each seed, its mean and the interval of its advantage, and save.

    Args:
        table: `reports/search/MODEL-finalists.csv`.
        seeds: The columns that hold the accuracy with each seed.
        confidence: Of the interval.
        path: Where to save.
        dataset: Of the images.
    """
    figure, axes = plt.subplots(figsize=(8, 1.5 + 0.5 * len(table)))
    present = 100 * table.loc[table["configuration"] == "block", "val_accuracy"].item()
    axes.axvline(present, color=NEUTRAL, linewidth=1.2, linestyle="--", zorder=0)
    for place, row in enumerate(table.to_dict("records")):
        axes.scatter([100 * row[seed] for seed in seeds], [place] * len(seeds), s=18, color=NEUTRAL, zorder=2)
        if pd.notna(row["advantage_low"]):
            ends = [present + 100 * row[f"advantage_{end}"] for end in ("low", "high")]
            axes.plot(ends, [place, place], color=RIGHT, linewidth=2, zorder=1)
        axes.scatter(100 * row["val_accuracy"], place, marker="D", s=44, color=RIGHT, zorder=3)
    axes.set_yticks(range(len(table)), table["configuration"])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel("validation accuracy, %")
    axes.set_title(
        f"Diamond: mean of {len(seeds)} seeds; dots: each seed; line: the mean of the block (dashed)\n"
        f"plus the {100 * confidence:g} % interval of the advantage (Dunnett)"
    )
    save(figure, path, dataset)
