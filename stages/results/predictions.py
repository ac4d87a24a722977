"""The probabilities of runs: in `data/predictions`, and those of the folds."""

import numpy as np

from stages.base.errors import Damaged
from stages.base.files import DAMAGED, atomic_write
from stages.base.runs import FOLDS, PREDICTIONS


def save_predictions(
    split: str, run: str, probabilities: np.ndarray, single_view: np.ndarray, labels: np.ndarray
) -> None:
    """Write a run's probabilities, each (N, classes), and labels, (N,), of `"val"` or `"test"`: see `load_predictions`."""
    with atomic_write(PREDICTIONS / split / f"{run}.npz") as beside:
        np.savez(beside, probabilities=probabilities, single_view=single_view, labels=labels)


def load_predictions(split: str, run: str) -> dict[str, np.ndarray]:
    """A run's `probabilities` with test-time augmentation and from a `single_view`, each (N, classes), and `labels` (N,).

    Raises `Damaged` if it is no file of `save_predictions`.
    """
    path = PREDICTIONS / split / f"{run}.npz"
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except DAMAGED as error:
        raise Damaged(path, error) from None


def load_folds() -> dict[str, np.ndarray]:
    """The results of `folds`: `probabilities` float32 (N, classes), `labels` (N,) and `fold` (N,).

    N are the training images, then the validation images. Raises `Damaged` if it is no file of `folds`.
    """
    try:
        with np.load(FOLDS) as arrays:
            return {name: arrays[name] for name in ("probabilities", "labels", "fold")}
    except DAMAGED as error:
        raise Damaged(FOLDS, error) from None
