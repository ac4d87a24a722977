"""What every stage knows of the data: its files, its classes, where the prepared parts lie."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from stages.errors import InputError
from stages.files import read_json

RAW = Path("data/raw")
PREPARED = Path("data/prepared")

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# The publisher's four files by SHA-256. Nothing else is ever taken for Fashion-MNIST.
PUBLISHED = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refuse_unless_published(path: Path, name: str, source: str | None = None) -> None:
    """Raise `InputError`, with both digests, unless the file at `path` (got from `source`) is the publisher's `name`."""
    found, expected = sha256(path), PUBLISHED[name]
    if found == expected:
        return
    twin = {digest: other for other, digest in PUBLISHED.items()}.get(found)
    swapped = f" It is {twin} under another name." if twin else ""
    raise InputError(
        f"{source or path} is not the publisher's {name}: its SHA-256 is {found}, but must be {expected}.{swapped}"
    )


def load_split(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A prepared part, `"train"`, `"val"` or `"test"`: pictures uint8 (N, 28, 28, 1) and labels uint8 (N,)."""
    path = PREPARED / f"{name}.npz"
    if not path.exists():
        raise InputError(f"{path} is missing. Type `dvc repro prepare`.")
    try:
        with np.load(path) as arrays:
            return arrays["images"][..., None], arrays["labels"]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error}). Delete it and type `dvc repro prepare`.") from None


def load_summary() -> dict:
    """What `prepare` says of the data: the data set's name, class names, counts, mean, deviation, digest of the split."""
    path = PREPARED / "summary.json"
    if not path.exists():
        raise InputError(f"{path} is missing. Type `dvc repro prepare`.")
    return read_json(path)


def notice(dataset: str) -> str:
    """A line that says what results on this data are worth: empty for Fashion-MNIST itself."""
    if dataset == "fashion-mnist":
        return ""
    return (
        f"These results are NOT on Fashion-MNIST: the data set is `{dataset}`, pictures that the project draws itself."
    )
