"""Print the table of all models: `python -m stages.table`. With `--readme` (`make readme`), write the tables of README.md
and reports/*.md."""

import argparse
import math
from pathlib import Path

from stages.base.errors import InputError
from stages.base.files import read_json, write_text
from stages.page.tables import aligned, current, files_table, for_terminal
from stages.runner.entry import entry_point
from stages.runner.progress import COSTS, read_costs

BENCHMARK = Path("reports/benchmark.json")


def updated() -> dict[Path, str]:
    """The new texts of the documents, by path: README.md, reports/README.md and reports/benchmark.md.

    Raises:
        InputError: Results, a document or its marks are missing.
    """
    if not BENCHMARK.exists():
        raise InputError(
            f"{BENCHMARK} is missing. `git checkout {BENCHMARK}` brings it back, `make bench` makes it again."
        )
    tables = {
        Path("README.md"): {"results": current()},
        Path("reports/README.md"): {"files": files_table()},
        BENCHMARK.with_suffix(".md"): {"speed": benchmark_table(read_json(BENCHMARK)), "stages": stages_table()},
    }
    texts = {}
    for path, named in tables.items():
        texts[path] = path.read_text(encoding="utf-8")
        for name, table in named.items():
            texts[path] = with_table(texts[path], name, table, path)
    return texts


def with_table(text: str, name: str, table: str, path: Path) -> str:
    """The text of the file at `path` with `table` between the marks called `name`.

    Raises:
        InputError: A mark is missing.
    """
    begin, end = f"<!-- {name}: begin (written by `make readme`) -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise InputError(f"{path} has lost the marks `{begin}` and `{end}`: put them around the place of the table.")
    return f"{before}{begin}\n{table}\n{end}{after}"


def benchmark_table(benchmark: dict) -> str:
    """The table of the benchmark, one column per contender, and a paragraph about the machine.

    In parentheses: how many times longer the notebook took.
    """
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
        line("training images per second", "images_per_second", "{:,.0f}"),
        line("share of the machine's peak", "share_of_peak", "{:.0f} %", 100),
        line("peak memory, MiB", "memory_mib", "{:,.0f}"),
    ]
    machine, peak = benchmark["machine"], benchmark["matrix_product_gflops"]
    return (
        f"{aligned(('', *contenders), lines)}\n\nMedians of {benchmark['repetitions']} repetitions on "
        f"{machine['cores']} cores ({machine['processor']}), TensorFlow {machine['tensorflow']}, Keras {machine['keras']}. "
        f"Peak: a 4096 x 4096 matrix product, {peak['bfloat16']:.0f} GFLOP/s in bfloat16, {peak['float32']:.0f} in "
        f"float32. An epoch of the notebook took {contenders['notebook']['epoch_seconds']:.1f} s."
    )


def stages_table() -> str:
    """What each stage took in its last run, and in all. Raises `InputError` if that is not known of all."""
    costs = {name: [float(cell or "nan") for cell in cells] for name, cells in read_costs().items()}
    if not costs or any(math.isnan(number) for cells in costs.values() for number in cells):
        raise InputError(f"{COSTS} does not tell of all stages what they took. `git checkout {COSTS}` brings it back.")
    seconds, cpu, memory = zip(*costs.values(), strict=True)
    rows = [*costs.items(), ("in all", [sum(seconds), sum(cpu), max(memory)])]
    lines = [[name, f"{one[0]:.1f}", f"{one[1]:.1f}", f"{one[2]:,.0f}"] for name, one in rows]
    return aligned(("stage", "seconds", "seconds of CPU", "peak memory, MiB"), lines)


@entry_point
def main() -> None:
    parser = argparse.ArgumentParser(description="Print the table of all models, or write the tables of documents.")
    parser.add_argument("--readme", action="store_true", help="write the tables of README.md and of reports/*.md")
    if parser.parse_args().readme:
        texts = updated()
        for path, text in texts.items():
            write_text(path, text)
        print(f"written: the tables of {', '.join(map(str, texts))}")
    else:
        print(for_terminal())


if __name__ == "__main__":
    main()
