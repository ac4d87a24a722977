"""What a user is told before a run; none of it is an error."""

import re
from pathlib import Path

import stages
from stages.common.commands import dvc
from stages.common.environment import cores
from stages.common.files import read_text
from stages.common.parameters import read_parameters
from stages.common.workspace import is_shallow, own_repository, repository


def do_without_git(folder: Path) -> bool:
    """Whether DVC must run without git; sets `core.no_scm` in `.dvc/config.local` accordingly.

    It must if there is no repository, or if the repository around the project's folder ignores the project.
    """
    without = own_repository(folder) is None
    configured = bool(re.search(r"no_scm\s*=\s*true", read_text(folder / ".dvc" / "config.local"), re.IGNORECASE))
    if without and not configured:
        dvc("config", "--local", "--quiet", "core.no_scm", "true")
    if configured and not without:
        dvc("config", "--local", "--quiet", "--unset", "core.no_scm")
    return without


def notes(folder: Path) -> list[str]:
    """Notes for the user before a run; none of them is an error."""
    found = []
    if do_without_git(folder):
        found.append(
            "this folder is in no git repository: the pipeline runs, but `dvc metrics diff`, `dvc plots diff` and "
            "experiments need one. Type `git init`, `git add .` and `git commit` to have them."
        )
    place = repository(folder)
    if place and is_shallow(place):
        found.append(
            "this clone is shallow, and `dvc exp run --queue` would lose its results: type `git fetch --unshallow` first."
        )
    threads = read_parameters("threads")
    if threads < cores():
        found.append(
            f"each library computes on {threads} threads, and this machine has {cores()} cores: a higher `threads` in "
            "params.yaml is faster, and changes the last digits of results."
        )
    if stages.IGNORED:
        names = ", ".join(stages.IGNORED)
        found.append(f"these environment variables are ignored, so that results do not depend on them: {names}.")
    return found
