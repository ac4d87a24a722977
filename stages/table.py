"""The table of all models, for the terminal (`python -m stages.table`) and, with those of the benchmark and of the
experiments, for the README (`--readme`, `make readme`)."""

import argparse
import hashlib
import json
import statistics
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from stages.dataset import notice
from stages.errors import InputError, front_door
from stages.files import read_json, write_text
from stages.parameters import read_parameters

SUMMARY = Path("reports/summary.json")
TIMING = Path("reports/timing.csv")
REPORT = Path("reports/report.html")
README = Path("README.md")
BENCHMARK = Path("reports/benchmark.json")
EXPERIMENTS = Path("reports/experiments.csv")

HEADER = (
    "model", "validation accuracy", "test accuracy", "recorded seeds, test, %", "without views", "test loss", "parameters",
    "multiply-adds", "epochs", "training, s", "prediction, ms a picture",
)  # fmt: skip

SHORT = ("model", "validation accuracy", "test accuracy", "recorded seeds, test, %", "training, s")


def with_deviation(row: dict, name: str, scale: float, digits: int) -> str:
    """A mean, with its deviation over the seeds where there are several."""
    text = f"{scale * row[name]:.{digits}f}"
    deviation = row[f"{name}_deviation"]
    return text if deviation is None else f"{text} ± {scale * deviation:.{digits}f}"


