"""The data of the page's script: the test images that it shows, and the probabilities of each model for them."""

import base64

import numpy as np
import pandas as pd

from stages.data.transforms import TUNED_SIZE
from stages.figures.style import MAX_CLASSES, most_confused
from stages.page.inline import COLUMNS
from stages.parameters.report import Report
from stages.scoring.scores import confusion_matrix

ByModel = dict[str, dict[str, np.ndarray]]

RIGHT = 120  # images that every model classifies correctly, of all classes, for comparison with the mistakes
RIGHT_PER_CLASS = 12  # of these, at most
MOST_IMAGES = 2400  # of `TUNED_SIZE`, on the page: it stays below about 1.2 MB
PAIRS = 40  # confusions of each model in the list that replaces the matrix of many classes


def galleries(probabilities: np.ndarray, labels: np.ndarray, parameters: Report) -> dict[str, tuple[str, np.ndarray]]:
    """The galleries of a model: a title and the numbers of test images, by name.

    Args:
        probabilities: (N, classes).
        labels: (N,).
        parameters: The number of images per gallery, and the seed that draws them.

    Returns:
        `random`, `right` (correct predictions, drawn at random) and `mistakes` (by confidence, the highest first).
    """
    rng = np.random.default_rng(parameters.seed)
    count = parameters.samples
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right, wrong = np.flatnonzero(predicted == labels), np.flatnonzero(predicted != labels)
    return {
        "random": ("Test images drawn at random", rng.permutation(len(labels))[:count]),
        "right": ("Correct predictions, drawn at random", rng.permutation(right)[:count]),
        "mistakes": ("The most confident mistakes", wrong[np.argsort(-confidence[wrong], kind="stable")][:count]),
    }


def mistaken(predictions: ByModel) -> np.ndarray:
    """Which test images at least one model misclassifies, bool (N,); from the predictions of each model."""
    return np.any([one["probabilities"].argmax(axis=1) != one["labels"] for one in predictions.values()], axis=0)


def shown(predictions: ByModel, chosen: ByModel, seed: int, pixels: int = TUNED_SIZE**2) -> np.ndarray:
    """The test images on the page: those of the galleries, a few per class that all models classify correctly, and all
    that a model misclassifies; if these are too many for the page, some of them, drawn at random.

    Args:
        predictions: For each model, as from `load_predictions`.
        chosen: For each model, the numbers of the images of each gallery.
        seed: Draws the images.
        pixels: Of an image, H times W.

    Returns:
        The numbers of the images, sorted.
    """
    labels, wrong = next(iter(predictions.values()))["labels"], mistaken(predictions)
    classes, rng = np.unique(labels), np.random.default_rng(seed)
    share = min(1, TUNED_SIZE**2 / pixels)
    most = min(RIGHT_PER_CLASS, max(1, int(share * RIGHT / len(classes))))
    good = [rng.permutation(np.flatnonzero(~wrong & (labels == which)))[:most] for which in classes]
    always = np.unique(np.concatenate([*good, *(numbers for named in chosen.values() for numbers in named.values())]))
    room = max(0, int(share * MOST_IMAGES) - len(always))
    others = np.setdiff1d(np.flatnonzero(wrong), always)
    return np.union1d(always, others if len(others) <= room else rng.choice(others, room, replace=False))


def answers(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The classes that the page shows with each image: three, with their probabilities in percent, uint8 (N, 6);
    of two classes, both, (N, 4).

    The three most probable classes, the predicted one first. If the label is none of them, it takes the place of the third.

    Args:
        probabilities: (N, classes).
        labels: (N,).
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :3]
    absent = (order != labels[:, None]).all(axis=1)
    order[absent, -1] = labels[absent]
    percent = np.rint(100 * np.take_along_axis(probabilities, order, axis=1))
    return np.column_stack([order, percent]).astype(np.uint8)


def payload(
    predictions: ByModel,
    images: np.ndarray,
    chosen: ByModel,
    curves: pd.DataFrame,
    low_resolution: dict[str, int],
    order: list[str],
    colours: dict[str, str],
    names: list[str],
) -> dict:
    """The data of the page's script, ready for JSON.

    Args:
        predictions: For each model, as from `load_predictions`.
        images: The numbers of the test images on the sheet, in its order.
        chosen: For each model, the numbers of the images of each gallery.
        curves: `reports/curves.csv`.
        low_resolution: How many epochs of each model, the first ones, show downscaled images.
        order: The models, the selected one first.
        colours: The colour of each model, as in the figures.
        names: Of the classes.
    """
    labels = next(iter(predictions.values()))["labels"]
    chances = {model: predictions[model]["probabilities"] for model in order}

    def packed(values: np.ndarray) -> str:
        return base64.b64encode(values.astype(np.uint8).tobytes()).decode()

    confusions = {model: confusion_matrix(labels, chances[model].argmax(axis=1), len(names)) for model in order}
    many = len(names) > MAX_CLASSES

    def cells(counts: np.ndarray) -> list:  # the matrix; of many classes (actual, predicted, images), the highest first
        return [(*pair, int(counts[pair])) for pair in most_confused(counts, PAIRS)] if many else counts.tolist()

    return {
        "classes": names,
        "models": order,
        "selected": order[0],
        "columns": COLUMNS,
        "ranks": min(3, len(names)),
        "images": images.tolist(),
        "labels": packed(labels[images]),
        "answers": {model: packed(answers(chances[model][images], labels[images])) for model in order},
        "galleries": {
            model: {name: np.searchsorted(images, numbers).tolist() for name, numbers in named.items()}
            for model, named in chosen.items()
        },
        "missing": int(mistaken(predictions).sum() - mistaken(predictions)[images].sum()),
        "many": many,
        "confusion": {model: cells(counts) for model, counts in confusions.items()},
        "correct": {model: int(counts.trace()) for model, counts in confusions.items()},
        "tested": np.bincount(labels, minlength=len(names)).tolist(),
        "curves": [
            {
                "model": str(model),
                "seed": int(seed),
                "colour": colours[model],
                "low_resolution": low_resolution[str(model)],
            }
            | {name: run[name].tolist() for name in ("epoch", "accuracy", "loss", "val_accuracy", "val_loss")}
            for (model, seed), run in curves.groupby(["model", "seed"], sort=False)
        ],
    }
