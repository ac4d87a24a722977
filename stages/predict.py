"""Classify photos of clothing with the exported model: `python -m stages.predict shirt.jpg`.

Each photo is converted as Zalando made the data (`stages.inference.photo`) and classified by
`data/exported/model-tta.onnx`.
Printed are the class with the highest probability, the next two, and warnings: if the photo is probably none of the classes
(out-of-distribution), or if its background is not plain. A file that is no photo is named, and the others go on; the exit
status is then 1.
"""

import argparse
import csv
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from stages.common.entry import entry_point
from stages.common.errors import InputError
from stages.common.errors import sentence as error_sentence
from stages.figures import photo as draw
from stages.inference.classifier import EXPORTED, Classifier
from stages.inference.image_file import read_photo
from stages.inference.photo import BACKGROUNDS, convert

STDIN = "-"
FIGURES = Path("data/figures")  # where `--figure` without a folder draws
MOST_BYTES_OF_STDIN = 200_000_000


def files_of(inputs: list[str]) -> list[str]:
    """The files of the command line: those named, and of each folder all files in it, in order, but no hidden ones.

    Linked folders are looked into, too. A folder without files stands for itself: it is told among the results.
    """
    found = []
    for name in inputs:
        inside, visited = [], {Path(name).resolve()}
        for folder, folders, files in os.walk(name, followlinks=True):
            places = {one: (Path(folder) / one).resolve() for one in sorted(folders) if not one.startswith(".")}
            folders[:] = [one for one, place in places.items() if place not in visited]  # links may lead back
            visited |= set(places.values())
            inside += [str(Path(folder) / file) for file in files if not file.startswith(".")]
        found += sorted(inside) or [name]
    return found


def refuse_what_is_no_file(name: str) -> None:
    """Raise `InputError` for an empty folder, an address, and a pattern that the shell did not replace by names."""
    if Path(name).is_dir():
        raise InputError("the folder holds no files.")
    if not Path(name).exists() and "://" in name:
        raise InputError(f"it is an address, but a file is needed: type `curl -LO {name}` first.")
    if not Path(name).exists() and set("*?[") & set(name):
        raise InputError("it is a pattern, but no file has this name: leave out the quotes, or name the folder.")


def results(classifier: Classifier, files: list[str], background: str, figures: Path | None) -> Iterator[dict]:
    """The result of each file: `file`, and the keys of `answer` or `error`, a sentence."""
    dataset, drawn = classifier.metadata["dataset"], set()
    for name in files:
        try:
            content = sys.stdin.buffer.read(MOST_BYTES_OF_STDIN + 1) if name == STDIN else Path(name)
            if name == STDIN and len(content) > MOST_BYTES_OF_STDIN:
                raise InputError(f"it has more than {MOST_BYTES_OF_STDIN:,} bytes.")
            if name != STDIN:
                refuse_what_is_no_file(name)
            converted = convert(read_photo(content), background)
            found = classifier.answer(converted.pixels)
            found["warnings"] = converted.warnings + found["warnings"]
            if figures:
                figure = figures / figure_name(name, drawn)
                drawn.add(figure.name)
                draw.save_conversion(converted.steps, converted.pixels, found, name, dataset, figure)
                found["figure"] = str(figure)
            yield {"file": name, **found}
        except (InputError, OSError) as error:
            yield {"file": name, "error": error_sentence(error)}


def figure_name(file: str, taken: set[str]) -> str:
    """The name of a file's figure: its path with `-` for the separators, such as `my-photos-shirt.jpg.png`.

    It always has one ending more than the file, so that no photo is written over, and a number if it is in `taken`.
    """
    name = "stdin" if file == STDIN else "-".join(part for part in Path(file).parts if part not in ("/", ".."))
    name = name.encode("utf-8", "backslashreplace").decode().replace("\\", "-")  # names that are not UTF-8
    numbers = itertools.count(2)
    found = name
    while f"{found}.png" in taken:
        found = f"{name}-{next(numbers)}"
    return f"{found}.png"


def sentence(result: dict) -> str:
    """A result as text for a person: a line, and one more for each warning."""
    if "error" in result:
        return f"{result['file']}: not classified: {result['error']}"
    following = ", ".join(f"{other['class']} {100 * other['probability']:.1f} %" for other in result["next"])
    lines = [f"{result['file']}: {result['class']} {100 * result['probability']:.1f} % (then {following})"]
    return "\n".join([*lines, *(f"  warning: {warning}" for warning in result["warnings"])])


def row(result: dict) -> dict:
    """A result as a row of CSV."""
    (second, third) = result.get("next", [{}, {}])
    return {
        "file": result["file"],
        "class": result.get("class"),
        "probability": result.get("probability"),
        "second": second.get("class"),
        "second_probability": second.get("probability"),
        "third": third.get("class"),
        "third_probability": third.get("probability"),
        "out_of_distribution": result.get("out_of_distribution"),
        "warnings": "; ".join(result.get("warnings", [])),
        "figure": result.get("figure"),
        "error": result.get("error"),
    }


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict", description="Classify photos of clothing with the exported model."
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="FILE|FOLDER|-",
        help="photos; folders, with those inside but no hidden files; - reads stdin",
    )
    parser.add_argument(
        "--background",
        choices=BACKGROUNDS,
        default="auto",
        help="light: the clothing is darker than its background, dark: brighter (default: found from the border)",
    )
    parser.add_argument(
        "--figure",
        nargs="?",
        const=str(FIGURES),
        metavar="FOLDER",
        help=f"draw each photo, its conversion and the probabilities as PNG in this folder (default: {FIGURES})",
    )
    parser.add_argument(
        "--model", default=str(EXPORTED / "model-tta.onnx"), metavar="FILE", help="default: %(default)s"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON list with all probabilities")
    form.add_argument("--csv", action="store_true", help="print CSV")
    given = parser.parse_args()
    if given.figure and (given.figure == STDIN or Path(given.figure).is_file()):
        given.inputs.insert(0, given.figure)  # `--figure shirt.jpg`: the photo, not a folder
        given.figure = str(FIGURES)
    if given.figure and not given.inputs and Path(given.figure).is_dir():
        given.inputs, given.figure = (
            [given.figure],
            str(FIGURES),
        )  # `--figure photos`: there is nothing else to classify
    if "" in given.inputs:
        parser.error("one of the names is empty: is a variable of the shell unset?")
    if not given.inputs:
        parser.error("name a photo, a folder of photos, or - for stdin")
    return given


@entry_point
def main() -> None:
    given = arguments()
    classifier = Classifier(Path(given.model))
    files = files_of(given.inputs)
    figures = Path(given.figure) if given.figure else None
    found = results(classifier, files, given.background, figures)
    failed = 0
    everything = []
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
        in_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        print(json.dumps(everything, indent=2, ensure_ascii=not in_unicode))
    if figures:
        print(f"figures: {figures}/", file=sys.stderr)
    if failed:
        sys.exit(f"error: {failed} of {len(files)} files could not be classified.")


if __name__ == "__main__":
    main()
