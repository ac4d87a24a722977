"""Stage `compare`: all models side by side, from the metrics and times that the other stages left.

Writes `reports/summary.json` (what a program reads), `reports/comparison.csv` (a row a model, reproducible),
`reports/timing.csv` (a row a model, wall times) and `reports/curves.csv` (every run's learning curve in one long table).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.errors import front_door
from stages.files import read_json, write_csv, write_json
from stages.parameters import read_parameters
from stages.runs import HISTORY, SELECTION, TIMING, read_metrics, run_name

REPORTS = Path("reports")
AVERAGED = ("val_accuracy", "val_loss", "test_accuracy", "test_loss", "test_macro_f1")


def combine(val: list[dict], test: list[dict]) -> dict:
    """One model's row from the metrics of its runs: means over the seeds, and deviations where there are several.

    Args:
        val: The validation metrics, one dict a seed; `test` likewise, in the same order.

    Returns:
        val_accuracy, val_loss, test_accuracy, test_loss and test_macro_f1 (means); the same with `_deviation` (sample
        standard deviation over the seeds, None with one seed); parameters, multiply_adds, epochs (mean), runs.
    """
    columns = {
        f"{split}_{name}": [run[name] for run in runs]
        for split, runs in (("val", val), ("test", test))
        for name in ("accuracy", "loss", "macro_f1")
    }
    epochs = float(np.mean([run["epochs"] for run in val]))
    row: dict = {name: round(float(np.mean(columns[name])), 6) for name in AVERAGED}
    row |= {"parameters": val[0]["parameters"], "multiply_adds": val[0]["multiply_adds"]}
    row |= {"epochs": int(epochs) if epochs.is_integer() else round(epochs, 2), "runs": len(val)}
    for name in AVERAGED:
        row[f"{name}_deviation"] = round(float(np.std(columns[name], ddof=1)), 6) if len(val) > 1 else None
    return row


def times(model: str, seeds: list[int]) -> dict:
    """Mean wall times of a model's runs: seconds of training, and milliseconds to predict one test picture in a batch."""
    trainings, predictions = [], []
    for seed in seeds:
        run = run_name(model, seed)
        trainings.append(pd.read_csv(TIMING / "train" / f"{run}.csv")["seconds"].sum())
        views = pd.read_csv(TIMING / "evaluate" / f"{run}.csv")
        predictions.append(1000 * views["seconds"].sum() / views["pictures"].iloc[0])
    return {"model": model, "training_seconds": np.mean(trainings), "milliseconds_a_picture": np.mean(predictions)}


@front_door
def main() -> None:
    blocks, seeds = read_parameters("models", "seeds")
    selection = read_json(SELECTION)
    rows = {
        model: combine(*([read_metrics(split, model, seed) for seed in seeds] for split in ("val", "test")))
        for model in blocks
    }
    write_json(
        REPORTS / "summary.json",
        {"dataset": selection["dataset"], "selected": selection["selected"], "models": rows},
    )
    write_csv(REPORTS / "comparison.csv", pd.DataFrame([{"model": model, **row} for model, row in rows.items()]))
    write_csv(REPORTS / "timing.csv", pd.DataFrame([times(model, seeds) for model in blocks]))
    curves = [
        pd.read_csv(HISTORY / f"{run_name(model, seed)}.csv").assign(model=model, seed=seed)
        for model in blocks
        for seed in seeds
    ]
    write_csv(REPORTS / "curves.csv", pd.concat(curves))
    for model, row in rows.items():
        chosen = "  <- selected by validation" if model == selection["selected"] else ""
        print(f"{model}: validation {row['val_accuracy']:.4f}, test {row['test_accuracy']:.4f}{chosen}")


if __name__ == "__main__":
    main()
