"""Stage `train@MODEL-SEED`: train one model with one seed on train, with validation for early stopping.

Reads the model's block of `params.yaml`, `data/prepared/train.npz` and `val.npz`. Writes the model, a text of its layers,
the history, the epochs' wall times, the validation metrics and the probabilities behind them.
"""

from pathlib import Path

import pandas as pd

from stages import models
from stages.dataset import load_split, load_summary, notice
from stages.environment import use_backend
from stages.errors import front_door
from stages.files import write_csv, write_json, write_text
from stages.parameters import read_parameters
from stages.runs import HISTORY, METRICS, MODELS, TIMING, arguments, run_name, save_predictions
from stages.workspace import refuse_before_training


@front_door
def main() -> None:
    model_name, seed = arguments("Train one model with one seed.")
    refuse_before_training(Path.cwd())
    parameters, devices, backend = read_parameters(f"models.{model_name}", "devices", "backend")
    summary = load_summary()
    train_part, val_part = load_split("train"), load_split("val")

    use_backend(backend)
    # After the checks above: these import TensorFlow, which takes seconds.
    from stages.evaluation.inference import predict
    from stages.evaluation.scores import scores
    from stages.training.fit import train
    from stages.training.saving import conditions, describe, multiply_adds, save_model

    run = run_name(model_name, seed)
    print(f"training {run} on {len(train_part[0]):,} pictures. {notice(summary['dataset'])}", flush=True)
    history = HISTORY / f"{run}.csv"

    def show(rows: pd.DataFrame) -> None:  # whole after each epoch, so that an editor shows a training that runs
        write_csv(history, rows)

    trained = train(models.load(model_name), parameters, seed, *train_part, *val_part, devices=devices, on_epoch=show)
    predicted = predict(trained.model, val_part[0], parameters.views)
    metrics = {
        "dataset": summary["dataset"],
        **scores(predicted.probabilities, predicted.plain, val_part[1]),
        "epochs": len(trained.history),
        # Lists, which `dvc metrics` does not print:
        "network": [
            {"parameters": trained.model.count_params(), "multiply_adds": multiply_adds(trained.model)},
        ],
        "conditions": [conditions(trained.model)],
    }
    origin = {
        "dataset": summary["dataset"],
        "split_sha256": summary["split_sha256"],
        "model": model_name,
        "seed": seed,
        "parameters": parameters.model_dump(),
    }
    save_predictions("val", run, predicted.probabilities, predicted.plain, val_part[1])
    save_model(trained.model, MODELS / f"{run}.keras", origin)
    write_text(MODELS / f"{run}.txt", describe(trained.model))
    write_csv(history, trained.history)
    write_csv(TIMING / "train" / f"{run}.csv", trained.seconds)
    write_json(METRICS / "val" / f"{run}.json", metrics)
    print(
        f"{run}: validation accuracy {metrics['accuracy']:.4f}, loss {metrics['loss']:.4f}, {metrics['epochs']} epochs, "
        f"{trained.seconds['seconds'].sum():.0f} s. {notice(summary['dataset'])}"
    )


if __name__ == "__main__":
    main()
