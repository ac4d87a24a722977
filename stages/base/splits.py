"""The three splits of the data, as written by `prepare`: train, validation and test."""

from pathlib import Path

import numpy as np

from stages.base.errors import Damaged
from stages.base.files import DAMAGED, read_json

PREPARED = Path("data/prepared")


def load_split(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (N, H, W, C), and labels, (N,), from 0, of `"train"`, `"val"` or `"test"`; C is 1 (grey) or 3 (RGB).

    Raises `Damaged` if the file is no file of `prepare`.
    """
    path = PREPARED / f"{name}.npz"
    try:
        with np.load(path) as arrays:
            images = arrays["images"]
            return images if images.ndim == 4 else images[..., None], arrays["labels"]
    except DAMAGED as error:
        raise Damaged(path, error) from None


def load_summary() -> dict:
    """The summary that `prepare` writes: dataset, class_names, counts, train_pixel_mean, train_pixel_std, split_sha256."""
    return read_json(PREPARED / "summary.json")
