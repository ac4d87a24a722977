"""The table of models, for the terminal, the report and Markdown files."""

import csv
import hashlib
import json
import re
import statistics
from pathlib import Path

from tabulate import tabulate

from stages.base.errors import InputError
from stages.base.files import read_json
from stages.base.runs import EXPERIMENTS, FASHION_MNIST, METRICS, SELECTION
from stages.parameters.schema import PARAMETERS, load_yaml

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
    "file", "bytes", "images compared", "accuracy on them", "same class as Keras", "largest difference",
    "one image, p50, ms", "p99, ms", "images per second",
)  # fmt: skip

SHORT = ("model", "validation accuracy", "test accuracy", "recorded seeds, test, %", "training, s")


def with_std(row: dict, name: str, scale: float, digits: int) -> str:
    """A mean; with several seeds, followed by `±` and the standard deviation."""
    text = f"{scale * row[name]:.{digits}f}"
    std = row[f"{name}_std"]
    return text if std is None else f"{text} ± {scale * std:.{digits}f}"


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, as text by column; empty if there is no file. pandas would take a second."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def over_seeds(recorded: list[dict[str, str]], blocks: dict, dataset: str) -> dict[str, list[float]]:
    """The recorded test accuracies of each model, one per seed, from an experiment with the same parameters.

    Of several such experiments, the one with the most seeds is taken, and of those the last. An experiment with one seed
    does not count.

    Args:
        recorded: The rows of `reports/experiments.csv`.
        blocks: The parameters of each model.
        dataset: The name of the data: what is recorded is of Fashion-MNIST.
    """
    found: dict[str, list[float]] = {}
    for model, block in blocks.items() if dataset == FASHION_MNIST else ():
        identity, experiments = fingerprint(block), {}
        for row in recorded:
            if row["block"] == identity and row["test_accuracy"] and re.fullmatch(rf"{model}-\d+", row["run"]):
                experiments.setdefault(row["experiment"], []).append(float(row["test_accuracy"]))
        several = [accuracies for accuracies in experiments.values() if len(accuracies) > 1]
        if several:
            found[model] = max(reversed(several), key=len)
    return found


def rows(summary: dict, timing: list[dict[str, str]], seeds: dict[str, list[float]]) -> list[list[str]]:
    """One row per model, the highest validation accuracy first, then the ensemble; cells in the order of `HEADER`.

    Args:
        summary: `reports/summary.json`.
        timing: The rows of `reports/timing.csv`.
        seeds: Recorded test accuracies by model, as from `over_seeds`.
    """
    seconds = {row["model"]: row for row in timing}
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
            f"{float(seconds[model]['training_seconds']):.0f}",
            f"{float(seconds[model]['milliseconds_per_image']):.3f}",
        ]
        for model, row in ordered
    ]


def files_table() -> str:
    """The most important columns of the exported files in `reports/`, in Markdown, one file per column."""
    rows = exported_files()
    shown = ("bytes", "same class as Keras", "largest difference", "one image, p50, ms")
    cells = [[name, *(row[FILES_HEADER.index(name)] for row in rows)] for name in shown]
    return aligned(("file", *(row[0] for row in rows)), cells)


def exported_files() -> list[list[str]]:
    """One row per file of `data/exported`, from the results in `reports/`; cells in the order of `FILES_HEADER`."""
    seconds = {row["file"]: row for row in read_rows(EXPORT_TIMING)}
    return [
        [
            row["file"],
            f"{row['bytes']:,}",
            f"{row['images']:,}",
            f"{100 * row['val_accuracy']:.2f} %",
            f"{100 * row['same_class']:.2f} %",
            f"{row['largest_difference']:.1g}",
            f"{float(seconds[row['file']]['p50_ms']):.3f}",
            f"{float(seconds[row['file']]['p99_ms']):.3f}",
            f"{float(seconds[row['file']]['images_per_second']):,.0f}",
        ]
        for row in read_json(EXPORT)["files"]
    ]


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
    table = tabulate(shortened(cells), SHORT, disable_numparse=True, colalign=("left", *["right"] * (len(SHORT) - 1)))
    return "\n".join(["", table, "", *filter(None, (told, recorded_warnings())), f"The report: {REPORT.resolve()}"])


def current() -> str:
    """The most important columns, in Markdown. Raises `InputError` if there are no results."""
    cells, told = results()
    return f"{aligned(SHORT, shortened(cells))}\n\n{told}".strip()


def shortened(cells: list[list[str]]) -> list[list[str]]:
    """The cells of rows that stand in the columns `SHORT`."""
    return [[row[HEADER.index(name)] for name in SHORT] for row in cells]


def results() -> tuple[list[list[str]], str]:
    """The rows of the results in `reports/`, and what must be said of them. Raises `InputError` if there are none."""
    if not SUMMARY.exists() or not TIMING.exists():
        raise InputError(f"{SUMMARY} is missing: there are no results yet. Type `make run`.")
    summary = read_json(SUMMARY)
    defaults, blocks = (load_yaml(PARAMETERS)[key] for key in ("defaults", "models"))
    blocks = {model: defaults | (block or {}) for model, block in blocks.items()}
    seeds = over_seeds(read_rows(EXPERIMENTS), blocks, summary["dataset"])
    return rows(summary, read_rows(TIMING), seeds), mixed_processors(read_json(SELECTION)["runs"])


def fingerprint(block: dict) -> str:
    """Twelve characters that identify the values of a model's block of `params.yaml`, in any order."""

    def plain(value: object) -> object:  # YAML reads 0 as an integer, the schema converts it to 0.0
        if isinstance(value, list):
            return [plain(item) for item in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    text = json.dumps({key: plain(value) for key, value in block.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def mixed_processors(runs: dict[str, list[str]]) -> str:
    """A sentence that names the processors of runs, if they differ; else empty.

    Args:
        runs: The names of the runs of each model.
    """
    found: dict[str, dict[str, None]] = {}
    for run in (run for of_model in runs.values() for run in of_model):
        for split in ("val", "test"):
            for condition in read_json(METRICS / split / f"{run}.json")["conditions"]:
                found.setdefault(condition["processor"], {})[run] = None
    if len(found) < 2:
        return ""
    listed = "; ".join(f"{processor}: {', '.join(runs)}" for processor, runs in sorted(found.items()))
    return f"These runs come from different processors, which give slightly different numbers. {listed}."


def recorded_warnings() -> str:
    """What `select` found doubtful about trainings, in one line each; empty if there is nothing."""
    found = read_json(SELECTION)["warnings"]
    return "\n".join(f"warning: {run}: {warning}." for run, warnings in found.items() for warning in warnings)
