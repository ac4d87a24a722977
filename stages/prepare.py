"""Stage `prepare`: the publisher's files, parsed strictly, as train, validation and test in three separate files.

The 60,000 training pictures are split into train and a validation set with the same number of each class; the test
pictures stay as they are. Pixels stay uint8. Beside them lies `summary.json`: counts, mean and deviation of the training
pixels, and a digest of the split.
"""

import hashlib

import numpy as np

from stages.dataset import CLASS_NAMES, PREPARED, PUBLISHED, RAW, notice, refuse_unless_published
from stages.errors import InputError, front_door
from stages.files import write_json, written_whole
from stages.idx import read_images, read_labels
from stages.parameters import Prepare, read_parameters


def split(labels: np.ndarray, val_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the train and of the validation pictures, each ascending; `val_per_class` of every class are drawn.

    Args:
        labels: (N,), 0-9.
        val_per_class: At least 1, and less than any class has.

    Raises:
        InputError: A class has too few pictures.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for label, name in enumerate(CLASS_NAMES):
        members = np.flatnonzero(labels == label)
        if not 0 < val_per_class < len(members):
            raise InputError(
                f"prepare.val_per_class is {val_per_class}, but class {label} ({name}) has {len(members)} training "
                f"pictures: it must be from 1 to {len(members) - 1}. Change it in params.yaml."
            )
        drawn.append(rng.permutation(members)[:val_per_class])
    val = np.sort(np.concatenate(drawn))
    return np.setdiff1d(np.arange(len(labels)), val), val


def prepare(
    images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray, parameters: Prepare
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict]:
    """The three parts, each pictures uint8 (N, 28, 28) and labels uint8 (N,), and the summary of them.

    Raises:
        InputError: Pictures and labels differ in number, or a class has too few pictures for the split.
    """
    for kind, pictures, named in (("training", images, labels), ("test", test_images, test_labels)):
        if len(pictures) != len(named):
            raise InputError(
                f"there are {len(pictures)} {kind} images, but {len(named)} {kind} labels; there must be as many of one "
                "as of the other. Delete data/raw and type `dvc repro fetch`."
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
        "train_pixel_deviation": round(float(images[train].std()), 6),
        "split_sha256": hashlib.sha256(val.astype("<i8").tobytes()).hexdigest(),
    }
    return parts, summary


@front_door
def main() -> None:
    dataset, parameters = read_parameters("dataset", "prepare")
    train_images, train_labels, test_images, test_labels = (RAW / name for name in PUBLISHED)
    arrays = (
        read_images(train_images), read_labels(train_labels), read_images(test_images), read_labels(test_labels),
    )  # fmt: skip
    if dataset == "fashion-mnist":
        for name in PUBLISHED:
            refuse_unless_published(RAW / name, name)
    parts, summary = prepare(*arrays, parameters)
    for name, (images, labels) in parts.items():
        with written_whole(PREPARED / f"{name}.npz") as beside:
            np.savez(beside, images=images, labels=labels)
    write_json(PREPARED / "summary.json", {"dataset": dataset} | summary)
    print(", ".join(f"{name}: {count} pictures" for name, count in summary["counts"].items()), notice(dataset))


if __name__ == "__main__":
    main()
