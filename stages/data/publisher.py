"""Fashion-MNIST: its classes, the report's words about it, and the publisher's four files with their SHA-256 digests."""

import hashlib
from pathlib import Path

from stages.base.errors import Damaged

RAW = Path("data/fashion-mnist")
SIZE = 28  # pixels, the height and width of an image

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

DESCRIPTION = {
    "title": "Fashion-MNIST",
    "of_what": "clothing",
    "example_class": "Coat",  # of the image whose corruptions are shown
    "input_note": "light clothing on black",
    "pixels": "bright clothing on a dark background",  # in the metadata of exported files
    "validation": "drawn from the publisher's training images, the same number per class",
    "limitations": (
        "The model has seen small, centred, grey catalogue images of one shop.",
        "The class names are those of one shop before 2017.",
    ),
    "citation": (
        "Fashion-MNIST: Xiao, Rasul and Vollgraf, “Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning "
        "Algorithms” (2017), MIT licence, Zalando SE."
    ),
}

# Name and SHA-256 of each file. Files with another digest are never used as Fashion-MNIST.
PUBLISHED = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


def refuse_unless_published(name: str) -> None:
    """Raise `Damaged` if the SHA-256 of a file in `RAW` is not that of the publisher's file, whatever it holds.

    Args:
        name: A key of `PUBLISHED`.
    """
    found = hashlib.sha256((RAW / name).read_bytes()).hexdigest()
    if found != PUBLISHED[name]:
        other = {digest: file for file, digest in PUBLISHED.items()}.get(found)
        swapped = f", it is {other} under another name" if other else ""
        expected = f"that of the publisher's file is {PUBLISHED[name]}"
        raise Damaged(RAW / name, f"its SHA-256 is {found}, but {expected}{swapped}")
