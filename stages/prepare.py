"""Stage `prepare`: verify and parse the publisher's files, and write train, validation and test into three files.

The 60,000 training images are split into train and a validation set with the same number of images of each class. The test
images stay as they are. Pixels are uint8. `summary.json` holds the counts, the mean and standard deviation of the training
pixels, and a digest of the split.
"""

import hashlib

import numpy as np

from stages.base.errors import InputError
from stages.base.files import atomic_write, write_json
from stages.base.splits import PREPARED
from stages.data.idx import read_images, read_labels
from stages.data.publisher import CLASS_NAMES, PUBLISHED, RAW, refuse_unless_published
from stages.parameters.prepare import Prepare
from stages.parameters.schema import read


def split(labels: np.ndarray, val_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split the publisher's training images; `val_per_class` images of each class are drawn for validation.

    Args:
        labels: (N,), 0-9.
        val_per_class: At least 1, and less than the number of images of any class.
        seed: The seed of the draw.

    Returns:
        Indices of the train and of the validation images, each ascending.

    Raises:
        InputError: A class has too few images.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for label, name in enumerate(CLASS_NAMES):
        members = np.flatnonzero(labels == label)
        if not 0 < val_per_class < len(members):
            raise InputError(
                f"prepare.val_per_class is {val_per_class}, but class {label} ({name}) has {len(members)} training "
                f"images: it must be from 1 to {len(members) - 1}. Change it in params.yaml."
            )
        drawn.append(rng.permutation(members)[:val_per_class])
    val = np.sort(np.concatenate(drawn))
    return np.setdiff1d(np.arange(len(labels)), val), val


def prepare(
    images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray, parameters: Prepare
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict]:
    """Split the images and summarize the splits.

    Args:
        images: The publisher's training images, uint8 (N, 28, 28).
        labels: Their labels, uint8 (N,), 0-9.
        test_images: uint8 (M, 28, 28).
        test_labels: uint8 (M,), 0-9.
        parameters: The section `prepare` of `params.yaml`.

    Returns:
        The splits by name, each images uint8 (N, 28, 28) and labels uint8 (N,); and the content of `summary.json`, without
        `dataset`.

    Raises:
        InputError: Images and labels differ in number, or a class has too few images for the split.
    """
    for kind, part, named in (("training", images, labels), ("test", test_images, test_labels)):
        if len(part) != len(named):
            raise InputError(
                f"there are {len(part)} {kind} images, but {len(named)} {kind} labels; the numbers must be equal."
            )
    train, val = split(labels, parameters.val_per_class, parameters.seed)
    parts = {
        "train": (images[train], labels[train]),
        "val": (images[val], labels[val]),
        "test": (test_images, test_labels),
    }
    summary = {
        "class_names": list(CLASS_NAMES),
        "counts": {name: len(part_labels) for name, (_, part_labels) in parts.items()},
        "train_pixel_mean": round(float(images[train].mean()), 6),
        "train_pixel_std": round(float(images[train].std()), 6),
        "split_sha256": hashlib.sha256(val.astype("<i8").tobytes()).hexdigest(),
    }
    return parts, summary


def main() -> None:
    parameters = read("prepare", Prepare)
    for name in PUBLISHED:
        refuse_unless_published(name)
    train_images, train_labels, test_images, test_labels = (RAW / name for name in PUBLISHED)
    arrays = (
        read_images(train_images), read_labels(train_labels), read_images(test_images), read_labels(test_labels),
    )  # fmt: skip
    parts, summary = prepare(*arrays, parameters)
    for name, (images, labels) in parts.items():
        with atomic_write(PREPARED / f"{name}.npz") as beside:
            np.savez(beside, images=images, labels=labels)
    write_json(PREPARED / "summary.json", {"dataset": "fashion-mnist"} | summary)
    print(", ".join(f"{name}: {count} images" for name, count in summary["counts"].items()))


if __name__ == "__main__":
    main()
