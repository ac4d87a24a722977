"""Stage `compare`: compare all models, from the probabilities, metrics and wall times that the other stages wrote.

Writes `reports/summary.json` (for programs), `reports/comparison.csv` (one row per model, reproducible),
`reports/timing.csv` (one row per model, wall times), `reports/curves.csv` (the learning curves of all runs, in long form)
and, in `reports/statistics/`, intervals, tests and calibration: see `statistics`.

One row is the ensemble (soft voting): the mean probabilities of all runs of the two models with the best validation
accuracy. It needs no training of its own and is never selected.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.base.files import read_json, write_csv, write_json
from stages.base.runs import ENSEMBLE, HISTORY, SELECTION, TEMPERATURES, TIMING
from stages.base.splits import load_summary
from stages.comparison import calibration, intervals, significance
from stages.comparison.ensemble import mean_predictions, members, runs_to_compare
from stages.parameters.schema import read
from stages.parameters.statistics import Statistics
from stages.results.metrics import read_metrics
from stages.scoring.classes import confusion
from stages.scoring.scores import scores
from stages.scoring.temperature import with_temperature
from stages.scoring.wilson import wilson

REPORTS = Path("reports")
STATISTICS = REPORTS / "statistics"
NEAR_DUPLICATES = REPORTS / "audit" / "near_duplicates.csv"  # written by `audit`
COVERAGE = tuple(round(0.5 + 0.01 * step, 2) for step in range(51))  # 50 to 100 % of the images
OPTIONAL = ("balanced_accuracy", "auroc", "top_5_accuracy")  # see `stages.scoring.scores`
AVERAGED = ("val_accuracy", "val_loss", "test_accuracy", "test_accuracy_single_view", "test_loss", "test_macro_f1")


def combine(val: list[dict], test: list[dict]) -> dict:
    """One model's row from the metrics of its runs: mean and standard deviation over the seeds.

    Args:
        val: Validation metrics, one dict per seed.
        test: Test metrics, one dict per seed, in the same order.

    Returns:
        The means named in `AVERAGED`, and of `OPTIONAL` on test; the same names with `_std`, the sample standard deviation
        over the seeds (None with one seed); `parameters`, `multiply_adds` (per image; None if unknown), `epochs` (mean) and
        `runs`.
    """
    columns = {f"{split}_{name}": [run[name] for run in runs] for split, runs in (("val", val), ("test", test))
               for name in ("accuracy", "accuracy_single_view", "loss", "macro_f1", *OPTIONAL)
               if name in runs[0]}  # fmt: skip
    averaged = [*AVERAGED, *(name for name in columns if name.removeprefix("test_") in OPTIONAL)]
    epochs = float(np.mean([run["epochs"] for run in val]))
    row: dict = {name: round(float(np.mean(columns[name])), 6) for name in averaged}
    row |= {"parameters": val[0]["parameters"], "multiply_adds": val[0]["multiply_adds"]}
    row |= {"epochs": int(epochs) if epochs.is_integer() else round(epochs, 2), "runs": len(val)}
    for name in averaged:
        row[f"{name}_std"] = round(float(np.std(columns[name], ddof=1)), 6) if len(val) > 1 else None
    return row


def ensemble(selection: dict, rows: dict[str, dict]) -> tuple[str, dict] | None:
    """Name and row of the ensemble; None if there is only one run. Its costs are the sums over its runs."""
    runs = members(selection)
    if not runs:
        return None
    metrics = {split: scores(**mean_predictions(split, runs)) for split in ("val", "test")}
    voting = [place["model"] for place in selection["ranking"][:2]]
    cost = {
        key: total(rows[model][key] for model in voting for _ in selection["runs"][model])
        for key in ("parameters", "multiply_adds", "epochs")
    }
    row = combine([metrics["val"] | cost], [metrics["test"]]) | {"runs": len(runs)}
    return f"ensemble: {' + '.join(voting)}, {len(runs)} runs", row


def total(values: Iterable[float | None]) -> float | None:
    """The sum; None if a value is unknown."""
    values = list(values)
    return None if None in values else sum(values)


def times(model: str, runs: list[str]) -> dict:
    """Mean wall times of a model's runs: seconds of training, and milliseconds per test image, predicted in batches."""
    trainings, predictions = [], []
    for run in runs:
        trainings.append(pd.read_csv(TIMING / "train" / f"{run}.csv")["seconds"].sum())
        views = pd.read_csv(TIMING / "evaluate" / f"{run}.csv")
        predictions.append(1000 * views["seconds"].sum() / views["images"].iloc[0])
    return {"model": model, "training_seconds": np.mean(trainings), "milliseconds_per_image": np.mean(predictions)}


