"""Classify photos with the exported model: `python -m stages.predict shirt.jpg`.

Each photo is prepared as the training images were (`stages.inference.photo`) and classified by the file
`data/exported/model-tta.onnx`. Printed are the class with the highest probability, the next two, and warnings: if the photo
is probably none of the classes (out-of-distribution), or if its background is not plain. A file that is no photo is named,
and the others go on; the exit status is then 1.
"""

import argparse
import csv
import json
import os
import shlex
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.base.errors import InputError, printable
from stages.data.image_file import PHOTO_SUFFIXES, files_in, read_photo
from stages.inference.classifier import EXPORTED, Classifier
from stages.inference.photo import BACKGROUNDS, prepared
from stages.runner.dvc_files import digest, refuse_damaged
from stages.runner.entry import entry_point
from stages.runner.entry import sentence as error_sentence

STDIN = "-"


def files_of(inputs: list[str]) -> tuple[list[str], list[str]]:
    """The files of the command line: those named, and of each folder the photos in it, in order, but no hidden ones.

    Linked folders are looked into, too. A folder without photos stands for itself: it is told among the results.

    Returns:
        These files; and those in folders that are left out, because their names are not those of photos.
    """
    found, others = [], []
    for name in inputs:
        inside = list(map(str, files_in(Path(name))))
        photos = [file for file in inside if Path(file).suffix.lower() in PHOTO_SUFFIXES]
        found += sorted(photos) or [name]
        others += set(inside) - set(photos)
    return found, others


def read(name: str) -> np.ndarray:
    """The photo in a file or in stdin, uint8 (H, W, 3); raises `InputError` if there is none."""
    if name == STDIN:
        return read_photo(sys.stdin.buffer.read())
    if Path(name).is_dir():
        raise InputError("the folder holds no photos.")
    if "://" in name:
        raise InputError(f"it is an address, but a file is needed: type `curl -LO {shlex.quote(name)}` first.")
    return read_photo(Path(name))


def result_of(classifier: Classifier, name: str, background: str) -> dict:
    """The result of a file: `file`, and the keys of `answer` or `error`, a sentence."""
    try:
        converted = prepared(read(name), classifier.dataset, classifier.shape, background)
        found = classifier.answer(converted.pixels)
        return {"file": name, **found, "warnings": converted.warnings + found["warnings"]}
    except (InputError, OSError) as error:
        return {"file": name, "error": error_sentence(error)}


def sentence(result: dict) -> str:
    """A result as text for a person: a line, and one more for each warning."""
    name = shown(result["file"])
    if "error" in result:
        return f"{name}: not classified: {printable(result['error'])}"
    following = ", ".join(f"{other['class']} {100 * other['probability']:.1f} %" for other in result["next"])
    lines = [f"{name}: {result['class']} {100 * result['probability']:.1f} % (then {following})"]
    return printable("\n".join([*lines, *(f"  warning: {warning}" for warning in result["warnings"])]))


def shown(file: str) -> str:
    """A file's name on a terminal: in one line, with its control characters escaped."""
    return printable(file).replace("\n", r"\n")


def row(result: dict) -> dict:
    """A result as a row of CSV; without control characters if it is printed on a terminal."""
    second, third = [*result.get("next", []), {}, {}][:2]
    cells = {
        "file": result["file"],
        "class": result.get("class"),
        "probability": result.get("probability"),
        "second": second.get("class"),
        "second_probability": second.get("probability"),
        "third": third.get("class"),
        "third_probability": third.get("probability"),
        "out_of_distribution": result.get("out_of_distribution"),
        "warnings": "; ".join(result.get("warnings", [])),
        "error": result.get("error"),
    }
    return {key: printable(str(cell)) for key, cell in cells.items()} if sys.stdout.isatty() else cells


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict", description="Classify photos with the exported model."
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="FILE|FOLDER|-",
        help="photos; folders, with the photos inside but no hidden ones; - reads stdin",
    )
    parser.add_argument(
        "--background",
        choices=BACKGROUNDS,
        default="auto",
        help="of clothing alone; light: it is darker than its background, dark: brighter (default: found from the border)",
    )
    model = EXPORTED / "model-tta.onnx"
    parser.add_argument("--model", type=Path, default=model, metavar="FILE", help="default: %(default)s")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON list with all probabilities")
    form.add_argument("--csv", action="store_true", help="print CSV")
    given = parser.parse_args()
    if not given.inputs:
        parser.error("name a photo, a folder of photos, or - for stdin")
    return given


@entry_point
def main() -> None:
    given = arguments()
    files, others = files_of(given.inputs)
    if others:
        kinds = printable(", ".join(sorted({Path(file).suffix.lower() or Path(file).name for file in others})))
        print(f"note: left out, since their names are not those of photos: {len(others)} ({kinds}).", file=sys.stderr)
    refuse_damaged({os.path.relpath(given.model): digest(given.model)})
    classifier = Classifier(given.model)
    found = (result_of(classifier, name, given.background) for name in files)
    failed, everything = 0, []
    table = csv.DictWriter(sys.stdout, list(row({"file": ""})), lineterminator="\n")
    if given.csv:
        table.writeheader()
    with tqdm(found, total=len(files), disable=len(files) == 1 or not sys.stderr.isatty(), unit="photo") as progress:
        for result in progress:
            failed += "error" in result
            if given.json:
                everything.append(result)
            elif given.csv:
                table.writerow(row(result))
            else:
                progress.write(sentence(result), file=sys.stderr if "error" in result else sys.stdout)
    if given.json:
        print(json.dumps(everything, indent=2, ensure_ascii=sys.stdout.isatty()))
    if failed:
        sys.exit(f"error: {failed} of {len(files)} files could not be classified.")


if __name__ == "__main__":
    main()
