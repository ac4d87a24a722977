"""The three splits of the data, as written by `prepare`: train, validation and test."""

from pathlib import Path

import numpy as np

from stages.base.errors import Damaged
from stages.base.files import DAMAGED, read_json

PREPARED = Path("data/prepared")

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def load_split(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (N, 28, 28, 1), and labels, uint8 (N,), of `"train"`, `"val"` or `"test"`.

    Raises `Damaged` if the file is no file of `prepare`.
    """
    path = PREPARED / f"{name}.npz"
    try:
        with np.load(path) as arrays:
            return arrays["images"][..., None], arrays["labels"]
    except DAMAGED as error:
        raise Damaged(path, error) from None


def load_summary() -> dict:
    """The summary that `prepare` writes: dataset, class_names, counts, train_pixel_mean, train_pixel_std, split_sha256."""
    return read_json(PREPARED / "summary.json")
