"""Runs: one model trained with one seed. Where their files lie, and the predictions among them."""

import argparse
import zipfile
from pathlib import Path

import numpy as np

from stages import models
from stages.errors import InputError
from stages.files import read_json, written_whole
from stages.parameters import unknown

METRICS = Path("reports/metrics")  # val/RUN.json and test/RUN.json, the same keys in both
HISTORY = Path("reports/history")  # RUN.csv
TIMING = Path("reports/timing")  # train/RUN.csv and evaluate/RUN.csv: wall times, kept apart, since they never repeat
PER_CLASS = Path("reports/per_class")  # RUN.csv
CONFUSION = Path("reports/confusion")  # RUN.csv
ROBUSTNESS = Path("reports/robustness")  # RUN.csv
UNFAMILIAR = Path("reports/unfamiliar")  # RUN.csv
MODELS = Path("data/models")  # RUN.keras, and RUN.txt, its layers
PREDICTIONS = Path("data/predictions")  # val/RUN.npz and test/RUN.npz: see load_predictions
FOLDS = Path("data/folds/probabilities.npz")  # see load_folds
SELECTION = Path("reports/selection.json")  # the chosen model, its best run, and why


def run_name(model: str, seed: int) -> str:
    """The name of a run, as in DVC's stage names: `cnn-0`."""
    return f"{model}-{seed}"


def read_metrics(split: str, model: str, seed: int) -> dict:
    """A run's metrics on `"val"` or `"test"`, with the numbers of its `network` among them.

    Raises `InputError` where there are none yet.
    """
    path = METRICS / split / f"{run_name(model, seed)}.json"
    if not path.exists():
        raise InputError(f"{path} is missing. Type `dvc repro`, which trains and evaluates what is not there.")
    return with_network(read_json(path))


def with_network(metrics: dict) -> dict:
    """Metrics with the numbers of their `network` among them, which in the file stand in a list.

    `dvc metrics` leaves lists out; with these columns its table would be wider than a terminal.
    """
    return metrics | metrics.get("network", [{}])[0]


def save_predictions(split: str, run: str, probabilities: np.ndarray, plain: np.ndarray, labels: np.ndarray) -> None:
    """Keep a run's probabilities (N, 10) on `"val"` or `"test"`: all later numbers and pictures derive from them."""
    with written_whole(PREDICTIONS / split / f"{run}.npz") as beside:
        np.savez(beside, probabilities=probabilities, plain=plain, labels=labels)


def load_predictions(split: str, run: str) -> dict[str, np.ndarray]:
    """A run's `probabilities` over its views and of the `plain` pictures, each (N, 10), and the `labels` (N,)."""
    with np.load(PREDICTIONS / split / f"{run}.npz") as arrays:
        return dict(arrays)


def load_folds() -> dict[str, np.ndarray]:
    """`probabilities` float32 (N, 10), `labels` and `fold` (N,) of the training pictures, then those of validation."""
    if not FOLDS.exists():
        raise InputError(f"{FOLDS} is missing. Type `dvc repro folds`.")
    try:
        with np.load(FOLDS) as arrays:
            return {name: arrays[name] for name in ("probabilities", "labels", "fold")}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{FOLDS} is damaged ({error}). Delete it and type `dvc repro folds`.") from None


def arguments(description: str) -> tuple[str, int]:
    """The model and the seed from the command line. Raises `InputError` where there is no such model."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", help=f"one of {', '.join(models.names())}")
    parser.add_argument("--seed", type=int, default=0, help="0 or above; 0 unless given")
    given = parser.parse_args()
    if given.model not in models.names():
        raise InputError(f"there is no model {given.model}; {unknown(given.model, models.names(), 'models')}")
    if not 0 <= given.seed < 2**32:
        raise InputError(f"--seed is {given.seed}, but must be a whole number from 0 to {2**32 - 1}.")
    return given.model, given.seed
