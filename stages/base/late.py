"""Late loading: modules that are loaded when something in them is first used.

Loading Keras and TensorFlow takes seconds. Modules that need them are loaded late. So all imports can be at the top of a
file, a stage checks its parameters and files without delay, and `stages.trained.backend` sets Keras's backend before Keras
is loaded.
"""

import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from types import ModuleType

LOADING = threading.RLock()  # a module is executed by one thread, and others wait for all of it


class LateModule(ModuleType):
    """A module that is loaded when something in it is first used; until then it has only the attributes of any module."""

    def __getattr__(self, name):
        with LOADING:
            if isinstance(self.__spec__.loader, LateLoader):
                self.__spec__.loader = self.__loader__ = self.__spec__.loader.loader
                self.__loader__.exec_module(self)
                self.__class__ = ModuleType
        return ModuleType.__getattribute__(self, name)


class LateLoader(Loader):
    """Makes a `LateModule` of a module, and leaves loading to the module's own loader."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def exec_module(self, module):
        module.__class__ = LateModule


class LateFinder(MetaPathFinder):
    """Finds modules like Python's own finder, but loads some of them late."""

    def __init__(self, prefixes: tuple[str, ...]):
        self.prefixes = prefixes

    def find_spec(self, name, path=None, target=None):
        late = any(name == prefix or (prefix.endswith(".") and name.startswith(prefix)) for prefix in self.prefixes)
        spec = PathFinder.find_spec(name, path, target) if late else None
        if spec and isinstance(spec.loader, SourceFileLoader):  # libraries in C load at once
            spec.loader = LateLoader(spec.loader)
        return spec


def load_when_used(*prefixes: str) -> None:
    """From now on, load modules when one of their attributes is first used.

    Args:
        prefixes: Names of modules; one that ends with a dot stands for all modules inside it.

    `from FOLDER import MODULE` loads late. `from FOLDER.MODULE import name` uses the module, and so loads it at once.
    """
    sys.meta_path.insert(0, LateFinder(prefixes))
