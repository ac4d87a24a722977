"""Stage `compare`: all models side by side, from the metrics and times that the other stages left.

Writes `reports/summary.json` (what a program reads), `reports/comparison.csv` (a row a model, reproducible),
`reports/timing.csv` (a row a model, wall times) and `reports/curves.csv` (every run's learning curve in one long table).

One row is not a model: the ensemble, which averages the probabilities of all runs of the two models with the best
validation accuracy (soft voting). It costs no training of its own, and is never selected.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.errors import front_door
from stages.evaluation.scores import scores
from stages.files import read_json, write_csv, write_json
from stages.parameters import read_parameters
from stages.runs import HISTORY, SELECTION, TIMING, load_predictions, read_metrics, run_name

REPORTS = Path("reports")
AVERAGED = ("val_accuracy", "val_loss", "test_accuracy", "test_accuracy_plain", "test_loss", "test_macro_f1")


def combine(val: list[dict], test: list[dict]) -> dict:
    """One model's row from the metrics of its runs: means over the seeds, and deviations where there are several.

    Args:
        val: The validation metrics, one dict a seed; `test` likewise, in the same order.

    Returns:
        the means named in `AVERAGED`; the same with `_deviation` (sample standard deviation over the seeds, None with one
        seed); parameters, multiply_adds, epochs (mean), runs.
    """
    columns = {
        f"{split}_{name}": [run[name] for run in runs]
        for split, runs in (("val", val), ("test", test))
        for name in ("accuracy", "accuracy_plain", "loss", "macro_f1")
    }
    epochs = float(np.mean([run["epochs"] for run in val]))
    row: dict = {name: round(float(np.mean(columns[name])), 6) for name in AVERAGED}
    row |= {"parameters": val[0]["parameters"], "multiply_adds": val[0]["multiply_adds"]}
    row |= {"epochs": int(epochs) if epochs.is_integer() else round(epochs, 2), "runs": len(val)}
    for name in AVERAGED:
        row[f"{name}_deviation"] = round(float(np.std(columns[name], ddof=1)), 6) if len(val) > 1 else None
    return row


def ensemble(ranking: list[str], seeds: list[int], rows: dict[str, dict]) -> tuple[str, dict] | None:
    """Name and row of the ensemble of the first two models of `ranking`; None where there is but one run."""
    members = [run_name(model, seed) for model in ranking[:2] for seed in seeds]
    if len(members) < 2:
        return None
    metrics = {}
    for split in ("val", "test"):
        predictions = [load_predictions(split, run) for run in members]
        means = (np.mean([member[kind] for member in predictions], axis=0) for kind in ("probabilities", "plain"))
        metrics[split] = scores(*means, predictions[0]["labels"])
    each = {key: sum(rows[model][key] for model in ranking[:2]) for key in ("parameters", "multiply_adds", "epochs")}
    cost = {key: value * len(seeds) for key, value in each.items()}
    row = combine([metrics["val"] | cost], [metrics["test"]]) | {"runs": len(members)}
    return f"ensemble: {' + '.join(ranking[:2])}, {len(members)} runs", row


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
    ranking = [place["model"] for place in selection["ranking"]]
    together = ensemble(ranking, seeds, rows)
    table = pd.DataFrame([{"model": model, **row} for model, row in rows.items()])
    timing = pd.DataFrame([times(model, seeds) for model in blocks])
    if together:
        name, row = together
        table.loc[len(table)] = {"model": name, **row}
        seconds = timing[timing.model.isin(ranking[:2])].drop(columns="model").sum() * len(seeds)
        timing.loc[len(timing)] = {"model": name, **seconds}
        print(f"{name}: validation {row['val_accuracy']:.4f}, test {row['test_accuracy']:.4f}")
    write_json(
        REPORTS / "summary.json",
        {
            "dataset": selection["dataset"],
            "selected": selection["selected"],
            "models": rows,
            "ensemble": {"name": together[0], **together[1]} if together else None,
        },
    )
    write_csv(REPORTS / "comparison.csv", table)
    write_csv(REPORTS / "timing.csv", timing)
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
