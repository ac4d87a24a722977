"""A checkpoint that interrupts its training, as if the process were killed."""

from pathlib import Path

from stages.common import checkpoint

MADE_WITH = {"seed": "0"}
OWN = {  # the project's models, and changes with which they train shortly
    "cnn": {"epochs": 4, "patience": 1, "learning_rate": 0.02, "batch_size": 40},
    "sprint": {"epochs": 3, "batch_size": 40},
    "resnet": {"epochs": 2, "teachers": [1], "distillation_weight": 0.5, "batch_size": 40},
}


class Killed(Exception):
    """Raised where a process is killed."""


class Interrupted(checkpoint.Checkpoint):
    """A checkpoint that is saved at every chance, goes on from its file, and interrupts after `left` of the chances."""

    def __init__(self, path: Path, left: int):
        super().__init__(path, MADE_WITH, 0)
        self.left = left
        if path.exists():
            self.parts = checkpoint.read(path)[1]

    def put(self, name, arrays):
        super().put(name, arrays)
        self.left -= 1
        if not self.left:
            raise Killed
