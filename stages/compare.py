"""Stage `compare`: all models side by side, from the probabilities, metrics and times that the other stages left.

Writes `reports/summary.json` (what a program reads), `reports/comparison.csv` (a row a model, reproducible),
`reports/timing.csv` (a row a model, wall times), `reports/curves.csv` (every run's learning curve in one long table) and,
under `reports/statistics/`, how sure all this is: see `statistics`.

One row is not a model: the ensemble, which averages the probabilities of all runs of the two models with the best
validation accuracy (soft voting). It costs no training of its own, and is never selected.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.calibrate import TEMPERATURES
from stages.dataset import CLASS_NAMES
from stages.errors import front_door
from stages.evaluation import uncertainty
from stages.evaluation.classes import confusion
from stages.evaluation.ensemble import ENSEMBLE, contenders, members, vote
from stages.evaluation.scores import scores
from stages.files import read_json, write_csv, write_json
from stages.parameters import Statistics, read_parameters
from stages.runs import HISTORY, SELECTION, TIMING, read_metrics, run_name

REPORTS = Path("reports")
STATISTICS = REPORTS / "statistics"
TWINS = REPORTS / "audit" / "twins.csv"  # written by `audit`
COVERAGE = tuple(round(0.5 + 0.01 * step, 2) for step in range(51))  # 50 to 100 % of the pictures
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


def ensemble(selection: dict, seeds: list[int], rows: dict[str, dict]) -> tuple[str, dict] | None:
    """Name and row of the ensemble; None where there is but one run."""
    runs = members(selection, seeds)
    if not runs:
        return None
    metrics = {split: scores(**vote(split, runs)) for split in ("val", "test")}
    voting = [place["model"] for place in selection["ranking"][:2]]
    each = {key: sum(rows[model][key] for model in voting) for key in ("parameters", "multiply_adds", "epochs")}
    cost = {key: value * len(seeds) for key, value in each.items()}
    row = combine([metrics["val"] | cost], [metrics["test"]]) | {"runs": len(runs)}
    return f"ensemble: {' + '.join(voting)}, {len(runs)} runs", row


def times(model: str, seeds: list[int]) -> dict:
    """Mean wall times of a model's runs: seconds of training, and milliseconds to predict one test picture in a batch."""
    trainings, predictions = [], []
    for seed in seeds:
        run = run_name(model, seed)
        trainings.append(pd.read_csv(TIMING / "train" / f"{run}.csv")["seconds"].sum())
        views = pd.read_csv(TIMING / "evaluate" / f"{run}.csv")
        predictions.append(1000 * views["seconds"].sum() / views["pictures"].iloc[0])
    return {"model": model, "training_seconds": np.mean(trainings), "milliseconds_a_picture": np.mean(predictions)}


