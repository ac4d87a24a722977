"""The figure of the benchmark: accuracy over time, one line per contender and repetition."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from stages.figures.style import NEUTRAL, RIGHT, WRONG, save

LINES = {
    "notebook": (NEUTRAL, "s"),
    "cnn": ("#332288", "^"),
    "sprint": (WRONG, "o"),
    "dash": (RIGHT, "D"),
    "resnet": ("#222222", "v"),
}


def draw(curves: pd.DataFrame, summary: dict, path: Path) -> None:
    """Draw and save the figure.

    Args:
        curves: Columns contender, repetition, seconds, val_accuracy.
        summary: The content of `reports/benchmark.json`, which names the machine.
        path: Where to save.
    """
    figure, axes = plt.subplots(figsize=(8, 4.4))
    for contender, (colour, marker) in LINES.items():
        for repetition, run in curves[curves.contender == contender].groupby("repetition"):
            label = contender if repetition == 1 else None
            axes.plot(
                run.seconds, 100 * run.val_accuracy, color=colour, marker=marker, markersize=4, linewidth=1, label=label
            )
    axes.set_ylim(82, None)
    axes.set_xlim(0, None)
    axes.set_xlabel("seconds since the process started (includes loading TensorFlow)")
    axes.set_ylabel("validation accuracy, % (from 82 %)")
    machine = summary["machine"]
    axes.set_title(f"Validation accuracy over time, {summary['repetitions']} repetitions", y=1.05)
    axes.text(0, 1.02, f"{machine['cores']} cores, {machine['processor']}", transform=axes.transAxes, fontsize=8)
    axes.legend(loc="lower right")
    save(figure, path)
