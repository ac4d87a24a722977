"""Stage `prepare`: read and check the images, and write train, validation and test.

What the data do not split already is drawn, with the same share of each class. `summary.json` holds what later stages have
to know of the data: their name and classes, the counts, the mean and standard deviation of the training pixels, a digest of
the split, which splits are the data's own, whether images may be mirrored, and whether classes are weighted. `files.csv`
names the file of each image.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from stages.base.errors import InputError
from stages.base.files import write_csv, write_json
from stages.base.runs import FASHION_MNIST
from stages.base.splits import PREPARED, save_split
from stages.data.checks import COPIES, Checked, check, read_source
from stages.data.publisher import CLASS_NAMES, PUBLISHED, RAW, SIZE, refuse_unless_published
from stages.data.source import Source, some
from stages.data.transforms import counts_of_levels
from stages.parameters.dataset import Dataset
from stages.parameters.prepare import Prepare
from stages.parameters.schema import read

LARGEST_VAL_SHARE = 0.2  # of a class's training images


def draw(rows: np.ndarray, labels: np.ndarray, groups: np.ndarray | None, wanted: np.ndarray, seed: int) -> np.ndarray:
    """Draw images of each class; images of a group are drawn together, or not at all.

    Args:
        rows: Numbers of the images to draw from, ascending.
        labels: Of all images, (N,), from 0.
        groups: The group of all images, (N,), or None.
        wanted: How many images of each class to draw, (classes,); about so many where there are groups.
        seed: The seed of the draw.

    Returns:
        The numbers of the drawn images, ascending.
    """
    if groups is not None:
        from sklearn.model_selection import StratifiedGroupKFold  # here: it takes a second, and few data have groups

        if (folds := min(max(2, round(len(rows) / wanted.sum())), len(set(groups[rows])))) < 2:
            return rows  # of a single group: `split` refuses that
        split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(rows, labels[rows], groups[rows])
        return rows[next(split)[1]]
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(rows[labels[rows] == label])[:count] for label, count in enumerate(wanted)]
    return np.sort(np.concatenate(drawn))


def split(source: Source, checked: Checked, parameters: Prepare) -> dict[str, np.ndarray]:
    """The numbers of the images of train, val and test, each ascending. What the data do not split is drawn from train.

    Args:
        source: Its `notes` get a sentence on classes without images in val or test.
        checked: The images that can be used; the numbers are places in `checked.kept`.
        parameters: The section `prepare` of `params.yaml`.

    Raises:
        InputError: With groups, a class would have no training images.
    """
    labels, given = checked.labels, source.splits[checked.kept]
    groups = None if source.groups is None else source.groups[checked.kept]
    parts = {name: np.flatnonzero(given == name) for name in ("train", "val", "test")}
    classes = len(checked.class_names)
    for name in ("test", "val"):
        if not len(parts[name]):
            counts = np.bincount(labels[parts["train"]], minlength=classes)
            if name == "test":
                wanted = np.maximum(1, np.rint(parameters.test_share * counts).astype(int))
            else:
                wanted = np.clip((LARGEST_VAL_SHARE * counts).astype(int), 1, parameters.val_per_class)
            parts[name] = draw(parts["train"], labels, groups, wanted, parameters.seed)
            parts["train"] = np.setdiff1d(parts["train"], parts[name])
    if len(set(labels[parts["train"]])) < classes:
        raise InputError("with these dataset.groups, a class has no training images: choose smaller groups, or none.")
    for name in ("val", "test"):
        if len(absent := np.setdiff1d(range(classes), labels[parts[name]])):
            source.notes.append(f"classes without images in {name}: {some(np.array(checked.class_names)[absent])}")
    return parts


def prepare(
    source: Source, checked: Checked, dataset: Dataset, parameters: Prepare
) -> tuple[dict[str, tuple], dict, pd.DataFrame]:
    """Split the images and summarize the splits.

    Returns:
        The splits by name, each images uint8 (N, S, S, C) and labels uint8 (N,); the content of `summary.json`; and that of
        `files.csv`, one row per image: split, image (its number in the split, from 0) and file.
    """
    numbers = split(source, checked, parameters)
    parts = {name: (source.images[checked.kept[rows]], checked.labels[rows]) for name, rows in numbers.items()}
    digest = hashlib.sha256(numbers["val"].astype("<i8").tobytes())
    if dataset.name != FASHION_MNIST:  # whose images are always the same
        for rows in numbers.values():
            digest.update(checked.digests[rows].tobytes() + checked.labels[rows].tobytes())
    levels, counts = np.arange(256), counts_of_levels(parts["train"][0])
    mean = np.average(levels, weights=counts)
    names = np.asarray(source.names)[checked.kept]
    files = [
        pd.DataFrame({"split": name, "image": range(len(rows)), "file": names[rows]}) for name, rows in numbers.items()
    ]
    summary = {
        "dataset": dataset.name,
        "class_names": checked.class_names,
        "counts": {name: len(labels) for name, (_, labels) in parts.items()},
        "train_pixel_mean": round(float(mean), 6),
        "train_pixel_std": round(float(np.sqrt(np.average((levels - mean) ** 2, weights=counts))), 6),
        "split_sha256": digest.hexdigest(),
        "own_splits": [name for name in ("val", "test") if name in source.splits[checked.kept]],
        "mirror": dataset.mirror,
        "class_weights": dataset.class_weights,
    }
    return parts, summary, pd.concat(files)


def heed(source: Source, dataset: Dataset) -> None:
    """Make notes of the faults that `params.yaml` lets go; raise `InputError` with all others."""
    refused = []
    for fault in source.faults:
        if (policy := dataset.duplicates if fault.startswith(COPIES) else dataset.faulty) == "refuse":
            refused.append(f"{fault}.")
        else:
            source.notes.append(f"{'kept' if policy == 'keep' else 'left out'}: {fault}")
    if refused:
        advice = "Put this right, or leave it out: set dataset.faulty (or, for the same images, duplicates) to drop."
        raise InputError("\n       ".join([f"{dataset.path} cannot be used as it is.", *refused, advice]))


def main() -> None:
    dataset, parameters = read("dataset", Dataset), read("prepare", Prepare)
    if dataset.name == FASHION_MNIST:
        if Path(dataset.path) != RAW:
            raise InputError(
                f"dataset.name is {FASHION_MNIST}, which is {RAW} alone: give {dataset.path} another name."
            )
        if (dataset.size, dataset.colors) != (SIZE, "grey"):
            raise InputError(
                f"dataset.size is {dataset.size} and dataset.colors is {dataset.colors}, but the images of {FASHION_MNIST} "
                f"are {SIZE} pixels and grey. To scale them, also give dataset.name another name."
            )
        for name in PUBLISHED:
            refuse_unless_published(name)
        dataset = dataset.model_copy(update={"class_names": list(CLASS_NAMES)})
    source = read_source(dataset)
    checked = check(source, dataset)
    heed(source, dataset)
    parts, summary, files = prepare(source, checked, dataset, parameters)
    for note in source.notes:
        print(f"note: {note}.", file=sys.stderr)
    for name, arrays in parts.items():
        save_split(name, *arrays)
    write_csv(PREPARED / "files.csv", files)
    write_json(PREPARED / "summary.json", summary)
    print(", ".join(f"{name}: {count} images" for name, count in summary["counts"].items()))


if __name__ == "__main__":
    main()
