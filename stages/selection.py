"""Stage `select`: the best model by validation accuracy; no number of the test set is read here.

With several seeds a model stands for the mean of its runs. Ties go to the lower validation loss. The chosen model's best
run by validation is copied to `data/selected/model.keras`.
"""

import shutil
from pathlib import Path

from stages.errors import front_door
from stages.files import write_json, written_whole
from stages.parameters import read_parameters
from stages.runs import MODELS, SELECTION, read_metrics, run_name

SELECTED = Path("data/selected/model.keras")


def rank(metrics: dict[str, list[dict]]) -> list[dict]:
    """The models, best first.

    Args:
        metrics: For each model the validation metrics of its runs, with `accuracy` and `loss`.

    Returns:
        A dict a model: `model`, `val_accuracy`, `val_loss`, the means over its runs.
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
    """Why the first of the ranking was chosen, as a sentence."""
    best, *others = ranking
    accuracy = f"{100 * best['val_accuracy']:.2f} %"
    if not others:
        return f"{best['model']} is the only model; its validation accuracy is {accuracy}."
    second = others[0]
    if second["val_accuracy"] == best["val_accuracy"]:
        return (
            f"{best['model']} and {second['model']} have the same validation accuracy, {accuracy}; "
            f"{best['model']} has the lower loss, {best['val_loss']:.4f} against {second['val_loss']:.4f}."
        )
    return (
        f"{best['model']} has the highest validation accuracy, {accuracy}; "
        f"{second['model']} is next with {100 * second['val_accuracy']:.2f} %."
    )


@front_door
def main() -> None:
    blocks, seeds = read_parameters("models", "seeds")
    metrics = {model: [read_metrics("val", model, seed) for seed in seeds] for model in blocks}
    ranking = rank(metrics)
    chosen = ranking[0]["model"]
    runs = {run_name(chosen, seed): [run] for seed, run in zip(seeds, metrics[chosen], strict=True)}
    run = rank(runs)[0]["model"]
    with written_whole(SELECTED) as beside:
        shutil.copyfile(MODELS / f"{run}.keras", beside)
    selection = {
        "dataset": metrics[chosen][0]["dataset"],
        "selected": chosen,
        "run": run,
        "reason": reason(ranking),
        "ranking": ranking,
    }
    write_json(SELECTION, selection)
    print(f"selected {run}: {selection['reason']}")


if __name__ == "__main__":
    main()
