"""Use images of your own: `python -m stages.new FOLDER` looks at them, and writes the section `dataset` of params.yaml.

The folder has one folder a class, with or without `train`, `val` and `test` above these, or CSV files with the columns file
and label, or IDX files; or it is an .npz file. Then `make run` trains, compares and reports on these images.
"""

import argparse
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from stages.base.errors import InputError
from stages.base.files import write_text
from stages.base.splits import FASHION_MNIST
from stages.data.checks import COPIES, Checked, check, read_source
from stages.data.publisher import RAW
from stages.data.source import Source, some
from stages.parameters.dataset import Dataset
from stages.parameters.prepare import Prepare
from stages.parameters.schema import PARAMETERS, read
from stages.prepare import split
from stages.runner.entry import entry_point

LARGEST = 64  # pixels, of a size that is chosen for images of mixed or larger sizes: larger ones take longer
UNBALANCED = 2  # times as many images of the most frequent class as of the rarest


def size_of(source: Source) -> int:
    """The size for the images of a set, pixels: their own, or else the median of their longer edges, at most `LARGEST`."""
    edges = np.repeat([max(shape) for shape in source.sizes], list(source.sizes.values()))
    most = 96 if len(source.sizes) == 1 else LARGEST
    return int(np.clip(np.median(edges), 8, most if np.median(edges) <= most else LARGEST))


def section_for(path: str, name: str, size: int | None, groups: str | None) -> tuple[Dataset, Source, Checked]:
    """The section `dataset` for a set of images, what was read of it, and what can be used."""
    dataset = Dataset(
        name=name, path=path, size=size or LARGEST, colors="rgb", mirror=False, class_names=None, groups=groups,
        faulty="drop", duplicates="drop", class_weights=False,
    )  # fmt: skip
    source = read_source(dataset)
    checked = check(source, dataset)
    images = source.images
    found = {
        "size": size or size_of(source),
        "colors": "grey" if all((batch == batch[..., :1]).all() for batch in np.array_split(images, 100)) else "rgb",
        "mirror": not all(len(name) == 1 or name.isdigit() for name in checked.class_names),
        "faulty": "refuse" if all(fault.startswith(COPIES) for fault in source.faults) else "drop",
        "duplicates": "drop" if any(fault.startswith(COPIES) for fault in source.faults) else "refuse",
    }
    return dataset.model_copy(update=found), source, checked


def with_values(text: str, dataset: Dataset) -> str:
    """`params.yaml` with other values in the section `dataset`; the comments stay."""
    start = text.index("dataset:\n")
    end = start + re.search(r"\n(?=\S)", text[start + 9 :]).end() + 9
    section = text[start:end]
    for key, value in dataset.model_dump().items():
        plain = isinstance(value, str) and re.fullmatch(r"[\w./ -]+", value) and yaml.safe_load(value) == value
        written = value if plain else json.dumps(value, ensure_ascii=False)
        pattern = rf'^(  {key}: )("(?:\\.|[^"\\])*"|[^#\n]*?)(\s+#.*)?$'
        section = re.sub(pattern, lambda old, new=written: f"{old[1]}{new}{old[3] or ''}", section, flags=re.MULTILINE)
    return text[:start] + section + text[end:]


def report(dataset: Dataset, source: Source, checked: Checked, parts: dict[str, np.ndarray]) -> list[str]:
    """What was found, and what was decided, in sentences."""
    counts, names = np.bincount(checked.labels), checked.class_names
    sizes = [f"{width}x{height}" for (height, width), _ in source.sizes.most_common()]
    lines = [
        f"{len(checked.labels):,} images, "
        + ", ".join(f"{len(rows):,} for {name}" for name, rows in parts.items())
        + ("" if source.groups is None else f"; {len(set(source.groups)):,} groups"),
        f"{len(names)} classes: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}",
        f"Sizes: {sizes[0] if len(sizes) == 1 else some(sizes)}; used are {dataset.colors} images of "
        f"{dataset.size}x{dataset.size} pixels",
        *source.notes,
        *(f"left out: {fault}" for fault in source.faults),
    ]
    if counts.max() >= UNBALANCED * counts.min():
        lines.append(
            f"{names[counts.argmax()]} has {counts.max():,} images, {names[counts.argmin()]} {counts.min():,}: where rare "
            "classes matter as much, set select.metric to balanced_accuracy and dataset.class_weights to true"
        )
    if dataset.mirror:
        lines.append(
            "Images are mirrored in training: set dataset.mirror to false where left and right are different classes"
        )
    else:
        lines.append(
            "Images are not mirrored, as the classes seem to be digits or letters: else set dataset.mirror to true"
        )
    return lines


def place(given: str) -> str:
    """A path that DVC can watch: within the project relative to it, else absolute; of a CSV file, its folder."""
    path = Path(given).expanduser().resolve()
    path = path.parent if path.suffix.lower() == ".csv" and path.is_file() else path
    if not path.exists():
        raise InputError(f"{given} is not there: name a folder of images, or an .npz file.")
    if Path.cwd().is_relative_to(path):
        raise InputError(f"{given} holds this project: move the images into a folder of their own.")
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


@entry_point
def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.new", description="Use images of your own.")
    parser.add_argument("path", help="a folder of images, or an .npz file")
    parser.add_argument("--name", help="of the data, in all results (default: that of the folder)")
    parser.add_argument("--size", type=int, help="height and width to which images are scaled, 8 to 96")
    parser.add_argument(
        "--groups", help="a CSV's column, or a pattern of file names: images that it makes equal stay together"
    )
    asked = parser.parse_args(given)
    before, path = read("dataset", Dataset), place(asked.path)
    if asked.size is not None and not 8 <= asked.size <= 96:
        raise InputError(f"--size is {asked.size}, but must be from 8 to 96 pixels.")
    name = asked.name or Path(path).stem
    if name == FASHION_MNIST or Path(path) == RAW:
        raise InputError(f"{FASHION_MNIST} is the project's own data: to use it, type `git checkout params.yaml`.")
    dataset, source, checked = section_for(path, name, asked.size, asked.groups)
    groups = None if source.groups is None else source.groups[checked.kept]
    parts = split(checked.labels, source.splits[checked.kept], groups, read("prepare", Prepare))
    write_text(PARAMETERS, with_values(PARAMETERS.read_text(encoding="utf-8"), dataset))
    for line in report(dataset, source, checked, parts):
        print(f"- {line}.")
    print(
        f"\nThe section `dataset` of params.yaml now names {name}. `make run` trains on it, and replaces what data/ and "
        f"reports/\nhold of {before.name}. To get that back: `git restore params.yaml dvc.lock reports && dvc checkout`. To "
        "keep both,\ntype `git switch -c my-images` first, and commit there."
    )


if __name__ == "__main__":
    main()
