"""Looks for bytes on which a reader of users' files fails: `python -m tests.fuzz idx|photo|parameters --seconds N`.

It is run by hand. Atheris, which no test needs (`pip install atheris`), changes bytes and keeps those that reach new lines
of Python. A reader may return, or raise `InputError`. Any other exception, or more than `MOST_SECONDS` or `MOST_MEGABYTES`,
ends the run, and the bytes are written into the folder `my-fuzzing`. Those that were found are inputs of the tests. A run
that finds none writes how many inputs it tried into `tests/fuzz.csv`.
"""

import argparse
import gzip
import os
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from stages.common.errors import InputError, sentence
from stages.common.files import write_csv

ROOT = Path(__file__).resolve().parents[1]
FOUND = ROOT / "my-fuzzing"
RESULTS = ROOT / "tests" / "fuzz.csv"
MOST_SECONDS, MOST_MEGABYTES = 10, 2048
SCRATCH = Path(tempfile.mkdtemp(prefix="fuzz"))


def idx(content: bytes) -> None:
    """As they are, and as what a gzip file unpacks to."""
    from stages.data.idx import read_images, read_labels

    for packed in (content, gzip.compress(content, 1)):
        path = SCRATCH / "raw.gz"
        path.write_bytes(packed)
        for read, shape in ((read_images, (28, 28)), (read_labels, ())):
            accepted(lambda read=read, path=path: read(path), lambda array, shape=shape: array.shape[1:] == shape)


def photo(content: bytes) -> None:
    """As a file, and what is read as an input of the models."""
    from stages.inference import convert, read_photo

    pixels = accepted(lambda: read_photo(content), lambda array: array.dtype == np.uint8 and max(array.shape) < 560)
    if pixels is not None:
        accepted(lambda: convert(pixels), lambda converted: converted.pixels.shape == (28, 28, 1))


def parameters(content: bytes) -> None:
    """As `params.yaml`."""
    from stages import models

    path = SCRATCH / "params.yaml"
    path.write_bytes(content)
    accepted(lambda: models.read_all(path), lambda found: "seeds" in dict(found[0]))


def accepted(read, holds):
    """What `read()` returns, checked by `holds`; None if it raises `InputError`. Fails if it takes long, or says much."""
    started, found, said = time.monotonic(), None, ""
    try:
        found = read()
    except InputError as error:
        said = sentence(error)
    assert time.monotonic() - started < MOST_SECONDS, "too slow"
    assert len(said) < 20_000, "a long message"
    assert said or holds(found), "not what was promised"
    return found


def examples(name: str) -> list[bytes]:
    """Valid files to begin with."""
    if name == "idx":
        images = struct.pack(">4I", 2051, 2, 28, 28) + bytes(range(196)) * 8
        return [images, struct.pack(">2I", 2049, 3) + b"\0\1\2", gzip.compress(images), gzip.compress(images) + b"\0"]
    if name == "photo":
        from tests.test_photo import FORMATS, shirt

        small = shirt(size=(210, 250)).resize((42, 50))
        return [write(small) for write in FORMATS.values()]
    return [(ROOT / "params.yaml").read_bytes(), b"a: &a [1, !!int x]\nb: {<<: *a}\n"]


def keep(name: str, seconds: int, inputs: int) -> None:
    """Write what a run did into `RESULTS`, in the place of an earlier run of this reader."""
    rows = pd.read_csv(RESULTS).to_dict("records") if RESULTS.exists() else []
    rows = [row for row in rows if row["reader"] != name] + [{"reader": name, "seconds": seconds, "inputs": inputs}]
    write_csv(RESULTS, pd.DataFrame(rows).sort_values("reader"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["idx", "photo", "parameters"])
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit("error: the package atheris is missing: type `pip install atheris` (Linux, Python 3.11 to 3.13).")
    modules = {
        "idx": ["stages.data"],
        "photo": ["stages.inference", "PIL"],
        "parameters": ["stages.models", "stages.common.parameters", "ruamel"],
    }
    seeds, target = FOUND / arguments.target, globals()[arguments.target]
    seeds.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=modules[arguments.target], enable_loader_override=False):
        for place, content in enumerate(examples(arguments.target)):
            (seeds / f"example{place}").write_bytes(content)
            target(content)  # imports what it needs
    options = (
        f"-timeout={MOST_SECONDS}", f"-rss_limit_mb={MOST_MEGABYTES}",
        "-max_len=20000", f"-artifact_prefix={FOUND}/{arguments.target}-",
    )  # fmt: skip
    until, inputs = time.monotonic() + arguments.seconds, 0

    def counted(content: bytes) -> None:
        nonlocal inputs
        target(content)
        inputs += 1
        if time.monotonic() > until:
            keep(arguments.target, arguments.seconds, inputs)
            os._exit(0)

    atheris.Setup([sys.argv[0], *options, str(seeds)], counted)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
