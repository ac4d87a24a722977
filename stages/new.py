"""Use images of your own: `python -m stages.new FOLDER` looks at them, and writes the section `dataset` of params.yaml.

The folder has one folder a class, with or without `train`, `val` and `test` above these, or CSV files with the columns file
and label, or IDX files; or it is an .npz file. Then `make run` trains, compares and reports on these images.
"""

import argparse
import io
import os
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from stages.base.errors import InputError
from stages.base.files import write_text
from stages.base.runs import FASHION_MNIST
from stages.data.checks import COPIES, Checked, check, read_source
from stages.data.publisher import RAW
from stages.data.source import Source, some
from stages.parameters.dataset import Dataset
from stages.parameters.prepare import Prepare
from stages.parameters.schema import PARAMETERS, read
from stages.prepare import split
from stages.runner.entry import entry_point

SMALLEST = 8  # pixels, in which images are read to see what they are
LARGEST = 64  # pixels, of a size that is chosen for images of mixed sizes: larger ones take longer
UNBALANCED = 2  # times as many images of the most frequent class as of the rarest


def found_in(source: Source, checked: Checked) -> dict:
    """The values of the section `dataset` that follow from the images, which were read in RGB and without what is wrong."""
    edges = np.repeat([max(shape) for shape in source.sizes], list(source.sizes.values()))
    is_grey = all((batch == batch[..., :1]).all() for batch in np.array_split(source.images, 100))
    of_copies = [fault.startswith(COPIES) for fault in source.faults]
    return {
        "size": int(np.clip(np.median(edges), 8, 96 if len(source.sizes) == 1 and edges[0] <= 96 else LARGEST)),
        "colors": "grey" if is_grey else "rgb",
        "mirror": not all(len(name) == 1 or name.isdigit() for name in checked.class_names),
        "faulty": "refuse" if all(of_copies) else "drop",
        "duplicates": "drop" if any(of_copies) else "refuse",
    }


def with_values(text: str, dataset: Dataset) -> str:
    """`params.yaml` with other values in the section `dataset`; all else stays as it is, also the comments."""
    editor, edited = YAML(), io.StringIO()
    editor.preserve_quotes, editor.width = True, 10**6
    editor.representer.add_representer(
        type(None), lambda own, _: own.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    content = editor.load(text)
    content["dataset"].update(dataset.model_dump())
    editor.dump(content, edited)
    return edited.getvalue()


def told(dataset: Dataset, source: Source, checked: Checked) -> list[str]:
    """What was found, and what was decided, in sentences."""
    counts, names = np.bincount(checked.labels), checked.class_names
    parts = split(source, checked, read("prepare", Prepare))
    sizes = [f"{width}x{height}" for (height, width), _ in source.sizes.most_common()]
    lines = [
        f"{len(checked.labels):,} images: {', '.join(f'{len(rows):,} for {name}' for name, rows in parts.items())}",
        f"{len(names)} classes: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}",
        f"Sizes: {sizes[0] if len(sizes) == 1 else some(sizes)}; used as {dataset.size}x{dataset.size}, {dataset.colors}",
        *source.notes,
        *(f"left out: {fault}" for fault in source.faults),
    ]
    if source.groups is not None:
        lines.append(f"groups: {some(sorted(set(source.groups[checked.kept])))}")
    if counts.max() >= UNBALANCED * counts.min():
        lines.append(
            f"{names[counts.argmax()]} has {counts.max():,} images, {names[counts.argmin()]} {counts.min():,}: where rare "
            "classes matter as much, set select.metric to balanced_accuracy and dataset.class_weights to true"
        )
    advice = (
        "set it to false where left and right are different classes" if dataset.mirror else "as of digits and letters"
    )
    return [*lines, f"dataset.mirror, whether training mirrors images, is {str(dataset.mirror).lower()}: {advice}"]


def place(given: str) -> str:
    """A path that DVC can watch: within the project relative to it, else absolute; of a CSV file, its folder."""
    path = Path(given).expanduser().resolve()
    path = path.parent if path.suffix.lower() == ".csv" and path.is_file() else path
    if not path.exists():
        raise InputError(f"{given} is not there: name a folder of images, or an .npz file.")
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


@entry_point
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.new", description="Use images of your own.")
    parser.add_argument("path", help="a folder of images, or an .npz file")
    parser.add_argument("--name", help="of the data, in all results (default: that of the folder)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="to which images are scaled, 8 to 96")
    parser.add_argument("--groups", help="a CSV's column, or a pattern of names: equal ones stay together")
    asked = parser.parse_args()
    if asked.size is not None and not 8 <= asked.size <= 96:
        raise InputError(f"--size is {asked.size}, but must be a whole number of pixels from 8 to 96.")
    before, path = read("dataset", Dataset), place(asked.path)
    name = asked.name or (Path(path).name if Path(path).is_dir() else Path(path).stem)
    if name == FASHION_MNIST or Path(path) == RAW:
        raise InputError(f"{FASHION_MNIST} is the project's own: type `git checkout params.yaml` to use it.")
    looked_at = {"name": name, "path": path, "groups": asked.groups, "faulty": "drop", "duplicates": "drop"}
    if path != before.path:
        looked_at |= {"class_names": None, "class_weights": False}
    dataset = before.model_copy(update=looked_at | {"size": SMALLEST, "colors": "rgb"})
    for _ in range(2):  # small, for what the sizes and colors are; then as the images will be
        source = read_source(dataset)
        checked = check(source, dataset)
        found = found_in(source, checked)
        found |= {"size": asked.size} if asked.size else {}
        dataset = dataset.model_copy(update=found | {"faulty": "drop", "duplicates": "drop"})
    dataset = dataset.model_copy(update=found)
    lines = told(dataset, source, checked)
    write_text(PARAMETERS, with_values(PARAMETERS.read_text(encoding="utf-8"), dataset))
    print("\n".join(f"- {line}." for line in lines))
    print(
        f"\nThe section `dataset` of params.yaml now names {name}. `make run` trains on it, and replaces what data/ and "
        f"reports/\nhold of {before.name}. To keep both, type `git switch -c my-images` first, and commit there. To go "
        "back:\n`git checkout HEAD -- params.yaml dvc.lock reports && make run`; what was never trained here is trained."
    )


if __name__ == "__main__":
    main()
