"""`make bench`: how long models train to reach an accuracy, compared with a plain Keras notebook.

It is no stage: `dvc repro` never runs it. The notebook, `cnn`, `sprint`, a shorter `sprint` ("dash") and `resnet`
train in turn, several times, each in a new process. Each repetition starts by timing the machine's matrix products.
Accuracies are on validation; the test set is not used. Our models train with seeds 0, 1, 2 ..., one per repetition. Writes
`reports/benchmark.json`, and the curves `reports/benchmark.csv`, which `dvc plots show` draws.
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

from stages.base.environment import cores, processor, versions
from stages.base.errors import InputError
from stages.base.files import write_csv, write_json
from stages.data.publisher import PUBLISHED, RAW
from stages.parameters.runs import Models, Threads
from stages.parameters.schema import read
from stages.runner.entry import entry_point

REPORTS = Path("reports")
NOTEBOOK_EPOCHS = 12
AIMS = (0.91, 0.93, 0.94)
# A `sprint` that trains in the least time: feature maps of half the height and width, two groups of layers, three epochs of
# half the images, no augmentation.
DASH = {
    "widths": [32, 64],
    "stem_stride": 2,
    "epochs": 3,
    "epoch_fraction": 0.5,
    "low_resolution_fraction": 0,
    "learning_rate": 0.14,
    "warmup": 0.1,
    "label_smoothing": 0.05,
    "random_shift": 0,
    "random_flip": False,
}
CONTENDERS = {  # the notebook, and our models: (model, changes to its block). Models without a block are left out.
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
    """Run Python with `arguments` in a new process.

    Returns:
        The JSON objects that it printed, one per line, and its peak memory in MiB.

    Raises:
        InputError: The process failed.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise InputError(f"`python {' '.join(arguments)}` failed:\n{errors.read()[-2000:]}")
        printed = [json.loads(line) for line in output if line.startswith("{")]
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts in bytes, Linux in KiB
    return printed, usage.ru_maxrss / unit


def train_contender(name: str, keras_home: Path, seed: int) -> dict:
    """Train one contender in a new process.

    Returns:
        `curve`, one dict per epoch with `seconds` since the start of the process and `val_accuracy`; `epoch_seconds`;
        `memory`, the peak in MiB; and the values of `stages.benchmark.measure.measured`.
    """
    if CONTENDERS[name] is None:
        command = ["-m", "stages.benchmark.notebook", str(time.time()), str(NOTEBOOK_EPOCHS), str(keras_home)]
    else:
        model, changes = CONTENDERS[name]
        threads = str(read("threads", Threads))
        command = ["-m", "stages.benchmark.ours", model, str(time.time()), str(seed), json.dumps(changes), threads]
    printed, memory = run(command)
    *curve, last = printed
    epochs = [after["seconds"] - before["seconds"] for before, after in itertools.pairwise(curve)]
    return {"curve": curve, "epoch_seconds": epochs, "memory": memory} | last


def time_to(aim: float, curve: list[dict]) -> float | None:
    """Seconds from the start of the process to the end of the first epoch that reaches `aim`; None if no epoch does."""
    return next((point["seconds"] for point in curve if point["val_accuracy"] >= aim), None)


def median(values: list) -> float | None:
    """The median, rounded to three decimals; None if there are no values or one is None."""
    return None if not values or None in values else round(statistics.median(values), 3)


def summarise(measured: dict[str, list[dict]], peak: dict[str, float]) -> dict[str, dict]:
    """Medians over the repetitions: one dict per contender, whose keys `reports/benchmark.md` explains.

    Accuracies and `epoch_seconds` are of epochs with full-size images. Low-resolution epochs count in the times that start
    with the process. A value is None if one repetition has none.

    Args:
        measured: The results of `train_contender` for each contender, one per repetition.
        peak: Operations per second of the machine's matrix product, in float32 and bfloat16.
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
        for key in ("seconds_to_load", "seconds_to_trace"):
            row[key] = median([run[key] for run in runs if key in run])
        summary[name] = row
    for row in summary.values():
        training = row["seconds"] - row["seconds_to_load"]
        row["notebook_epochs"] = round(training / summary["notebook"]["epoch_seconds"], 2)
        for aim in AIMS:
            ours, theirs = row[f"seconds_to_{100 * aim:.0f}"], summary["notebook"][f"seconds_to_{100 * aim:.0f}"]
            row[f"notebook_to_{100 * aim:.0f}"] = round(theirs / ours, 2) if ours and theirs else None
    return summary


@entry_point
def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the training speed with a plain Keras notebook.")
    parser.add_argument("--repetitions", type=int, default=3, help="how often each contender trains (default: 3)")
    repetitions = parser.parse_args().repetitions
    if repetitions < 1:
        raise InputError(f"--repetitions is {repetitions}, but must be at least 1.")
    compare(repetitions)


def compare(repetitions: int) -> None:
    """Train each contender so many times, and write what was measured."""
    blocks = read("models", Models)
    contenders = [name for name, ours in CONTENDERS.items() if ours is None or ours[0] in blocks]
    measured: dict[str, list[dict]] = {name: [] for name in contenders}
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
            for name in contenders:
                measured[name].append(train_contender(name, Path(home), repetition - 1))
                last = measured[name][-1]["curve"][-1]
                print(
                    f"{repetition} of {repetitions}, {name}: {last['seconds']:.0f} s, validation accuracy "
                    f"{last['val_accuracy']:.4f}",
                    flush=True,
                )
    peak = {dtype: statistics.median(rates) for dtype, rates in products.items()}
    summary = {
        "machine": {"processor": processor(), "cores": cores(), **versions()},
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
    write_csv(REPORTS / "benchmark.csv", curves.round(4))
    write_json(REPORTS / "benchmark.json", summary)


if __name__ == "__main__":
    main()
