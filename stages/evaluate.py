"""Stage `evaluate@MODEL-SEED`: evaluate one trained model on the test images. Nothing is fitted or selected here.

Writes the probabilities of all test images, from which later stages compute, the test metrics, the metrics per class, the
confusion counts and the wall time of the prediction. Two further measures use a random sample of the test images:
robustness, the accuracy under ten corruptions at five strengths (`reports/robustness`); and the detection of
out-of-distribution (OOD) inputs, images of none of the classes, by the model's confidence (`reports/ood`).
"""

import numpy as np
import pandas as pd

from stages import models
from stages.base.files import write_csv, write_json
from stages.base.runs import CONFUSION, METRICS, MODELS, OOD, PER_CLASS, ROBUSTNESS, TIMING, arguments, run_name
from stages.base.splits import load_split, load_summary
from stages.parameters.robustness import Robustness
from stages.parameters.runs import Threads
from stages.parameters.schema import read
from stages.parameters.statistics import Confidence
from stages.results.origin import read_origin, refuse_another_run
from stages.results.predictions import save_predictions
from stages.scoring.classes import confusion, per_class
from stages.scoring.scores import scores
from stages.stress.robustness import ood_detection, robustness, summary
from stages.trained import prediction, saving
from stages.trained.backend import start_keras


def main() -> None:
    model_name, seed = arguments("Evaluate one trained model on the test images.")
    run = run_name(model_name, seed)
    start_keras(read("threads", Threads))
    parameters, confidence = read("robustness", Robustness), read("statistics.confidence", Confidence)
    images, labels = load_split("test")
    path = MODELS / f"{run}.keras"
    data = load_summary()
    refuse_another_run(path, run, models.read_block(model_name, data["mirror"]).model_dump(), data["split_sha256"])
    origin = read_origin(path)
    dataset = origin["dataset"]

    model = saving.load_model(path, models.custom_objects(model_name))
    predicted = prediction.predict(model, images, origin["parameters"]["test_time_augmentation"])
    metrics = {"dataset": dataset, **scores(predicted.probabilities, predicted.single_view, labels)}

    def classify(inputs: np.ndarray) -> np.ndarray:
        return prediction.classify(model, inputs)

    chosen = np.random.default_rng(parameters.seed).permutation(len(images))[: parameters.images]
    clean, some = predicted.single_view[chosen], (images[chosen], labels[chosen])
    corrupted = robustness(classify, clean, *some, parameters.seed, confidence)
    ood = ood_detection(classify, clean, images.shape[1:], parameters.seed)
    conditions = {"conditions": [saving.conditions(model)]}  # `dvc metrics` does not print lists
    metrics |= conditions
    lasting = {"dataset": dataset, **summary(corrupted, ood)} | conditions

    save_predictions("test", run, predicted.probabilities, predicted.single_view, labels)
    write_csv(PER_CLASS / f"{run}.csv", per_class(predicted.probabilities, labels, data["class_names"]))
    write_csv(CONFUSION / f"{run}.csv", confusion(predicted.probabilities, labels, data["class_names"]))
    seconds = predicted.seconds
    write_csv(
        TIMING / "evaluate" / f"{run}.csv",
        pd.DataFrame({"view": range(1, len(seconds) + 1), "images": len(images), "seconds": seconds}),
    )
    write_csv(ROBUSTNESS / f"{run}.csv", corrupted)
    write_csv(OOD / f"{run}.csv", ood)
    write_json(METRICS / "test" / f"{run}.json", metrics)
    write_json(METRICS / "robustness" / f"{run}.json", lasting)
    print(
        f"{run}: test accuracy {metrics['accuracy']:.4f}, loss {metrics['loss']:.4f}; accuracy on {len(chosen):,} "
        f"corrupted images {lasting['accuracy']:.4f}."
    )


if __name__ == "__main__":
    main()