def statistics(
    test: dict[str, dict[str, np.ndarray]],
    temperatures: dict[str, float],
    with_near_duplicate: np.ndarray,
    parameters: Statistics,
    names: Sequence[str],
) -> dict[str, pd.DataFrame]:
    """The uncertainty of the test results. Nothing is fitted to the test set.

    Args:
        test: For each model, the predictions of one run, as from `load_predictions`.
        temperatures: For each model, the temperature fitted on validation.
        with_near_duplicate: Numbers (from 0) of the test images that have a near-duplicate in train or val.
        parameters: The section `statistics`.
        names: Of the classes.

    Returns:
        Tables by name, in long form; all but `pairs` and `shared_errors` have a column `model`.

        - `intervals`: metric, value, low, high;
        - `pairs`: see `compare_pairs`;
        - `classes`: see `class_intervals`;
        - `reliability` and `coverage`: see the functions of these names;
        - `temperature`: temperature; loss, brier, ece and `ece_if_calibrated` on test, without it and
          with it (`_scaled`);
        - `without_near_duplicates`: images, accuracy, low and high for the test images that have no near-duplicate in train
          or val, and accuracy_of_all for all test images;
        - `confused`: for each model the ten most frequent confusions, see `confusion`;
        - `shared_errors`: the test images that all models misclassify: image (its number, from 0), actual,
          majority_prediction, models_that_agree (with the majority).
    """
    labels = next(iter(test.values()))["labels"]
    tables: dict[str, list[pd.DataFrame]] = defaultdict(list)
    for model, predictions in test.items():
        chances = predictions["probabilities"]
        found = intervals.with_intervals(chances, labels, parameters)
        rows = [(name, *numbers) for name, numbers in found.items()]
        before = calibration.calibration(chances, labels, parameters.bins)
        before |= calibration.ece_if_calibrated(chances, parameters)
        scaled = with_temperature(chances, temperatures[model])
        after = calibration.calibration(scaled, labels, parameters.bins)
        after |= calibration.ece_if_calibrated(scaled, parameters)
        effect = {"temperature": temperatures[model], **before}
        effect |= {f"{name}_scaled": value for name, value in after.items()}
        alone = np.delete(chances.argmax(axis=1) == labels, with_near_duplicate)
        ends = wilson(alone.sum(), len(alone), parameters.confidence)
        unique = {"images": len(alone), "accuracy": alone.mean(), "low": ends[0], "high": ends[1]}
        mistakes = confusion(chances, labels, names).query("actual != predicted and images > 0")
        for name, table in (
            ("intervals", pd.DataFrame(rows, columns=["metric", "value", "low", "high"])),
            ("classes", intervals.class_intervals(chances, labels, names, parameters)),
            ("reliability", calibration.reliability(chances, labels, parameters)),
            ("coverage", calibration.coverage(chances, labels, COVERAGE)),
            ("temperature", pd.DataFrame([effect])),
            ("without_near_duplicates", pd.DataFrame([unique | {"accuracy_of_all": found["accuracy"][0]}])),
            ("confused", mistakes.sort_values("images", ascending=False, kind="stable").head(10)),
        ):
            table.insert(0, "model", model)
            tables[name].append(table)
    guesses = np.array([test[model]["probabilities"].argmax(axis=1) for model in test])
    right = {model: guess == labels for model, guess in zip(test, guesses, strict=True)}
    guesses = guesses[[model != ENSEMBLE for model in test]]
    shared = np.flatnonzero((guesses != labels).all(axis=0))
    most = np.array([np.bincount(guesses[:, index], minlength=len(names)).argmax() for index in shared], int)
    names = np.array(names)
    agree = (guesses[:, shared] == most).sum(axis=0)
    pairs = significance.compare_pairs(right, parameters.confidence)
    pairs[["p", "p_holm"]] = pairs[["p", "p_holm"]].map("{:.3g}".format)  # six decimals would round small p-values to 0
    return {name: pd.concat(parts) for name, parts in tables.items()} | {
        "pairs": pairs,
        "shared_errors": pd.DataFrame(
            {
                "image": shared,
                "actual": names[labels[shared]],
                "majority_prediction": names[most],
                "models_that_agree": agree,
            }
        ),
    }


def main() -> None:
    parameters = read("statistics", Statistics)
    selection = read_json(SELECTION)
    rows = {
        model: combine(*([read_metrics(split, run) for run in runs] for split in ("val", "test")))
        for model, runs in selection["runs"].items()
    }
    together = ensemble(selection, rows)
    table = pd.DataFrame([{"model": model, **row} for model, row in rows.items()])
    timing = pd.DataFrame([times(model, runs) for model, runs in selection["runs"].items()])
    if together:
        name, row = together
        table.loc[len(table)] = {"model": name, **row}
        voting = [place["model"] for place in selection["ranking"][:2]]
        seeds = len(next(iter(selection["runs"].values())))
        seconds = timing[timing.model.isin(voting)].drop(columns="model").sum() * seeds
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
        pd.read_csv(HISTORY / f"{run}.csv").assign(model=model, seed=int(run.rpartition("-")[2]))
        for model, runs in selection["runs"].items()
        for run in runs
    ]
    write_csv(REPORTS / "curves.csv", pd.concat(curves))
    test = {name: mean_predictions("test", runs) for name, runs in runs_to_compare(selection).items()}
    pairs = pd.read_csv(NEAR_DUPLICATES).query("split_a != 'test' and split_b == 'test'")
    near_duplicates = pairs["image_b"].astype(int).unique()  # without rows, the column has no integer type
    given = read_json(TEMPERATURES)["temperatures"], near_duplicates, parameters, load_summary()["class_names"]
    for name, tables in statistics(test, *given).items():
        write_csv(STATISTICS / f"{name}.csv", tables)
    for model, row in rows.items():
        chosen = "  <- selected by validation" if model == selection["selected"] else ""
        print(f"{model}: validation {row['val_accuracy']:.4f}, test {row['test_accuracy']:.4f}{chosen}")


if __name__ == "__main__":
    main()
