"""Stage `robustness@MODEL-SEED`: one trained model on corrupted and on unfamiliar pictures; nothing here chooses or fits.

A random part of the test pictures is corrupted in ten ways at five strengths (`reports/robustness`). The model's
confidence in them as they were is held against that in pictures that are no clothing (`reports/unfamiliar`). Every
picture is predicted once, without the mirrored and shifted views that `evaluate` may average over.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from stages.dataset import load_split, load_summary, notice
from stages.errors import InputError, front_door
from stages.evaluation.corruptions import KINDS, STRENGTHS, corrupt
from stages.evaluation.uncertainty import wilson
from stages.evaluation.unfamiliar import INPUTS, detection, draw_unfamiliar
from stages.files import write_csv, write_json
from stages.parameters import read_parameters
from stages.runs import METRICS, MODELS, arguments, run_name

ROBUSTNESS = Path("reports/robustness")  # RUN.csv
UNFAMILIAR = Path("reports/unfamiliar")  # RUN.csv

Classifier = Callable[[np.ndarray], np.ndarray]  # from pictures, uint8 (N, 28, 28, 1), to probabilities (N, 10)


def robustness(
    classify: Classifier, images: np.ndarray, labels: np.ndarray, seed: int, confidence: float
) -> pd.DataFrame:
    """A row a corruption and strength, 0 (the pictures as they are) to 5.

    Args:
        images: uint8 (N, 28, 28, 1); labels (N,).
        seed: Of what is random in the corruptions.
        confidence: Of the intervals.

    Returns:
        Columns corruption, strength, pictures, accuracy with its ends accuracy_low and accuracy_high (Wilson), and
        confidence, the mean of the highest probabilities.
    """
    clean = classify(images)
    rows = []
    for kind in KINDS:
        corrupted = np.concatenate([corrupt(images, kind, strength, seed) for strength in STRENGTHS])
        answers = [clean, *np.split(classify(corrupted), len(STRENGTHS))]
        for strength, probabilities in enumerate(answers):
            hits = int((probabilities.argmax(axis=1) == labels).sum())
            share, ends = hits / len(labels), wilson(hits, len(labels), confidence)
            rows.append((kind, strength, len(labels), share, *ends, probabilities.max(axis=1).mean()))
    columns = ["corruption", "strength", "pictures", "accuracy", "accuracy_low", "accuracy_high", "confidence"]
    return pd.DataFrame(rows, columns=columns)


def confidence_in_the_unfamiliar(classify: Classifier, images: np.ndarray, seed: int) -> pd.DataFrame:
    """A row a kind of unfamiliar input, of which there are as many pictures as of `images`, uint8 (N, 28, 28, 1).

    Returns:
        Columns input, pictures, auroc and fpr_at_95 (see `detection`), mean_confidence, the mean of the highest
        probabilities, and clean_confidence, the same of `images`.
    """
    clean = classify(images).max(axis=1)
    rows = []
    for name in INPUTS:
        found = classify(draw_unfamiliar(name, len(images), seed)).max(axis=1)
        means = {"mean_confidence": found.mean(), "clean_confidence": clean.mean()}
        rows.append({"input": name, "pictures": len(found), **detection(clean, found), **means})
    return pd.DataFrame(rows)


def summary(corrupted: pd.DataFrame, unfamiliar: pd.DataFrame) -> dict[str, float]:
    """`mean_accuracy` over all corruptions and strengths but 0; `worst_accuracy`, that of the corruption with the lowest
    mean over its strengths; `mean_auroc` over all unfamiliar input.
    """
    means = corrupted[corrupted["strength"] > 0].groupby("corruption")["accuracy"].mean()
    values = {"mean_accuracy": means.mean(), "worst_accuracy": means.min(), "mean_auroc": unfamiliar["auroc"].mean()}
    return {name: round(float(value), 6) for name, value in values.items()}


@front_door
def main() -> None:
    model_name, seed = arguments("Measure one trained model on corrupted and on unfamiliar pictures.")
    run = run_name(model_name, seed)
    parameters, confidence = read_parameters("robustness", "statistics.confidence")
    dataset = load_summary()["dataset"]
    images, labels = load_split("test")
    path = MODELS / f"{run}.keras"
    if not path.exists():
        raise InputError(f"{path} is missing. Type `dvc repro train@{run}`.")

    from stages.evaluation.inference import in_batches  # after the checks: it loads TensorFlow, which takes seconds
    from stages.training.saving import load_model

    model = load_model(path)

    def classify(pictures: np.ndarray) -> np.ndarray:
        return softmax(in_batches(model, pictures)[0].astype(np.float64), axis=1)

    chosen = np.random.default_rng(parameters.seed).permutation(len(images))[: parameters.pictures]
    corrupted = robustness(classify, images[chosen], labels[chosen], parameters.seed, confidence)
    unfamiliar = confidence_in_the_unfamiliar(classify, images[chosen], parameters.seed)
    metrics = {"dataset": dataset, **summary(corrupted, unfamiliar)}

    write_csv(ROBUSTNESS / f"{run}.csv", corrupted)
    write_csv(UNFAMILIAR / f"{run}.csv", unfamiliar)
    write_json(METRICS / "robustness" / f"{run}.json", metrics)
    print(
        f"{run}: mean accuracy on {len(chosen):,} corrupted pictures {metrics['mean_accuracy']:.4f}, "
        f"mean AUROC of the unfamiliar {metrics['mean_auroc']:.4f}. {notice(dataset)}"
    )


if __name__ == "__main__":
    main()
