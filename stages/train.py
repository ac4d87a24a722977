"""Stage `train@MODEL-SEED`: train one model with one seed on train; use validation for early stopping and metrics.

Reads the model's block of `params.yaml`, `data/prepared/train.npz` and `data/prepared/val.npz`. Writes the model, a summary
of its layers as text, the history, the wall time of each epoch, the validation metrics and the validation probabilities.
"""

import sys

import pandas as pd

from stages import models
from stages.common.backend import start_keras
from stages.common.entry import entry_point
from stages.common.files import write_csv, write_json, write_text
from stages.common.parameters import read_parameters
from stages.common.runs import HISTORY, METRICS, MODELS, TIMING, arguments, run_name, save_predictions
from stages.common.splits import load_split, load_summary, notice
from stages.evaluation.scores import scores
from stages.trained import cost, prediction, saving
from stages.training import doubts, fit, resume


@entry_point
def main() -> None:
    model_name, seed = arguments("Train one model with one seed.")
    devices, backend, threads = read_parameters("devices", "backend", "threads")
    block = models.read_block(model_name)
    summary = load_summary()
    train_split, val_split = load_split("train"), load_split("val")

    start_keras(threads, backend)
    run = run_name(model_name, seed)
    print(f"training {run} on {len(train_split[0]):,} images. {notice(summary['dataset'])}", flush=True)
    history = HISTORY / f"{run}.csv"

    def show(rows: pd.DataFrame) -> None:  # after each epoch, so that an editor can show the running training
        write_csv(history, rows)

    checkpoint = resume.checkpoint_of(f"train@{run}")
    trained = fit.train(
        models.load(model_name),
        block,
        seed,
        *train_split,
        *val_split,
        devices=devices,
        on_epoch=show,
        checkpoint=checkpoint,
        name=run,
    )
    predicted = prediction.predict(trained.model, val_split[0], block.test_time_augmentation)
    warnings = doubts.doubts(trained, predicted.probabilities, val_split[1])
    for warning in warnings:
        print(f"warning: {run}: {warning}.", file=sys.stderr, flush=True)
    metrics = {
        "dataset": summary["dataset"],
        **scores(predicted.probabilities, predicted.single_view, val_split[1]),
        # `dvc metrics` does not print lists:
        "network": [
            {
                "parameters": trained.model.count_params(),
                "multiply_adds": cost.multiply_adds(trained.model),
                "epochs": len(trained.history),
            },
        ],
        "conditions": [saving.conditions(trained.model)],
        **({"warnings": warnings} if warnings else {}),
    }
    origin = {
        "dataset": summary["dataset"],
        "split_sha256": summary["split_sha256"],
        "model": model_name,
        "seed": seed,
        "parameters": block.model_dump(),
    }
    save_predictions("val", run, predicted.probabilities, predicted.single_view, val_split[1])
    saving.save_model(trained.model, MODELS / f"{run}.keras", origin)
    write_text(MODELS / f"{run}.txt", cost.describe(trained.model))
    write_csv(history, trained.history)
    write_csv(TIMING / "train" / f"{run}.csv", trained.seconds)
    write_json(METRICS / "val" / f"{run}.json", metrics)
    if checkpoint:
        checkpoint.keep_for(MODELS / f"{run}.keras")
    print(
        f"{run}: validation accuracy {metrics['accuracy']:.4f}, loss {metrics['loss']:.4f}, {len(trained.history)} epochs, "
        f"{trained.seconds['seconds'].sum():.0f} s. {notice(summary['dataset'])}"
    )


if __name__ == "__main__":
    main()
