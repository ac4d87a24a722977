"""The three splits of the data, as written by `prepare`: train, validation and test."""

from pathlib import Path

import numpy as np

from stages.common.cache import remedy
from stages.common.errors import InputError
from stages.common.files import DAMAGED, read_json

PREPARED = Path("data/prepared")

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def load_split(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (N, 28, 28, 1), and labels, uint8 (N,), of `"train"`, `"val"` or `"test"`.

    Raises `InputError` if the file is missing or damaged.
    """
    path = PREPARED / f"{name}.npz"
    if not path.exists():
        raise InputError(f"{path} is missing. Type `dvc repro prepare`.")
    try:
        with np.load(path) as arrays:
            return arrays["images"][..., None], arrays["labels"]
    except DAMAGED as error:
        raise InputError(f"{path} is damaged ({error}). {remedy(path)}") from None


def load_summary() -> dict:
    """The summary that `prepare` writes: dataset, class_names, counts, train_pixel_mean, train_pixel_std, split_sha256.

    Raises `InputError` if the file is missing.
    """
    path = PREPARED / "summary.json"
    if not path.exists():
        raise InputError(f"{path} is missing. Type `dvc repro prepare`.")
    return read_json(path)


def notice(dataset: str) -> str:
    """A sentence that warns that results are not on Fashion-MNIST; empty if they are."""
    if dataset == "fashion-mnist":
        return ""
    return f"These results are NOT on Fashion-MNIST: the data set is `{dataset}`, images that the project draws itself."
