"""The search for better parameters of a model: what it may try, its trials, and how sure its result is."""

import sys
from importlib.util import find_spec

if find_spec("optuna") is None:
    sys.exit("error: the packages for a search are not installed: type `make installed-parallel`.")
