"""Stage `folds`: for every training and validation picture, the probabilities of a model that has not seen it.

Trains the model `audit.model`, without teachers and for `audit.epochs` epochs, once a fold, on all other folds of the
training and validation pictures together, and predicts the fold that was held out. Nothing of the test set is read. Writes
`data/folds/probabilities.npz`, for stage `audit`.
"""

from types import ModuleType

import numpy as np
from sklearn.model_selection import StratifiedKFold

from stages import models
from stages.dataset import load_split, load_summary, notice
from stages.errors import InputError, front_door
from stages.files import written_whole
from stages.parameters import ModelParameters, read_parameters
from stages.runs import FOLDS

WATCHED = 1000  # pictures of the held-out fold whose accuracy is printed after each epoch; it decides nothing


def fold_of(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each picture, from 0, uint8 (N,): every class is spread over all folds as evenly as can be."""
    rarest = np.bincount(labels)[np.unique(labels)].min()
    if rarest < folds:
        raise InputError(f"audit.folds is {folds}, but a class has only {rarest} pictures: set fewer folds.")
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
    block: ModelParameters,
    seed: int,
) -> np.ndarray:
    """Class probabilities of each picture from a model trained on the other folds; of the picture as it is, no other views.

    Args:
        images: uint8 (N, 28, 28, 1); labels uint8 (N,); fold (N,), from `fold_of`.
        architecture: A module of `stages.models`.
        block: Its parameters. `patience` must be null: the held-out fold may not choose the epoch.
        seed: Of the training.

    Returns:
        float32 (N, 10), rows sum to 1.
    """
    from stages.evaluation.inference import predict  # here: it loads TensorFlow, which takes seconds
    from stages.training.fit import train

    probabilities = np.empty((len(images), 10), np.float32)
    for number in range(fold.max() + 1):
        held_out = fold == number
        print(f"fold {number + 1} of {fold.max() + 1}: training on {(~held_out).sum():,} pictures", flush=True)
        watched = images[held_out][:WATCHED], labels[held_out][:WATCHED]
        trained = train(architecture, block, seed, images[~held_out], labels[~held_out], *watched)
        probabilities[held_out] = predict(trained.model, images[held_out], "plain").probabilities
    return probabilities


@front_door
def main() -> None:
    audit_model, epochs, folds, seed = read_parameters("audit.model", "audit.epochs", "audit.folds", "audit.seed")
    alone = {"epochs": epochs, "patience": None, "teachers": []}
    block = read_parameters(f"models.{audit_model}").model_copy(update=alone)
    dataset = load_summary()["dataset"]
    parts = [load_split("train"), load_split("val")]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    fold = fold_of(labels, folds, seed)
    probabilities = out_of_fold(images, labels, fold, models.load(audit_model), block, seed)
    with written_whole(FOLDS) as beside:
        np.savez(beside, probabilities=probabilities, labels=labels, fold=fold)
    accuracy = (probabilities.argmax(axis=1) == labels).mean()
    print(f"{audit_model}: out-of-fold accuracy {accuracy:.4f} on {len(labels):,} pictures. {notice(dataset)}")


if __name__ == "__main__":
    main()
