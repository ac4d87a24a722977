"""Stage `select`: select the model with the best validation accuracy. No test result is read.

With several seeds, the mean accuracy of a model's runs counts. The lower validation loss breaks ties. Where one run
represents a model (saved file, figures, intervals, calibration), it is the model's best run by validation: `best_runs` in
`reports/selection.json`. The best run of the selected model is copied to `data/selected/model.keras`.
"""

import shutil

from stages.common.entry import entry_point
from stages.common.files import atomic_write, write_json
from stages.common.parameters import read_parameters
from stages.common.runs import MODELS, SELECTED, SELECTION, read_metrics, refuse_another_run, run_name


def rank(metrics: dict[str, list[dict]]) -> list[dict]:
    """The models, best first.

    Args:
        metrics: For each model, the validation metrics of its runs, each with `accuracy` and `loss`.

    Returns:
        One dict per model: `model`, and the means over its runs, `val_accuracy` and `val_loss`.
    """
    means = [
        {
            "model": model,
            "val_accuracy": round(sum(run["accuracy"] for run in runs) / len(runs), 6),
            "val_loss": round(sum(run["loss"] for run in runs) / len(runs), 6),
        }
        for model, runs in metrics.items()
    ]
    return sorted(means, key=lambda mean: (-mean["val_accuracy"], mean["val_loss"], mean["model"]))


def reason(ranking: list[dict]) -> str:
    """A sentence that explains why the first model of the ranking is selected."""
    best, *others = ranking
    accuracy = f"{100 * best['val_accuracy']:.2f} %"
    if not others:
        return f"{best['model']} is the only model; its validation accuracy is {accuracy}."
    second = others[0]
    if (second["val_accuracy"], second["val_loss"]) == (best["val_accuracy"], best["val_loss"]):
        return (
            f"{best['model']} and {second['model']} have the same validation accuracy, {accuracy}, and the same loss; "
            f"{best['model']} comes first in the alphabet."
        )
    if second["val_accuracy"] == best["val_accuracy"]:
        return (
            f"{best['model']} and {second['model']} have the same validation accuracy, {accuracy}; "
            f"{best['model']} has the lower loss, {best['val_loss']:.4f} against {second['val_loss']:.4f}."
        )
    return (
        f"{best['model']} has the highest validation accuracy, {accuracy}; "
        f"{second['model']} is next with {100 * second['val_accuracy']:.2f} %."
    )


@entry_point
def main() -> None:
    blocks, seeds = read_parameters("models", "seeds")
    metrics = {
        model: {run_name(model, seed): read_metrics("val", run_name(model, seed)) for seed in seeds} for model in blocks
    }
    ranking = rank({model: list(runs.values()) for model, runs in metrics.items()})
    best_runs = {
        model: rank({run: [found] for run, found in runs.items()})[0]["model"] for model, runs in metrics.items()
    }
    selected = ranking[0]["model"]
    run = best_runs[selected]
    refuse_another_run(MODELS / f"{run}.keras", run)
    with atomic_write(SELECTED) as temporary:
        shutil.copyfile(MODELS / f"{run}.keras", temporary)
    selection = {
        "dataset": metrics[selected][run]["dataset"],
        "selected": selected,
        "run": run,
        "reason": reason(ranking),
        "ranking": ranking,
        "runs": {model: list(runs) for model, runs in metrics.items()},
        "best_runs": best_runs,
    }
    write_json(SELECTION, selection)
    print(f"selected {run}: {selection['reason']}")


if __name__ == "__main__":
    main()
