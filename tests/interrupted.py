"""A checkpoint that interrupts its training, as if the process were killed."""

from pathlib import Path

from stages.common import checkpoint

MADE_WITH = {"seed": "0"}


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
