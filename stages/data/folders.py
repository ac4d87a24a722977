"""Read images that are files: in one folder a class, or named in CSV files."""

import os
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages.base.errors import InputError
from stages.data.image_file import PHOTO_SUFFIXES, files_in, read_photo
from stages.data.resize import fitted
from stages.data.source import SPLITS, Source, in_order, some
from stages.parameters.dataset import Dataset

COLUMNS = {  # of a CSV file, in any case
    "file": ("file", "filename", "file_name", "image", "image_path", "path", "filepath"),
    "label": ("label", "class", "class_name", "category", "target"),
    "split": ("split", "set", "subset"),
}


def read_folder(root: Path, dataset: Dataset) -> Source:
    """The images below a folder. Raises `InputError` if there are none."""
    source = Source()
    tables = sorted(file for file in root.iterdir() if file.suffix.lower() == ".csv" and file.is_file())
    rows = [table for path in tables if (table := rows_of_csv(path, dataset.groups, source)) is not None]
    rows = pd.concat(rows, ignore_index=True) if rows else rows_of_folders(root, dataset.groups, source)
    around = {parent for folder in {Path(file).parent for file in rows["file"]} for parent in (folder, *folder.parents)}
    if links := sorted(str(one) for one in around if (root / one).is_symlink() and one != Path()):
        source.notes.append(f"folders that are links, in which DVC sees no change: {some(links)}")
    size, channels = dataset.size, 3 if dataset.colors == "rgb" else 1
    source.images = np.empty((len(rows), size, size, channels), np.uint8)
    bad, seen = {}, Counter()
    for place, file in enumerate(tqdm(rows["file"], desc="reading", unit=" images", disable=None, leave=False)):
        try:
            photo = read_photo(root / file, seen)
            source.images[place] = fitted(photo, size, channels)
            source.sizes[photo.shape[:2]] += 1
        except InputError as error:
            bad[place] = f"{file}: {str(error).rstrip('.')}"
    source.fault(list(bad.values()), "files that cannot be read as images")
    if len(bad) == len(rows):
        faults = "".join(f"\n       {fault}." for fault in [*source.faults, *source.notes])
        raise InputError(
            f"{root} holds no images that can be read: put them in folders, one for each class, or name each in a CSV file "
            f"with the columns file and label. IDX and .npz files are read, too.{faults}"
        )
    kinds = [seen.pop(kind, 0) for kind in ("grey", "color")]
    if all(kinds):
        source.notes.append(f"grey images: {kinds[0]:,}, in color: {kinds[1]:,}")
    source.notes += [f"images that {what}: {count:,}" for what, count in seen.items() if count]
    if bad:
        source.images, rows = np.delete(source.images, list(bad), axis=0), rows.drop(list(bad))
    source.names, source.labels, source.splits = (rows[key].to_numpy(str) for key in ("file", "label", "split"))
    if dataset.groups:
        source.groups = rows["group"].to_numpy(str)
        source.fault(
            source.names[source.groups == ""], f"files of which dataset.groups, {dataset.groups!r}, finds no group"
        )
    return source


