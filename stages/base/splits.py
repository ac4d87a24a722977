"""The three splits of the data, as written by `prepare`: train, validation and test."""

from pathlib import Path

import numpy as np

from stages.base.errors import Damaged
from stages.base.files import DAMAGED, atomic_write, read_json

PREPARED = Path("data/prepared")


def save_split(name: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images, uint8 (N, H, W, C), and labels, uint8 (N,), as records that can be mapped into memory."""
    records = np.empty(len(labels), [("image", np.uint8, images.shape[1:]), ("label", np.uint8)])
    records["image"], records["label"] = images, labels
    with atomic_write(PREPARED / f"{name}.npy") as beside:
        np.save(beside, records)


def load_split(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (N, H, W, C), and labels, (N,), from 0, of `"train"`, `"val"` or `"test"`; C is 1 (grey) or 3 (RGB).

    Only what is used of the images is read into memory. Raises `Damaged` if the file is no file of `prepare`.
    """
    path = PREPARED / f"{name}.npy"
    try:
        records = np.load(path, mmap_mode="r")
        return np.asarray(records["image"]), np.array(records["label"])
    except (*DAMAGED, IndexError) as error:
        raise Damaged(path, error) from None


def sampled(count: int, most: int, seed: int) -> np.ndarray:
    """The numbers, ascending, of `count` images, or of `most` of them that are drawn at random if there are more."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def load_summary() -> dict:
    """The summary that `prepare` writes: see its docstring. With `mirror`, an image's mirror image has the same class."""
    return read_json(PREPARED / "summary.json")
