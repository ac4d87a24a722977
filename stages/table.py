"""The table of all models, for the terminal (`python -m stages.table`) and for the README (`--readme`, `make readme`)."""

import argparse
from pathlib import Path

import pandas as pd

from stages.dataset import notice
from stages.errors import InputError, front_door
from stages.files import read_json, write_text

SUMMARY = Path("reports/summary.json")
TIMING = Path("reports/timing.csv")
REPORT = Path("reports/report.html")
README = Path("README.md")
BEGIN, END = "<!-- results: begin (written by `make readme`) -->", "<!-- results: end -->"

HEADER = (
    "model", "validation accuracy", "test accuracy", "without views", "test loss", "parameters", "multiply-adds",
    "epochs", "training, s", "prediction, ms a picture",
)  # fmt: skip


def with_deviation(row: dict, name: str, scale: float, digits: int) -> str:
    """A mean, with its deviation over the seeds where there are several."""
    text = f"{scale * row[name]:.{digits}f}"
    deviation = row[f"{name}_deviation"]
    return text if deviation is None else f"{text} ± {scale * deviation:.{digits}f}"


def rows(summary: dict, timing: pd.DataFrame) -> list[list[str]]:
    """One row a model, the best validation accuracy first, then the ensemble; cells in the order of `HEADER`."""
    seconds = timing.set_index("model")
    ordered = sorted(summary["models"].items(), key=lambda item: -item[1]["val_accuracy"])
    if summary["ensemble"]:
        ordered.append((summary["ensemble"]["name"], summary["ensemble"]))
    return [
        [
            f"{model} (selected)" if model == summary["selected"] else model,
            with_deviation(row, "val_accuracy", 100, 2) + " %",
            with_deviation(row, "test_accuracy", 100, 2) + " %",
            with_deviation(row, "test_accuracy_plain", 100, 2) + " %",
            with_deviation(row, "test_loss", 1, 3),
            f"{row['parameters']:,}",
            f"{row['multiply_adds']:,}",
            f"{row['epochs']:g}",
            f"{seconds.training_seconds[model]:.0f}",
            f"{seconds.milliseconds_a_picture[model]:.2f}",
        ]
        for model, row in ordered
    ]


def aligned(cells: list[list[str]]) -> str:
    """A Markdown table that reads well as text, too: the first column to the left, numbers to the right."""
    table = [list(HEADER), *cells]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in (table[0], rule, *table[1:])
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def current() -> str:
    """The table of the results that lie in `reports/`. Raises `InputError` where there are none."""
    if not SUMMARY.exists() or not TIMING.exists():
        raise InputError(f"{SUMMARY} is missing: there are no results yet. Type `make run`.")
    summary = read_json(SUMMARY)
    table = aligned(rows(summary, pd.read_csv(TIMING)))
    return f"{table}\n\n{notice(summary['dataset'])}".strip()


def with_table(readme: str, table: str) -> str:
    """The README's text with `table` between the markers. Raises `InputError` where a marker is missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{README} has lost the marks `{BEGIN}` and `{END}`; put them around the place of the table.")
    return f"{before}{begin}\n{table}\n{end}{after}"


@front_door
def main() -> None:
    parser = argparse.ArgumentParser(description="Print the table of all models, or write it into the README.")
    parser.add_argument("--readme", action="store_true", help="write it between the marks in README.md")
    if parser.parse_args().readme:
        write_text(README, with_table(README.read_text(encoding="utf-8"), current()))
        print(f"{README}: the table is that of {SUMMARY}")
    else:
        print(f"\n{current()}\n\nThe report: {REPORT.resolve()}")


if __name__ == "__main__":
    main()