def statistics(
    test: dict[str, dict[str, np.ndarray]],
    temperatures: dict[str, float],
    with_twin: np.ndarray,
    parameters: Statistics,
) -> dict[str, pd.DataFrame]:
    """How sure the test results are: tables by name, each in long form with a column `model`. Nothing is fitted to test.

    Args:
        test: Of each model one run's predictions, as `load_predictions`.
        temperatures: Of each model, fitted on validation.
        with_twin: Numbers of the test pictures that have a near twin in train or val.

    Returns:
        `intervals`: metric, value, low, high; `pairs`: see `compare_pairs`; `classes`: each class's metrics with intervals;
        `reliability` and `coverage`: see there; `temperature`: the one fitted on validation, and loss, brier and ece on
        test before and after (`_scaled`); `without_twins`: accuracy on the test pictures without a near twin in train or
        val, with its interval, beside that on all; `confused`: the ten pairs of classes most often confused;
        `shared_errors`: the test pictures (by their number, from 0) that every model has wrong, with what most of them say.
    """
    labels = next(iter(test.values()))["labels"]
    tables: dict[str, list[pd.DataFrame]] = {
        name: []
        for name in ("intervals", "classes", "reliability", "coverage", "temperature", "without_twins", "confused")
    }
    for model, predictions in test.items():
        chances = predictions["probabilities"]
        intervals = uncertainty.with_intervals(chances, labels, parameters)
        rows = [(name, *numbers) for name, numbers in intervals.items()]
        before = uncertainty.calibration(chances, labels, parameters.bins)
        scaled = uncertainty.with_temperature(chances, temperatures[model])
        after = uncertainty.calibration(scaled, labels, parameters.bins)
        effect = {
            "temperature": temperatures[model],
            **before,
            **{f"{name}_scaled": value for name, value in after.items()},
        }
        alone = np.delete(chances.argmax(axis=1) == labels, with_twin)
        ends = uncertainty.wilson(alone.sum(), len(alone), parameters.confidence)
        untwinned = {"pictures": len(alone), "accuracy": alone.mean(), "low": ends[0], "high": ends[1]}
        mistakes = confusion(chances, labels).query("actual != predicted and pictures > 0")
        for name, table in (
            ("intervals", pd.DataFrame(rows, columns=["metric", "value", "low", "high"])),
            ("classes", uncertainty.class_intervals(chances, labels, parameters)),
            ("reliability", uncertainty.reliability(chances, labels, parameters)),
            ("coverage", uncertainty.coverage(chances, labels, COVERAGE)),
            ("temperature", pd.DataFrame([effect])),
            ("without_twins", pd.DataFrame([untwinned | {"accuracy_of_all": intervals["accuracy"][0]}])),
            ("confused", mistakes.sort_values("pictures", ascending=False, kind="stable").head(10)),
        ):
            table.insert(0, "model", model)
            tables[name].append(table)
    guesses = np.array([test[model]["probabilities"].argmax(axis=1) for model in test])
    right = {model: guess == labels for model, guess in zip(test, guesses, strict=True)}
    guesses = guesses[[model != ENSEMBLE for model in test]]
    shared = np.flatnonzero((guesses != labels).all(axis=0))
    most = np.array([np.bincount(guesses[:, index], minlength=10).argmax() for index in shared], int)
    names = np.array(CLASS_NAMES)
    agree = (guesses[:, shared] == most).sum(axis=0)
    pairs = uncertainty.compare_pairs(right, parameters.confidence)
    pairs[["p", "p_holm"]] = pairs[["p", "p_holm"]].map("{:.3g}".format)  # they can be far smaller than six decimals
    return {name: pd.concat(parts) for name, parts in tables.items()} | {
        "pairs": pairs,
        "shared_errors": pd.DataFrame(
            {"picture": shared, "actual": names[labels[shared]], "most_say": names[most], "models_that_say_so": agree}
        ),
    }


@front_door
def main() -> None:
    blocks, seeds, parameters = read_parameters("models", "seeds", "statistics")
    selection = read_json(SELECTION)
    rows = {
        model: combine(*([read_metrics(split, model, seed) for seed in seeds] for split in ("val", "test")))
        for model in blocks
    }
    together = ensemble(selection, seeds, rows)
    table = pd.DataFrame([{"model": model, **row} for model, row in rows.items()])
    timing = pd.DataFrame([times(model, seeds) for model in blocks])
    if together:
        name, row = together
        table.loc[len(table)] = {"model": name, **row}
        voting = [place["model"] for place in selection["ranking"][:2]]
        seconds = timing[timing.model.isin(voting)].drop(columns="model").sum() * len(seeds)
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
    test = {name: vote("test", runs) for name, runs in contenders(selection, list(blocks), seeds).items()}
    pairs = pd.read_csv(TWINS).query("split_a != 'test' and split_b == 'test'")
    twins = pairs["picture_b"].astype(int).unique()  # without a row pandas knows no type
    for name, tables in statistics(test, read_json(TEMPERATURES)["temperatures"], twins, parameters).items():
        write_csv(STATISTICS / f"{name}.csv", tables)
    for model, row in rows.items():
        chosen = "  <- selected by validation" if model == selection["selected"] else ""
        print(f"{model}: validation {row['val_accuracy']:.4f}, test {row['test_accuracy']:.4f}{chosen}")


if __name__ == "__main__":
    main()
