"""Stage `select`: select the model that is best on validation by the metric `select.metric`. No test result is read.

With several seeds, the mean of a model's runs counts. The lower validation loss breaks ties. Where one run
represents a model (saved file, figures, intervals, calibration), it is the model's best run by validation: `best_runs` in
`reports/selection.json`. The best run of the selected model is copied to `data/selected/model.keras`. Trainings that
probably went wrong are named.
"""

import shutil
import sys

import pandas as pd

from stages.base.files import atomic_write, write_json
from stages.base.runs import HISTORY, MODELS, SELECTED, SELECTION, run_name
from stages.base.splits import load_summary
from stages.parameters.runs import Models, Seeds
from stages.parameters.schema import read
from stages.parameters.select import Select
from stages.results.metrics import read_metrics
from stages.results.origin import refuse_another_run
from stages.results.predictions import load_predictions
from stages.scoring.training_warnings import training_warnings


def rank(metrics: dict[str, list[dict]], metric: str = "accuracy") -> list[dict]:
    """The models, best first.

    Args:
        metrics: For each model, the validation metrics of its runs, each with `accuracy`, `loss` and `metric`.
        metric: The one that counts. Without `balanced_accuracy`, all classes have as many images, and it is the accuracy.

    Returns:
        One dict per model: `model`, and the means over its runs, `val_accuracy`, `val_loss` and `val_METRIC`.
    """
    means = [
        {
            "model": model,
            "val_accuracy": round(sum(run["accuracy"] for run in runs) / len(runs), 6),
            "val_loss": round(sum(run["loss"] for run in runs) / len(runs), 6),
            f"val_{metric}": round(sum(run.get(metric, run["accuracy"]) for run in runs) / len(runs), 6),
        }
        for model, runs in metrics.items()
    ]
    return sorted(means, key=lambda mean: (-mean[f"val_{metric}"], mean["val_loss"], mean["model"]))


def reason(ranking: list[dict], metric: str = "accuracy") -> str:
    """A sentence that explains why the first model of the ranking is selected."""
    best, *others = ranking
    name, key = f"validation {metric.replace('_', ' ')}", f"val_{metric}"
    value = f"{100 * best[key]:.2f} %"
    if not others:
        return f"{best['model']} is the only model; its {name} is {value}."
    second = others[0]
    if second[key] < best[key]:
        return f"{best['model']} has the highest {name}, {value}; {second['model']} is next with {100 * second[key]:.2f} %."
    equal = f"{best['model']} and {second['model']} have the same {name}, {value}"
    if second["val_loss"] == best["val_loss"]:
        return f"{equal}, and the same loss; {best['model']} comes first in the alphabet."
    losses = f"{best['val_loss']:.4f} against {second['val_loss']:.4f}"
    return f"{equal}; {best['model']} has the lower loss, {losses}."


def warnings_of(run: str, metrics: dict) -> list[str]:
    """What is doubtful about the training of a run: see `training_warnings`."""
    predictions = load_predictions("val", run)
    history = pd.read_csv(HISTORY / f"{run}.csv")
    given = predictions["probabilities"], predictions["labels"], load_summary()["class_names"]
    return training_warnings(metrics["training"][0], history, *given)


def main() -> None:
    blocks, seeds, metric = read("models", Models), read("seeds", Seeds), read("select", Select).metric
    metrics = {
        model: {run_name(model, seed): read_metrics("val", run_name(model, seed)) for seed in seeds} for model in blocks
    }
    ranking = rank({model: list(runs.values()) for model, runs in metrics.items()}, metric)
    best_runs = {
        model: rank({run: [found] for run, found in runs.items()}, metric)[0]["model"]
        for model, runs in metrics.items()
    }
    selected = ranking[0]["model"]
    run = best_runs[selected]
    refuse_another_run(MODELS / f"{run}.keras", run)
    with atomic_write(SELECTED) as temporary:
        shutil.copyfile(MODELS / f"{run}.keras", temporary)
    warnings = {run: found for runs in metrics.values() for run in runs if (found := warnings_of(run, runs[run]))}
    for name, found in warnings.items():
        for warning in found:
            print(f"warning: {name}: {warning}.", file=sys.stderr)
    selection = {
        "dataset": metrics[selected][run]["dataset"],
        "selected": selected,
        "run": run,
        "reason": reason(ranking, metric),
        "ranking": ranking,
        "runs": {model: list(runs) for model, runs in metrics.items()},
        "best_runs": best_runs,
        "warnings": warnings,
    }
    if metric != "accuracy":
        selection["metric"] = metric
    write_json(SELECTION, selection)
    print(f"selected {run}: {selection['reason']}")


if __name__ == "__main__":
    main()
