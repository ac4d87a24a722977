"""Runs: a run is one model trained with one seed. The paths of all files of runs."""

import argparse
from pathlib import Path

FASHION_MNIST = "fashion-mnist"  # the name of the data that come with the project, in every result
METRICS = Path("reports/metrics")  # val/RUN.json, which also has the network's numbers, and test/RUN.json
HISTORY = Path("reports/history")  # RUN.csv
TIMING = Path("reports/timing")  # train/RUN.csv and evaluate/RUN.csv: wall times, kept apart, since they never repeat
PER_CLASS = Path("reports/per_class")  # RUN.csv
CONFUSION = Path("reports/confusion")  # RUN.csv
ROBUSTNESS = Path("reports/robustness")  # RUN.csv
OOD = Path("reports/ood")  # RUN.csv
MODELS = Path("data/models")  # RUN.keras, and RUN.txt, its layers
PREDICTIONS = Path("data/predictions")  # val/RUN.npz and test/RUN.npz: see stages.results.predictions
FOLDS = Path("data/folds/probabilities.npz")  # see stages.results.predictions
FOLD_MODEL = Path("data/folds/model.keras")  # trained without the first fold
SELECTION = Path("reports/selection.json")  # the chosen model, its best run, and why; the runs of every model
SELECTED = Path("data/selected/model.keras")
STRANGERS = Path("data/selected/strangers.npz")  # see `stages.strangers`
TEMPERATURES = Path("reports/temperatures.json")  # of each model, fitted on validation
EXPERIMENTS = Path("reports/experiments.csv")

ENSEMBLE = "ensemble"  # the name of the ensemble in tables of models; no model may have it


def run_name(model: str, seed: int) -> str:
    """The name of a run, as in DVC's stage names: `cnn-0`."""
    return f"{model}-{seed}"


def arguments(description: str) -> tuple[str, int]:
    """The model and the seed from the command line: `cnn --seed 0`, or DVC's name of the stage, `train@cnn-0`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", help="a model of params.yaml; or DVC's name of the stage")
    parser.add_argument("--seed", type=int, default=0, help="a whole number, 0 or above (default: 0)")
    given = parser.parse_args()
    if "@" not in given.model:
        return given.model, given.seed
    model, _, seed = given.model.partition("@")[2].rpartition("-")
    return model, int(seed)
