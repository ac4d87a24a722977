"""Stage `bench` (`make bench`; frozen, so that `dvc repro` never runs it): what the same accuracy costs.

The plain notebook, `cnn`, `sprint`, a shorter `sprint` ("dash") and `resnet` train in turn, several times over, each in a
fresh process; before each round the machine's matrix products are timed. Accuracy is on validation; the test set is not
used. Our models train from another seed in each repetition: 0, 1, 2 ... Writes `reports/benchmark.json`, the curves
`reports/benchmark.csv` and the picture `reports/benchmark.png`.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from stages.dataset import PUBLISHED, RAW, load_summary
from stages.environment import processor, threads, versions
from stages.errors import InputError, front_door
from stages.figures.benchmark import draw
from stages.files import write_csv, write_json
from stages.parameters import read_parameters

REPORTS = Path("reports")
NOTEBOOK_EPOCHS = 12
AIMS = (0.91, 0.93, 0.94)
# What `sprint` can do in the least time: maps of half the height and width, two groups, three half epochs, no changes.
DASH = {
    "widths": [32, 64],
    "stem_stride": 2,
    "epochs": 3,
    "epoch_size": 0.5,
    "small_epochs": 0,
    "learning_rate": 0.2,
    "warmup": 0.1,
    "label_smoothing": 0.05,
    "shift": 0,
    "flip": False,
}
CONTENDERS = {
    "notebook": None,
    "cnn": ("cnn", {}),
    "sprint": ("sprint", {}),
    "dash": ("sprint", DASH),
    "resnet": ("resnet", {}),
}

MATRIX_PRODUCT = """
import json, sys, time
import tensorflow as tf
a = tf.cast(tf.random.normal((4096, 4096)), sys.argv[1])
product = tf.function(lambda: tf.matmul(a, a))
product()
seconds = []
for _ in range(5):
    started = time.perf_counter()
    product().numpy()
    seconds.append(time.perf_counter() - started)
print(json.dumps({"operations_per_second": 2 * 4096**3 / min(seconds)}))
"""


def run(arguments: list[str]) -> tuple[list[dict], float]:
    """Run Python with `arguments`; returns the JSON objects that it printed, and its peak memory in MiB."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise InputError(f"`python {' '.join(arguments)}` failed:\n{errors.read()[-2000:]}")
        printed = [json.loads(line) for line in output if line.startswith("{")]
    return printed, usage.ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )  # Linux counts in KiB, macOS in bytes


def contend(name: str, keras_home: Path, seed: int) -> dict:
    """Train one contender in a fresh process; `curve` holds seconds since its start and validation accuracy, an epoch."""
    if CONTENDERS[name] is None:
        command = ["-m", "stages.benchmark.notebook", str(time.time()), str(NOTEBOOK_EPOCHS), str(keras_home)]
    else:
        model, changes = CONTENDERS[name]
        command = ["-m", "stages.benchmark.ours", model, str(time.time()), str(seed), json.dumps(changes)]
    printed, memory = run(command)
    *curve, last = printed
    epochs = [after["seconds"] - before["seconds"] for before, after in itertools.pairwise(curve)]
    return {"curve": curve, "epoch_seconds": epochs, "memory": memory} | last


def time_to(aim: float, curve: list[dict]) -> float | None:
    """Seconds from the start of the process to the end of the first epoch with this validation accuracy, if any."""
    return next((point["seconds"] for point in curve if point["val_accuracy"] >= aim), None)


def median(values: list) -> float | None:
    """The median, rounded to three places; None where a value is missing."""
    return None if not values or None in values else round(statistics.median(values), 3)


