"""Stage `folds`: out-of-fold probabilities of the training and validation images, by cross-validation.

The training and validation images together are split into folds. For each fold, the model `folds.model` trains on the other
folds, for `folds.epochs` epochs and without teachers, and predicts the held-out fold. So no image is predicted by a model
that trained on it. The test set is not read. Writes `data/folds/probabilities.npz` and the model of the first fold, with
which stage `audit` judges the test labels: the same kind of model judges all labels.
"""

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedKFold

from stages import models
from stages.base.files import atomic_write
from stages.base.runs import FOLD_MODEL, FOLDS
from stages.base.splits import load_split, load_summary
from stages.models.block import Block
from stages.parameters.folds import Folds
from stages.parameters.runs import Threads
from stages.parameters.schema import read
from stages.trained import prediction, saving
from stages.trained.backend import start_keras
from stages.training import fit
from stages.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    import keras

WATCHED = 1000  # images of the held-out fold whose accuracy is printed after each epoch; nothing depends on it


def fold_of(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each image, from 0, uint8 (N,). Folds are stratified by class; a class with fewer images makes fewer."""
    folds = min(folds, np.bincount(labels).min())
    fold = np.empty(len(labels), np.uint8)
    split = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels)
    for number, (_, held_out) in enumerate(split):
        fold[held_out] = number
    return fold


def out_of_fold(
    images: np.ndarray,
    labels: np.ndarray,
    fold: np.ndarray,
    architecture: ModuleType,
    block: Block,
    seed: int,
    checkpoint: Checkpoint | None = None,
    class_weights: bool = False,
) -> tuple[np.ndarray, "keras.Model"]:
    """Class probabilities of each image from a model trained on the other folds, from a single view.

    Args:
        images: uint8 (N, H, W, C).
        labels: uint8 (N,), from 0.
        fold: (N,), from `fold_of`.
        architecture: A module of `stages.models`.
        block: Its parameters. `patience` must be None: the held-out fold must not select the epoch.
        seed: The seed of the training.
        checkpoint, class_weights: See `stages.training.fit.train`.

    Returns:
        Probabilities, float32 (N, classes), rows sum to 1; and the model trained without the first fold.
    """
    probabilities, first = None, None
    for number in range(fold.max() + 1):
        held_out = fold == number
        name = f"fold {number + 1} of {fold.max() + 1}"
        print(f"{name}: training on {(~held_out).sum():,} images", flush=True)
        watched = images[held_out][:WATCHED], labels[held_out][:WATCHED]
        split = images[~held_out], labels[~held_out], *watched
        options = {"checkpoint": checkpoint, "name": name, "class_weights": class_weights}
        trained = fit.train(architecture, block, seed, *split, **options)
        found = prediction.classify(trained.model, images[held_out])
        if probabilities is None:
            probabilities, first = np.empty((len(images), found.shape[1]), np.float32), trained.model
        probabilities[held_out] = found
    return probabilities, first


def main(checkpoint: Checkpoint | None = None) -> None:
    """Train and predict; `checkpoint`, if given, keeps what the trainings have reached, and they go on from there."""
    start_keras(read("threads", Threads))
    parameters = read("folds", Folds)
    alone = {"epochs": parameters.epochs, "patience": None, "teachers": []}
    folds_model = parameters.model
    summary = load_summary()
    block = models.read_block(folds_model, summary["mirror"]).model_copy(update=alone)
    images, labels = (np.concatenate(arrays) for arrays in zip(load_split("train"), load_split("val"), strict=True))
    fold = fold_of(labels, parameters.count, parameters.seed)
    architecture = models.load(folds_model)
    given = parameters.seed, checkpoint, summary["class_weights"]
    probabilities, first = out_of_fold(images, labels, fold, architecture, block, *given)
    with atomic_write(FOLDS) as temporary:
        np.savez(temporary, probabilities=probabilities, labels=labels, fold=fold)
    origin = {name: summary[name] for name in ("dataset", "split_sha256")}
    origin |= {"model": folds_model, "seed": parameters.seed, "without_fold": 0, "folds": parameters.count}
    saving.save_model(first, FOLD_MODEL, origin | {"parameters": block.model_dump()})
    accuracy = (probabilities.argmax(axis=1) == labels).mean()
    print(f"{folds_model}: out-of-fold accuracy {accuracy:.4f} on {len(labels):,} images")


if __name__ == "__main__":
    main()