def fingerprint(block: dict) -> str:
    """Twelve letters that stand for a model's block of `params.yaml`: the same for the same values, in whatever order."""

    def plain(value: object) -> object:  # YAML reads 0 as a whole number, the schema makes it 0.0
        if isinstance(value, list):
            return [plain(item) for item in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    text = json.dumps({key: plain(value) for key, value in block.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def over_seeds(recorded: pd.DataFrame, dataset: str, blocks: dict) -> dict[str, list[float]]:
    """Of each model the test accuracies of the recorded experiment of most seeds, and of those the last, with this block.

    Args:
        recorded: `reports/experiments.csv`, of Fashion-MNIST.
        dataset: What the results beside it are of.
        blocks: Of each model its parameters.
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
    """One row a model, the best validation accuracy first, then the ensemble; cells in the order of `HEADER`.

    Args:
        summary: `reports/summary.json`.
        timing: `reports/timing.csv`.
        seeds: Recorded test accuracies, by model: see `over_seeds`.
    """
    seconds = timing.set_index("model")
    ordered = sorted(summary["models"].items(), key=lambda item: -item[1]["val_accuracy"])
    if summary["ensemble"]:
        ordered.append((summary["ensemble"]["name"], summary["ensemble"]))
    return [
        [
            f"{model} (selected)" if model == summary["selected"] else model,
            with_deviation(row, "val_accuracy", 100, 2) + " %",
            with_deviation(row, "test_accuracy", 100, 2) + " %",
            mean_and_deviation(seeds.get(model, [])),
            with_deviation(row, "test_accuracy_plain", 100, 2) + " %",
            with_deviation(row, "test_loss", 1, 3),
            f"{row['parameters']:,}",
            f"{row['multiply_adds']:,}",
            f"{row['epochs']:g}",
            f"{seconds.training_seconds[model]:.0f}",
            f"{seconds.milliseconds_a_picture[model]:.3f}",
        ]
        for model, row in ordered
    ]


def mean_and_deviation(accuracies: list[float]) -> str:
    """`95.07 ± 0.18 (5)`, percent: mean, sample standard deviation and number; `-` where there are none."""
    if not accuracies:
        return "-"
    return f"{100 * statistics.mean(accuracies):.2f} ± {100 * statistics.stdev(accuracies):.2f} ({len(accuracies)})"


def aligned(header: tuple[str, ...], cells: list[list[str]]) -> str:
    """A Markdown table that reads well as text, too: the first column to the left, numbers to the right."""
    sides = ("left", *["right"] * (len(header) - 1))
    return tabulate(cells, header, tablefmt="pipe", colalign=sides, disable_numparse=True)


def for_terminal() -> str:
    """The columns that one waits for, narrow enough for a terminal, and where the report lies."""
    cells, told = results()
    shown = [HEADER.index(name) for name in SHORT]
    table = tabulate(
        [[row[place] for place in shown] for row in cells],
        SHORT,
        disable_numparse=True,
        colalign=("left", *["right"] * (len(SHORT) - 1)),
    )
    return "\n".join(["", table, "", *([told] if told else []), f"The report: {REPORT.resolve()}"])


def current() -> str:
    """The whole table of the results that lie in `reports/`, in Markdown. Raises `InputError` where there are none."""
    cells, told = results()
    return f"{aligned(HEADER, cells)}\n\n{told}".strip()


def results() -> tuple[list[list[str]], str]:
    """The rows of the results that lie in `reports/`, and the notice of their data set.

    Raises `InputError` where there are none.
    """
    if not SUMMARY.exists() or not TIMING.exists():
        raise InputError(f"{SUMMARY} is missing: there are no results yet. Type `make run`.")
    summary = read_json(SUMMARY)
    recorded = pd.read_csv(EXPERIMENTS, dtype={"base": str}) if EXPERIMENTS.exists() else pd.DataFrame()
    blocks = {model: block.model_dump() for model, block in read_parameters("models").items()}
    seeds = over_seeds(recorded, summary["dataset"], blocks)
    return rows(summary, pd.read_csv(TIMING), seeds), notice(summary["dataset"])


def speed(benchmark: dict) -> str:
    """The benchmark's table, a column a contender, and a line on the machine; each time with how many times longer the
    notebook took."""
    contenders = benchmark["contenders"]

    def line(title: str, key: str, form: str, scale: float = 1) -> list[str]:
        values = [row[key] for row in contenders.values()]
        return [title, *("-" if value is None else form.format(scale * value) for value in values)]

    lines = []
    for aim in (91, 93, 94):
        cells = line(f"seconds to {aim} % validation accuracy", f"seconds_to_{aim}", "{:.0f}")
        for place, row in enumerate(contenders.values(), 1):
            if row[f"notebook_to_{aim}"] and place > 1:
                cells[place] += f" ({row[f'notebook_to_{aim}']:.1f}x)"
        lines.append(cells)
    lines += [
        line("the whole training, notebook epochs", "notebook_epochs", "{:.1f}"),
        line("seconds until the first epoch", "seconds_to_load", "{:.1f}"),
        line("seconds to trace the graph", "seconds_to_trace", "{:.1f}"),
        line("training pictures a second", "images_per_second", "{:,.0f}"),
        line("share of the machine's peak", "share_of_peak", "{:.0f} %", 100),
        line("peak memory, MiB", "memory_mib", "{:,.0f}"),
        line("pictures predicted a second", "predicted_per_second", "{:,.0f}"),
        line("one picture predicted, ms", "milliseconds_for_one", "{:.1f}"),
    ]
    machine, peak = benchmark["machine"], benchmark["matrix_product_gflops"]
    return (
        f"{aligned(('', *contenders), lines)}\n\nMedians of {benchmark['repetitions']} repetitions on "
        f"{machine['cores']} cores ({machine['processor']}), TensorFlow {machine['tensorflow']}, Keras {machine['keras']}. "
        f"Peak: a 4096 x 4096 matrix product, {peak['bfloat16']:.0f} GFLOP/s in bfloat16, {peak['float32']:.0f} in "
        f"float32. An epoch of the notebook took {contenders['notebook']['epoch_seconds']:.1f} s."
    )


def tried(runs: pd.DataFrame) -> str:
    """A table a model, with a row an experiment: the commit that it started from, what was changed of that commit's
    `params.yaml`, and the means over its seeds of the epochs, of the accuracies, with their deviation, and of the wall time
    of training.
    """
    header = ("what was changed", "commit", "seeds", "epochs", "validation accuracy", "without views", "test accuracy")
    header += ("training, s",)
    tables: dict[str, list[list[str]]] = {}
    runs = runs.assign(model=runs["run"].str.rpartition("-")[0])
    for (model, _, base, changes), rows in runs.groupby(["model", "experiment", "base", "changes"], sort=False):
        cells = [base, str(len(rows)), f"{rows['epochs'].mean():.4g}"]
        for column in ("val_accuracy", "val_accuracy_plain", "test_accuracy"):
            values = 100 * rows[column]
            spread = f" ± {values.std():.2f}" if len(values) > 1 else ""
            cells.append("-" if values.isna().any() else f"{values.mean():.2f}{spread} %")
        cells.append(f"{rows['training_seconds'].mean():.0f}")
        tables.setdefault(model, []).append([changes.replace(f"models.{model}.", "") or "nothing", *cells])
    return "\n\n".join(f"**{model}**\n\n{aligned(header, tables[model])}" for model in sorted(tables))


def with_table(readme: str, name: str, table: str) -> str:
    """The README's text with `table` between the marks called `name`. Raises `InputError` where a mark is missing."""
    begin, end = f"<!-- {name}: begin (written by `make readme`) -->", f"<!-- {name}: end -->"
    before, found, rest = readme.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise InputError(f"{README} has lost the marks `{begin}` and `{end}`; put them around the place of the table.")
    return f"{before}{begin}\n{table}\n{end}{after}"


def updated(readme: str) -> str:
    """The README's text with the tables of what lies in `reports/`. Raises `InputError` where one of them is missing."""
    for path, maker in ((BENCHMARK, "make bench"), (EXPERIMENTS, "python -m stages.experiments NAME")):
        if not path.exists():
            raise InputError(f"{path} is missing. `git checkout {path}` brings it back, `{maker}` makes it anew.")
    readme = with_table(with_table(readme, "results", current()), "speed", speed(read_json(BENCHMARK)))
    return with_table(
        readme, "experiments", tried(pd.read_csv(EXPERIMENTS, dtype={"base": str}).fillna({"changes": ""}))
    )


@front_door
def main() -> None:
    parser = argparse.ArgumentParser(description="Print the table of all models, or write it into the README.")
    parser.add_argument(
        "--readme", action="store_true", help="write it, the benchmark's and the experiments' into README.md"
    )
    if parser.parse_args().readme:
        write_text(README, updated(README.read_text(encoding="utf-8")))
        print(f"{README}: the tables are those of {SUMMARY}, {BENCHMARK} and {EXPERIMENTS}")
    else:
        print(for_terminal())


if __name__ == "__main__":
    main()
