"""The table of models, for the terminal, the report and Markdown files."""

import statistics
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from stages.common.errors import InputError
from stages.common.files import read_json
from stages.common.parameters import fingerprint, read_parameters
from stages.common.runs import EXPERIMENTS, mixed_processors, training_warnings
from stages.common.splits import notice

SUMMARY = Path("reports/summary.json")
TIMING = Path("reports/timing.csv")
REPORT = Path("reports/report.html")
EXPORT = Path("reports/export.json")
EXPORT_TIMING = Path("reports/timing/export.csv")

HEADER = (
    "model", "validation accuracy", "test accuracy", "recorded seeds, test, %", "single view", "test loss", "parameters",
    "multiply-adds", "epochs", "training, s", "prediction, ms per image",
)  # fmt: skip

FILES_HEADER = (
    "file", "bytes", "test-time augmentation", "validation accuracy", "same class as Keras", "largest difference",
    "one image, p50, ms", "p99, ms", "images per second",
)  # fmt: skip

SHORT = ("model", "validation accuracy", "test accuracy", "recorded seeds, test, %", "training, s")


def with_std(row: dict, name: str, scale: float, digits: int) -> str:
    """A mean; with several seeds, followed by `±` and the standard deviation."""
    text = f"{scale * row[name]:.{digits}f}"
    std = row[f"{name}_std"]
    return text if std is None else f"{text} ± {scale * std:.{digits}f}"


def over_seeds(recorded: pd.DataFrame, dataset: str, blocks: dict) -> dict[str, list[float]]:
    """The recorded test accuracies of each model, one per seed, from an experiment with the same parameters.

    Of several such experiments, the one with the most seeds is taken, and of those the last. An experiment with one seed
    does not count.

    Args:
        recorded: `reports/experiments.csv`, which is about Fashion-MNIST.
        dataset: The dataset of the current results; for another dataset nothing is returned.
        blocks: The parameters of each model.
    """
    found: dict[str, list[float]] = {}
    if dataset != "fashion-mnist" or "block" not in recorded:
        return found
    for model, block in blocks.items():
        runs = recorded[(recorded["block"] == fingerprint(block)) & recorded["test_accuracy"].notna()]
        runs = runs[runs["run"].str.fullmatch(rf"{model}-\d+")]
        experiments = [list(rows["test_accuracy"]) for _, rows in runs.groupby("experiment", sort=False)]
        several = [accuracies for accuracies in experiments if len(accuracies) > 1]
        if several:
            found[model] = max(reversed(several), key=len)
    return found


def rows(summary: dict, timing: pd.DataFrame, seeds: dict[str, list[float]]) -> list[list[str]]:
    """One row per model, the highest validation accuracy first, then the ensemble; cells in the order of `HEADER`.

    Args:
        summary: `reports/summary.json`.
        timing: `reports/timing.csv`.
        seeds: Recorded test accuracies by model, as from `over_seeds`.
    """
    seconds = timing.set_index("model")
    ordered = sorted(summary["models"].items(), key=lambda item: -item[1]["val_accuracy"])
    if summary["ensemble"]:
        ordered.append((summary["ensemble"]["name"], summary["ensemble"]))
    return [
        [
            f"{model} (selected)" if model == summary["selected"] else model,
            with_std(row, "val_accuracy", 100, 2) + " %",
            with_std(row, "test_accuracy", 100, 2) + " %",
            mean_and_std(seeds.get(model, [])),
            with_std(row, "test_accuracy_single_view", 100, 2) + " %",
            with_std(row, "test_loss", 1, 3),
            f"{row['parameters']:,}",
            "unknown" if row["multiply_adds"] is None else f"{row['multiply_adds']:,}",
            f"{row['epochs']:g}",
            f"{seconds.training_seconds[model]:.0f}",
            f"{seconds.milliseconds_per_image[model]:.3f}",
        ]
        for model, row in ordered
    ]


def file_rows(exported: dict, timing: pd.DataFrame) -> list[list[str]]:
    """One row per file of `data/exported`; cells in the order of `FILES_HEADER`.

    Args:
        exported: `reports/export.json`.
        timing: `reports/timing/export.csv`.
    """
    seconds = timing.set_index("file")
    return [
        [
            row["file"],
            f"{row['bytes']:,}",
            row["test_time_augmentation"],
            f"{100 * row['val_accuracy']:.2f} %",
            f"{100 * row['same_class']:.2f} %",
            f"{row['largest_difference']:.1g}",
            f"{seconds.p50_ms[row['file']]:.3f}",
            f"{seconds.p99_ms[row['file']]:.3f}",
            f"{seconds.images_per_second[row['file']]:,.0f}",
        ]
        for row in exported["files"]
    ]


def files_table() -> str:
    """The most important columns of the exported files in `reports/`, in Markdown, one file per column."""
    rows = exported_files()
    shown = ("bytes", "validation accuracy", "largest difference", "one image, p50, ms")
    cells = [[name, *(row[FILES_HEADER.index(name)] for row in rows)] for name in shown]
    return aligned(("file", *(row[0] for row in rows)), cells)


def exported_files() -> list[list[str]]:
    """The rows of the exported files in `reports/`: see `file_rows`."""
    return file_rows(read_json(EXPORT), pd.read_csv(EXPORT_TIMING))


def mean_and_std(accuracies: list[float]) -> str:
    """Mean, sample standard deviation and number of accuracies, in percent: `95.07 ± 0.18 (5)`. `-` if there are none."""
    if not accuracies:
        return "-"
    return f"{100 * statistics.mean(accuracies):.2f} ± {100 * statistics.stdev(accuracies):.2f} ({len(accuracies)})"


def aligned(header: tuple[str, ...], cells: list[list[str]]) -> str:
    """A Markdown table with padded cells: the first column aligned to the left, the others to the right."""
    sides = ("left", *["right"] * (len(header) - 1))
    return tabulate(cells, header, tablefmt="pipe", colalign=sides, disable_numparse=True)


def for_terminal() -> str:
    """The most important columns, narrow enough for a terminal, and the path of the report."""
    cells, told = results()
    shown = [HEADER.index(name) for name in SHORT]
    table = tabulate(
        [[row[place] for place in shown] for row in cells],
        SHORT,
        disable_numparse=True,
        colalign=("left", *["right"] * (len(SHORT) - 1)),
    )
    return "\n".join(["", table, "", *filter(None, (told, training_warnings())), f"The report: {REPORT.resolve()}"])


def current() -> str:
    """The whole table of the results in `reports/`, in Markdown. Raises `InputError` if there are none."""
    cells, told = results()
    return f"{aligned(HEADER, cells)}\n\n{told}".strip()


def results() -> tuple[list[list[str]], str]:
    """The rows of the results in `reports/`, and what must be said of them. Raises `InputError` if there are none."""
    if not SUMMARY.exists() or not TIMING.exists():
        raise InputError(f"{SUMMARY} is missing: there are no results yet. Type `make run`.")
    summary = read_json(SUMMARY)
    recorded = pd.read_csv(EXPERIMENTS, dtype={"base": str}) if EXPERIMENTS.exists() else pd.DataFrame()
    seeds = over_seeds(recorded, summary["dataset"], read_parameters("models"))
    return rows(summary, pd.read_csv(TIMING), seeds), " ".join(
        filter(None, [notice(summary["dataset"]), mixed_processors()])
    )
