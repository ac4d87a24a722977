"""DVC and the other stages as commands, with this environment's Python first on the path."""

import getpass
import os
import subprocess
import sys
from pathlib import Path

from stages.base.errors import InputError
from stages.base.files import write_text
from stages.runner.graph import defined
from stages.runner.progress import COLUMNS, COSTS, read_costs


def environment() -> dict[str, str]:
    """The environment variables for DVC.

    This Python comes first on the path, and the shell reads no startup file of the user. Python and DVC fail if the system
    does not know the user's name or home directory: then both are set.
    """
    kept = {name: value for name, value in os.environ.items() if name not in {"BASH_ENV", "ENV"}}
    first = str(Path(sys.executable).parent)
    if kept.get("PATH", "").split(os.pathsep)[0] != first:
        kept["PATH"] = os.pathsep.join([first, kept.get("PATH", os.defpath)])
    try:
        getpass.getuser()
    except (KeyError, OSError):
        kept["LOGNAME"] = f"user-{os.getuid()}"
    if os.path.expanduser("~") == "~":
        kept["HOME"] = str(Path.cwd() / ".dvc" / "tmp")
    return kept | {"SHELL": "/bin/sh"}


def dvc(*arguments: str, **options: object) -> subprocess.CompletedProcess:
    """Run a command of this environment's DVC."""
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], env=environment(), check=False, **options)


def keep_costs(took: dict[str, str]) -> None:
    """Write what stages took into `COSTS`, where the last run of each other stage is kept."""
    known = read_costs() | {name: cells.split(",") for name, cells in took.items()}
    try:
        names = defined()
    except InputError:  # params.yaml is being edited
        names = set(known)
    rows = [",".join([name, *cells]) for name, cells in known.items() if name in names]
    write_text(COSTS, "\n".join([",".join(COLUMNS), *rows, ""]))
