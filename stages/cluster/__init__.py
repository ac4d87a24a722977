"""Workers that run stages in copies of the project, on one machine or on several, and so fill DVC's cache."""

import sys
from importlib.util import find_spec

if find_spec("distributed") is None:
    sys.exit("error: the packages for several stages at once are not installed: type `make installed-parallel`.")
