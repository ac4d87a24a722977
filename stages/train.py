"""Stage `train@MODEL-SEED`: train one model with one seed on train; use validation for early stopping and metrics.

Reads the model's block of `params.yaml`, `data/prepared/train.npy` and `data/prepared/val.npz`. Writes the model, a summary
of its layers as text, the history, the wall time of each epoch, the validation metrics and the validation probabilities.
"""

import pandas as pd

from stages import models
from stages.base.files import write_csv, write_json, write_text
from stages.base.runs import HISTORY, METRICS, MODELS, TIMING, arguments, run_name
from stages.base.splits import load_split, load_summary
from stages.parameters.runs import Devices, Threads
from stages.parameters.schema import read
from stages.results.predictions import save_predictions
from stages.scoring.scores import scores
from stages.trained import cost, prediction, saving
from stages.trained.backend import start_keras
from stages.training import fit
from stages.training.checkpoint import Checkpoint


def main(checkpoint: Checkpoint | None = None) -> None:
    """Train; `checkpoint`, if given, keeps what the training has reached, and it goes on from there."""
    model_name, seed = arguments("Train one model with one seed.")
    start_keras(read("threads", Threads))
    run, devices = run_name(model_name, seed), read("devices", Devices)
    summary, train_split, (val_images, val_labels) = load_summary(), load_split("train"), load_split("val")
    block = models.read_block(model_name, summary["mirror"])
    print(f"training {run} on {len(train_split[0]):,} images", flush=True)

    def show(rows: pd.DataFrame) -> None:  # after each epoch, so that an editor can show the running training
        write_csv(HISTORY / f"{run}.csv", rows)

    trained = fit.train(
        models.load(model_name), block, seed, *train_split, val_images, val_labels,
        devices=devices, on_epoch=show, checkpoint=checkpoint, name=run,
        class_weights=summary["class_weights"],
    )  # fmt: skip
    predicted = prediction.predict(trained.model, val_images, block.test_time_augmentation)
    network = {
        "parameters": trained.model.count_params(),
        "multiply_adds": cost.multiply_adds(trained.model),
        "epochs": len(trained.history),
    }
    metrics = {
        "dataset": summary["dataset"],
        **scores(predicted.probabilities, predicted.single_view, val_labels),
        "network": [network],  # in lists, which `dvc metrics` does not print
        "training": [fit.facts(trained)],
        "conditions": [saving.conditions(trained.model)],
    }
    origin = {name: summary[name] for name in ("dataset", "split_sha256")}
    origin |= {"model": model_name, "seed": seed, "parameters": block.model_dump()}
    save_predictions("val", run, predicted.probabilities, predicted.single_view, val_labels)
    saving.save_model(trained.model, MODELS / f"{run}.keras", origin)
    write_text(MODELS / f"{run}.txt", cost.describe(trained.model))
    write_csv(HISTORY / f"{run}.csv", trained.history)
    write_csv(TIMING / "train" / f"{run}.csv", trained.seconds)
    write_json(METRICS / "val" / f"{run}.json", metrics)
    print(
        f"{run}: validation accuracy {metrics['accuracy']:.4f}, loss {metrics['loss']:.4f}, {len(trained.history)} epochs, "
        f"{trained.seconds['seconds'].sum():.0f} s"
    )


if __name__ == "__main__":
    main()
