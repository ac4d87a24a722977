"""Read a set of images, and check what people get wrong: classes and copies."""

from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.base.errors import InputError
from stages.data.arrays import IDX_IMAGES, from_arrays, read_idx_files, read_npz
from stages.data.folders import read_folder
from stages.data.source import MAX_NAMED, Source, in_order, some
from stages.parameters.dataset import Dataset, refuse_misplaced

MAX_CLASSES = 200
COPIES = "the same image "  # how the sentences about copies begin


class Checked(NamedTuple):
    """The images that can be used, and their classes."""

    kept: np.ndarray  # their numbers in the `Source`, (K,)
    labels: np.ndarray  # uint8 (K,), from 0
    class_names: list[str]
    digests: np.ndarray  # uint64 (K,): equal for equal images


def read_source(dataset: Dataset) -> Source:
    """Read the images of a set, and make each of them `size` x `size` pixels, grey or RGB.

    Raises:
        InputError: There are none, or arrays hold something else.
    """
    path = Path(dataset.path)
    refuse_misplaced(dataset)
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    if idx := [file for file in inside if IDX_IMAGES.fullmatch(file.name)]:
        return from_arrays(read_idx_files(idx), dataset)
    if len(npz := [file for file in inside if file.suffix == ".npz" or file.is_dir()]) == 1 and npz[0].is_file():
        parts, unread = read_npz(npz[0])
        source = from_arrays(parts, dataset)
        source.notes += [f"arrays of {npz[0].name} that were not read: {some(unread)}"] if unread else []
        return source
    if not path.is_dir():
        raise InputError(
            f"dataset.path is {path}, but must be an .npz file, or a folder: unpack an archive; of a CSV file, name the "
            "folder that holds it and the images."
        )
    return read_folder(path, dataset)


def check(source: Source, dataset: Dataset) -> Checked:
    """Find the classes and the images that can be used. What cannot is named in `source.faults`."""
    values, codes = np.unique(source.labels, return_inverse=True)
    if values.dtype.kind == "U":
        order = sorted(range(len(values)), key=lambda place: in_order(values[place]))
        values, codes = values[order], np.argsort(order)[codes]
    elif values[0]:
        source.notes.append(f"labels start at {values[0]}: that is the first class, none is missing")
    names = np.array(dataset.class_names or values, str)
    if len(names) != len(values) or len(set(names)) < len(names):
        raise InputError(f"dataset.class_names holds {some(names)}, but must name each of {some(values)} once.")
    digests = np.array([int.from_bytes(blake2b(one, digest_size=8).digest()) for one in source.images], np.uint64)
    kept = np.ones(len(codes), bool)
    kept[copies(source, codes, digests)] = dataset.duplicates == "keep"

    if source.groups is not None:
        splits = pd.Series(source.splits).groupby(source.groups).transform("nunique").to_numpy()
        source.fault(sorted(set(source.groups[splits > 1])), "groups in two of train, val and test")
        kept &= (splits == 1) | (source.splits == "test")

    def counts(split: str) -> np.ndarray:
        """The number of kept images of each class in a split, (classes,)."""
        return np.bincount(codes[kept & (source.splits == split)], minlength=len(names))

    untrained = counts("train") == 0
    source.fault(names[untrained], "classes without training images")
    kept &= ~untrained[codes]
    drawn = [split for split in ("val", "test") if not counts(split).any()]
    least, parts = max(2, 1 + len(drawn)), " and ".join(["train", *drawn])
    few = (counts("train") > 0) & (counts("train") < least)
    source.fault(names[few], f"classes with fewer than {least} images for {parts}")
    kept &= ~few[codes]
    used, labels = np.unique(codes[kept], return_inverse=True)
    if not 2 <= len(used) <= MAX_CLASSES:
        raise InputError(
            f"{dataset.path} has {len(used)} {'class' if len(used) == 1 else 'classes'} that can be used, but 2 to "
            f"{MAX_CLASSES} are needed{': move some elsewhere' if len(used) > MAX_CLASSES else ''}."
            + "".join(f"\n       {fault}." for fault in [*source.faults, *source.notes])
        )
    return Checked(np.flatnonzero(kept), labels.astype(np.uint8), names[used].tolist(), digests[kept])


def copies(source: Source, codes: np.ndarray, digests: np.ndarray) -> pd.Index:
    """The numbers of images that are in two classes, and of all but one of those that are in a class several times.

    Of copies in several splits, that in test stays, or else that in val.

    Args:
        source: Its `faults` and `notes` get a sentence on each kind.
        codes: The class of each image, (N,).
        digests: Of each image, (N,): equal for equal images.
    """
    table = pd.DataFrame({"digest": digests, "code": codes, "split": source.splits})
    table = table[table.duplicated("digest", keep=False)]
    table["rank"] = table["split"].map({"test": 0, "val": 1, "train": 2})
    table = table.sort_values(["digest", "rank"], kind="stable")

    def several(column: str) -> np.ndarray:
        return table.groupby("digest")[column].transform("nunique").to_numpy() > 1

    contrary = several("code")
    across = several("split") & ~contrary
    for chosen, where in ((contrary, "under two classes"), (across, "in two of train, val and test")):
        same = table["digest"][chosen]
        groups = same.unique()
        listed = [" = ".join(source.names[same.index[same == group]]) for group in groups[:MAX_NAMED]]
        source.fault(listed, f"{COPIES}{where}", len(groups))
    later = table.duplicated("digest").to_numpy() & ~contrary
    if within := int((later & ~across).sum()):
        source.notes.append(f"further copies of an image in its class: {within:,}")
    return table.index[contrary | later]
