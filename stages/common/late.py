"""Lazy loading: modules that are loaded when something in them is first used.

Loading Keras and TensorFlow takes seconds. Modules that need them are loaded lazily. So all imports can be at the top of a
file, a stage checks its parameters and files without delay, and `stages.common.backend` sets Keras's backend before Keras
is loaded.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from importlib.util import LazyLoader


class LateFinder(MetaPathFinder):
    """Finds modules like Python's own finder, but loads them when they are first used."""

    def __init__(self, prefixes: tuple[str, ...]):
        self.prefixes = prefixes

    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name.startswith(self.prefixes) else None
        if spec and spec.loader:
            spec.loader = LazyLoader(spec.loader)
        return spec


def load_when_used(*prefixes: str) -> None:
    """From now on, load modules whose names begin with one of `prefixes` when one of their attributes is first used.

    `from FOLDER import MODULE` loads lazily. `from FOLDER.MODULE import name` uses the module, and so loads it at once.
    """
    sys.meta_path.insert(0, LateFinder(prefixes))