def summarise(measured: dict[str, list[dict]], peak: dict[str, float]) -> dict[str, dict]:
    """Medians over the repetitions, a dict a contender.

    Args:
        measured: For each contender what `contend` returned, a dict a repetition.
        peak: Operations a second of the machine's matrix product, float32 and bfloat16.

    Returns:
        `seconds_to_91` and so on (null where one repetition never got there) and, under `notebook_to_91`, how many times
        longer the notebook took; `seconds_to_load` (until the first epoch), for our models `seconds_to_trace` (that the
        first epoch of a size takes longer than the others); `epoch_seconds`, `memory_mib`, `best_val_accuracy` (a value a
        repetition); `notebook_epochs`, the whole training counted in the notebook's median epoch; images a second and
        share of the peak, both in epochs of full-size pictures without the first, and what prediction costs. The
        accuracies, and `epoch_seconds`, are of such epochs alone; small ones count in every time since the start.
    """
    summary: dict[str, dict] = {}
    for name, runs in measured.items():
        row: dict = {}
        for aim in AIMS:
            row[f"seconds_to_{100 * aim:.0f}"] = median([time_to(aim, run["curve"]) for run in runs])
        row["best_val_accuracy"] = [round(max(point["val_accuracy"] for point in run["curve"]), 4) for run in runs]
        row["seconds"] = median([run["curve"][-1]["seconds"] for run in runs])
        row["epoch_seconds"] = median([second for run in runs for second in run["epoch_seconds"]])
        row["memory_mib"] = median([run["memory"] for run in runs])
        row["images_per_second"] = median([rate for run in runs for rate in run["images_per_second"]])
        row["share_of_peak"] = median(
            [rate / peak[run["precision"]] for run in runs for rate in run["operations_per_second"]]
        )
        for key in ("seconds_to_load", "seconds_to_trace", "predicted_per_second", "milliseconds_for_one"):
            row[key] = median([run[key] for run in runs if key in run])
        summary[name] = row
    for row in summary.values():
        training = row["seconds"] - row["seconds_to_load"]
        row["notebook_epochs"] = round(training / summary["notebook"]["epoch_seconds"], 2)
        for aim in AIMS:
            ours, theirs = row[f"seconds_to_{100 * aim:.0f}"], summary["notebook"][f"seconds_to_{100 * aim:.0f}"]
            row[f"notebook_to_{100 * aim:.0f}"] = round(theirs / ours, 2) if ours and theirs else None
    return summary


@front_door
def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the speed of training against a plain notebook.")
    parser.add_argument("--repetitions", type=int, default=3, help="of every contender; 3 unless given")
    repetitions = parser.parse_args().repetitions
    if repetitions < 1:
        raise InputError(f"--repetitions is {repetitions}, but must be at least 1.")
    blocks = read_parameters("models")
    gone = sorted({model for model, _ in filter(None, CONTENDERS.values())} - set(blocks))
    if gone:
        raise InputError(
            f"the benchmark trains {', '.join(gone)}, without a block in params.yaml: change its CONTENDERS."
        )
    dataset = load_summary()["dataset"]
    measured: dict[str, list[dict]] = {name: [] for name in CONTENDERS}
    products: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "datasets" / "fashion-mnist"  # where keras.datasets looks before it downloads
        folder.mkdir(parents=True)
        for name in PUBLISHED:
            (folder / name).symlink_to((RAW / name).resolve())
        for repetition in range(1, repetitions + 1):
            for dtype, rates in products.items():
                printed, _ = run(["-c", MATRIX_PRODUCT, dtype])
                rates.append(printed[0]["operations_per_second"])
            for name in CONTENDERS:
                measured[name].append(contend(name, Path(home), repetition - 1))
                last = measured[name][-1]["curve"][-1]
                print(
                    f"{repetition} of {repetitions}, {name}: {last['seconds']:.0f} s, validation accuracy "
                    f"{last['val_accuracy']:.4f}",
                    flush=True,
                )
    peak = {dtype: statistics.median(rates) for dtype, rates in products.items()}
    summary = {
        "dataset": dataset,
        "machine": {"processor": processor(), "cores": threads(), **versions()},
        "repetitions": repetitions,
        "matrix_product_gflops": {dtype: round(rate / 1e9, 1) for dtype, rate in peak.items()},
        "contenders": summarise(measured, peak),
    }
    curves = pd.DataFrame(
        [
            {"contender": name, "repetition": repetition, "epoch": epoch, **point}
            for name, runs in measured.items()
            for repetition, run in enumerate(runs, 1)
            for epoch, point in enumerate(run["curve"], 1)
        ]
    )
    draw(curves, summary, REPORTS / "benchmark.png")
    write_csv(REPORTS / "benchmark.csv", curves.round(4))
    write_json(REPORTS / "benchmark.json", summary)


if __name__ == "__main__":
    main()
