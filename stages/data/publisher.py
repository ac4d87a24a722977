"""The publisher's four files: names and SHA-256 digests."""

import hashlib
from pathlib import Path

from stages.common.errors import InputError

RAW = Path("data/raw")

# Name and SHA-256 of each file. Files with another digest are never used as Fashion-MNIST.
PUBLISHED = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
LARGEST = 26_421_880  # bytes, of the largest of them


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_unless_published(path: Path, name: str, source: str | None = None) -> None:
    """Raise `InputError` if a file is larger than the publisher's, or its SHA-256 is not that of the publisher's file.

    Args:
        path: The file.
        name: The publisher's name of the file, a key of `PUBLISHED`.
        source: Where the file comes from, for the message; `path` if None.
    """
    if (size := path.stat().st_size) > LARGEST:
        raise InputError(
            f"{source or path} is not the publisher's {name}: it has {size:,} bytes, but the largest of the publisher's "
            f"files has {LARGEST:,}."
        )
    found, expected = sha256(path), PUBLISHED[name]
    if found == expected:
        return
    other = {digest: file for file, digest in PUBLISHED.items()}.get(found)
    swapped = f" It is {other} under another name." if other else ""
    raise InputError(
        f"{source or path} is not the publisher's {name}: its SHA-256 is {found}, but must be {expected}.{swapped}"
    )
