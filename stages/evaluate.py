"""Stage `evaluate@MODEL-SEED`: the test pictures through one trained model, once; nothing here chooses or fits anything.

Writes the probabilities, from which every later number and picture derives, the test metrics, the metrics of each class,
the confusion counts and the wall time of the prediction. A random part of the test pictures also goes through the model
corrupted in ten ways at five strengths (`reports/robustness`), and the model's confidence in them as they were is held
against that in pictures that are no clothing (`reports/unfamiliar`).
"""

import numpy as np
import pandas as pd
from scipy.special import softmax

from stages.dataset import load_split, load_summary, notice
from stages.errors import InputError, front_door
from stages.evaluation.classes import confusion, per_class
from stages.evaluation.robustness import confidence_in_the_unfamiliar, robustness, summary
from stages.evaluation.scores import scores
from stages.files import write_csv, write_json
from stages.parameters import read_parameters
from stages.runs import (
    CONFUSION,
    METRICS,
    MODELS,
    PER_CLASS,
    ROBUSTNESS,
    TIMING,
    UNFAMILIAR,
    arguments,
    read_metrics,
    run_name,
    save_predictions,
)


@front_door
def main() -> None:
    model_name, seed = arguments("Evaluate one trained model on the test pictures.")
    run = run_name(model_name, seed)
    views, parameters, confidence = read_parameters(f"models.{model_name}.views", "robustness", "statistics.confidence")
    dataset = load_summary()["dataset"]
    images, labels = load_split("test")
    validation = read_metrics("val", model_name, seed)
    path = MODELS / f"{run}.keras"
    if not path.exists():
        raise InputError(f"{path} is missing. Type `dvc repro train@{run}`.")

    from stages.evaluation.inference import in_batches, predict  # after the checks: TensorFlow takes seconds
    from stages.training.saving import conditions, load_model

    model = load_model(path)
    predicted = predict(model, images, views)
    probabilities, seconds = predicted.probabilities, predicted.seconds
    metrics = {"dataset": dataset, **scores(probabilities, predicted.plain, labels)}
    metrics |= {name: validation[name] for name in ("epochs", "network")}

    def classify(pictures: np.ndarray) -> np.ndarray:
        return softmax(in_batches(model, pictures)[0].astype(np.float64), axis=1)

    chosen = np.random.default_rng(parameters.seed).permutation(len(images))[: parameters.pictures]
    corrupted = robustness(classify, images[chosen], labels[chosen], parameters.seed, confidence)
    unfamiliar = confidence_in_the_unfamiliar(classify, images[chosen], parameters.seed)
    made_under = {"conditions": [conditions(model)]}  # a list, which `dvc metrics` does not print
    metrics |= made_under
    lasting = {"dataset": dataset, **summary(corrupted, unfamiliar)} | made_under

    save_predictions("test", run, probabilities, predicted.plain, labels)
    write_csv(PER_CLASS / f"{run}.csv", per_class(probabilities, labels))
    write_csv(CONFUSION / f"{run}.csv", confusion(probabilities, labels))
    write_csv(
        TIMING / "evaluate" / f"{run}.csv",
        pd.DataFrame({"view": range(1, len(seconds) + 1), "pictures": len(images), "seconds": seconds}),
    )
    write_csv(ROBUSTNESS / f"{run}.csv", corrupted)
    write_csv(UNFAMILIAR / f"{run}.csv", unfamiliar)
    write_json(METRICS / "test" / f"{run}.json", metrics)
    write_json(METRICS / "robustness" / f"{run}.json", lasting)
    print(
        f"{run}: test accuracy {metrics['accuracy']:.4f}, loss {metrics['loss']:.4f}; accuracy on {len(chosen):,} "
        f"corrupted pictures {lasting['accuracy']:.4f}. {notice(dataset)}"
    )


if __name__ == "__main__":
    main()
