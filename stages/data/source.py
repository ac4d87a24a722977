"""The images of a set as they were read, before they are checked and split."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MAX_NAMED = 5  # files and images that a sentence names
SPLIT_WORDS = {
    "train": "train training",
    "val": "val valid validate validation dev",
    "test": "test testing t10k eval holdout",
}
SPLITS = {
    f"{word}{end}": split for split, words in SPLIT_WORDS.items() for word in words.split() for end in ("", "_set")
}


@dataclass
class Source:
    """Images, and what was noticed when they were read.

    Attributes:
        images: uint8 (N, S, S, C).
        labels: The class of each image, text or integers (N,).
        splits: "train", "val" or "test" of each image, (N,); "train" for all if the data do not say.
        names: What each image is called, (N,).
        groups: The group of each image, (N,): its images stay on one side of a split; None without groups.
        sizes: How many images had which height and width.
        faults: Sentences about what cannot be used. It is not among the images.
        notes: Sentences about what was done with the images.
    """

    images: np.ndarray = None
    labels: np.ndarray = None
    splits: np.ndarray = None
    names: Sequence[str] = ()
    groups: np.ndarray | None = None
    sizes: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fault(self, names: Sequence, what: str, count: int = 0) -> None:
        """Add a fault that these images, files or classes have, if there are any; `count` if `names` are only the first."""
        if len(names):
            self.faults.append(f"{what}: {some(names, count)}")


def some(names: Sequence, count: int = 0) -> str:
    """How many names there are, and the first of them."""
    count = count or len(names)
    more = ", ..." if count > MAX_NAMED else ""
    return f"{count:,} ({', '.join(map(str, names[:MAX_NAMED]))}{more})"


def in_order(name: object) -> tuple:
    """A key that sorts numbers by value, before other names."""
    text = str(name)
    return (0, int(text), text) if text.isascii() and text.isdigit() else (1, 0, text)
