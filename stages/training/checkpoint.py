"""What a training asks of the checkpoint that it is handed, whoever keeps it and wherever it lies."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

Arrays = dict[str, np.ndarray]


class Checkpoint(Protocol):
    """Keeps what the trainings of a stage have reached, by their names."""

    def restore(self, name: str) -> Arrays | None:
        """What the training `name` had reached when it was interrupted; None if it begins anew."""

    def keep(self, name: str, state: Callable[[], Arrays], ended: bool = False) -> None:
        """Keep what the training `name` has reached: `state`, which is called if it is time, or the training has ended."""
