"""What a user is told before a run, and what is repaired; none of it is an error."""

import re
from pathlib import Path

import stages
from stages.base.environment import cores, versions
from stages.parameters.runs import Threads
from stages.parameters.schema import read
from stages.runner import lock_file
from stages.runner.commands import dvc
from stages.runner.dvc_files import read_text, setting
from stages.runner.workspace import git_folder

# Source: Terraform's documentation, "Environment variables".
TERRAFORM = re.compile(
    r"TF_(ACC|CLI|DATA_DIR|IGNORE|IN|INPUT|LOG|PLUGIN|REATTACH|REGISTRY|STATE|TOKEN|VAR|WORKSPACE)(_|$)"
)


def do_without_git() -> bool:
    """Whether DVC must run without git; sets `core.no_scm` in `.dvc/config.local` accordingly.

    It must if there is no repository, or if the repository around the project's folder ignores the project.
    """
    without, (value, _) = git_folder() is None, setting("core", "no_scm")
    if without != (value.lower() == "true"):
        dvc("config", "--local", "--quiet", "core.no_scm", str(without).lower())
    return without


def show_notes() -> None:
    """Repair what a killed DVC left, and print what the user should know before a run."""
    for note in [lock_file.remove_stale_rwlock(), lock_file.repair(), *notes()]:
        if note:
            print(f"note: {note}", flush=True)


def notes() -> list[str]:
    """What the user should know before a run, as sentences."""
    found = []
    if do_without_git():
        found.append(
            "this folder is in no git repository: the pipeline runs, but `dvc metrics diff`, `dvc plots diff` and "
            "experiments need one. Type `git init`, `git add .` and `git commit` to have them."
        )
    threads = read("threads", Threads)
    if threads < cores():
        found.append(
            f"each library computes on {threads} threads, and this machine has {cores()} cores: a higher `threads` in "
            "params.yaml is faster, and changes the last digits of results."
        )
    if others := other_versions():
        found.append(f"results may differ in their last digits from those of the pinned versions: {', '.join(others)}.")
    if names := ", ".join(name for name in stages.IGNORED if not TERRAFORM.match(name)):
        found.append(f"these environment variables are ignored, so that results do not depend on them: {names}.")
    return found


def other_versions() -> list[str]:
    """The packages whose installed version is not the pinned one, which follows in brackets: `numpy 2.3.1 (2.4.6)`."""
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", read_text(Path("requirements.txt")), re.MULTILINE))
    return [
        f"{name} {found} ({pinned[name]})" for name, found in versions().items() if pinned.get(name, found) != found
    ]