def rows_of_folders(root: Path, groups: str | None, source: Source) -> pd.DataFrame:
    """The images in one folder a class, with folders such as `train` and `test` above these, or without.

    Returns:
        One row per image: file (its path from `root`), label, split, group.
    """
    top = folders_in(root)
    parts = {folder: SPLITS[folder.name.lower()] for folder in top if folder.name.lower() in SPLITS}
    others = [folder for folder in top if folder not in parts]
    if list(parts.values()) == ["train"] and not folders_in(*parts) and sum(map(holds_images, others)) > 1:
        source.notes.append(f"{next(iter(parts)).name} was taken for a class, as the folders beside it")
        parts = {}
    source.fault([folder.name for folder in others if parts], "folders beside train and test")
    rows, no_images, empty, loose, inner = [], Counter(), [], [], set()
    for part, split in (parts or {root: "train"}).items():
        loose += [file.name for file in part.iterdir() if file.suffix.lower() in PHOTO_SUFFIXES]
        for folder in folders_in(part):
            name, found = unicodedata.normalize("NFC", folder.name), len(rows)  # macOS decomposes letters with accents
            for file in files_in(folder):
                if (suffix := file.suffix.lower()) in PHOTO_SUFFIXES:
                    path = str(file.relative_to(root))
                    rows.append((path, name, split, group_of(path, groups)))
                    inner |= {str(file.parent.relative_to(root))} - {str(folder.relative_to(root))}
                else:
                    no_images[suffix or file.name] += 1
            if len(rows) == found:
                empty.append(folder.relative_to(root))
    source.fault(empty, "folders without images, which are no classes")
    source.fault(sorted(loose), "images outside of the folders of classes")
    if inner:
        source.notes.append(f"folders within those of classes, whose images belong to these: {some(sorted(inner))}")
    if no_images:
        source.notes.append(f"files that are no images by their names: {no_images.total():,} ({', '.join(no_images)})")
    return pd.DataFrame(rows, columns=["file", "label", "split", "group"])


def folders_in(path: Path) -> list[Path]:
    """The folders inside a folder, without hidden ones and those of macOS's archives, in order."""
    found = [one for one in path.iterdir() if one.is_dir() and one.name[0] != "." and one.name != "__MACOSX"]
    return sorted(found, key=lambda folder: in_order(folder.name))


def holds_images(path: Path) -> bool:
    """Whether images, by their names, lie in a folder or in one inside it."""
    return any(file.suffix.lower() in PHOTO_SUFFIXES for file in files_in(path))


def rows_of_csv(path: Path, groups: str | None, source: Source) -> pd.DataFrame | None:
    """The images that a CSV file names: see `rows_of_folders`; None if it has no columns of files and labels."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            heading = file.readline()
        separator = max(",;\t|", key=heading.count)
        table = pd.read_csv(path, dtype=str, keep_default_na=False, sep=separator, encoding="utf-8-sig")
    except ValueError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"{path} cannot be read as CSV in UTF-8: {reason}. Save it as that, with the names of the columns in its first "
            "line."
        ) from None
    table.columns = table.columns.str.strip().str.lower()
    named = {key: next((name for name in names if name in table), None) for key, names in COLUMNS.items()}
    if not named["file"] or not named["label"]:
        source.notes.append(f"{path.name} was not read: its columns are {', '.join(table)}, none for file and label")
        return None
    source.notes.append(f"{path.name} was read, with {len(table):,} rows")
    rows = pd.DataFrame({"file": table[named["file"]], "label": table[named["label"]].str.strip()})
    given = (
        table[named["split"]].str.strip().str.lower() if named["split"] else pd.Series(path.stem.lower(), rows.index)
    )
    rows["split"] = given.map(SPLITS).fillna("" if named["split"] else "train")
    column = (groups or "").lower()
    rows["group"] = table[column] if column in table else [group_of(file, groups) for file in rows["file"]]
    root = Path(os.path.abspath(path.parent))
    inside = [Path(os.path.normpath(root / file)) for file in rows["file"]]  # which may be links to images elsewhere
    roots = (root, root.resolve())
    there = np.array([file.is_file() and any(map(file.is_relative_to, roots)) for file in inside], bool)
    source.fault(list(rows["file"][~there]), f"files that {path.name} names, but that are not in its folder")
    source.fault(list(rows["file"][rows["label"] == ""]), "files without a label")
    source.fault(sorted(set(given[rows["split"] == ""])), f"unknown splits in {path.name}")
    return rows[there & (rows["label"] != "") & (rows["split"] != "")]


def group_of(file: str, pattern: str | None) -> str:
    """The part of a file's path that the images of a group share: what the pattern finds, or its group; else nothing."""
    try:
        found = re.search(pattern or "", file)
    except re.error as error:
        raise InputError(
            f"dataset.groups is {pattern!r}, but must be a column or a pattern of names: {error}."
        ) from None
    return (found[0] if found.lastindex is None else found[found.lastindex]) if found else ""
