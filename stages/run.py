"""`make run`: look at the workspace, then `dvc repro`, then the table of models.

Where a person watches, every stage says its place in the run, the time since the start and how long the rest may take, by
what the stages took before (`reports/timing/stages.csv`). A folder without git is no hindrance: DVC is told to do without.
"""

import getpass
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

import stages
from stages import table
from stages.errors import front_door
from stages.files import write_csv
from stages.parameters import read_parameters
from stages.progress import PLAN
from stages.workspace import is_shallow, refuse_before_training, repository

SECONDS = Path("reports/timing/stages.csv")  # a row a stage: its command, and the seconds that it took last


def environment() -> dict[str, str]:
    """The environment for DVC: this Python first on the path, a shell that reads no file of the user's, a name and a home.

    Python and DVC ask the system for the user's name and home directory, and fail where it knows none.
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


def repro() -> int:
    """`dvc repro`; returns its exit status. Where the user stops it, DVC gets the time to end its stage and its locks."""
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro"], env=environment()) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # DVC and the stage get it, too
                print("\nstopping; the stages that ended are kept. Type `make run` to go on.", flush=True)


def do_without_git(folder: Path) -> bool:
    """Whether DVC has to do without git; tells it so in `.dvc/config.local`, or that it need not any more.

    It has to where there is no repository, or where the one around the project's folder ignores it.
    """
    place = repository(folder)
    without = place is None or (place != folder and ignored_by(place, folder / "dvc.yaml"))
    told = bool(re.search(r"no_scm\s*=\s*true", read(folder / ".dvc" / "config.local"), re.IGNORECASE))
    if without and not told:
        dvc("config", "--local", "--quiet", "core.no_scm", "true")
    if told and not without:
        dvc("config", "--local", "--quiet", "--unset", "core.no_scm")
    return without


def ignored_by(place: Path, path: Path) -> bool:
    """Whether the repository in `place` ignores a file."""
    import pygit2

    return pygit2.Repository(str(place)).path_is_ignored(str(path.relative_to(place)))


def read(path: Path) -> str:
    """A text file; empty where there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def notes(folder: Path) -> list[str]:
    """What a user should know before a run, and need not mend."""
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
    if stages.IGNORED:
        names = ", ".join(stages.IGNORED)
        found.append(f"ignored of your environment, so that no result depends on it: {names}.")
    return found


def planned() -> dict[str, str]:
    """The commands that `dvc repro` would run if every result came out new, in order, with DVC's names of their stages."""
    done = dvc("repro", "--dry", "--force-downstream", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = re.findall(r"^Running stage '(.*)':\n> python -E -m stages\.(.*)$", done.stdout, re.MULTILINE)
    return {command: name for name, command in found}


def expected(command: str, seconds: dict[str, float]) -> float | None:
    """What a command took before, else what the same took with another seed; None where neither is known."""
    alike = [
        value for other, value in seconds.items() if other.partition(" --seed")[0] == command.partition(" --seed")[0]
    ]
    return seconds.get(command, alike[0] if alike else None)


@front_door
def main() -> None:
    read_parameters("models")  # whose faults are told before DVC's
    folder = Path.cwd()
    refuse_before_training(folder)
    for note in notes(folder):
        print(f"note: {note}", flush=True)
    seconds = dict(pd.read_csv(SECONDS).itertuples(index=False)) if SECONDS.exists() else {}
    plan = {"started": time.time(), "stages": {}, "names": {}, "took": {}}
    if sys.stdout.isatty():
        plan["names"] = planned()
        plan["stages"] = {command: expected(command, seconds) for command in plan["names"]}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "plan.json"
        path.write_text(json.dumps(plan), encoding="utf-8")
        os.environ[PLAN] = str(path)
        status = repro()
        took = json.loads(path.read_text(encoding="utf-8"))["took"]
    if took:
        write_csv(SECONDS, pd.DataFrame((seconds | took).items(), columns=["command", "seconds"]))
    if status:
        sys.exit(status)
    print(table.for_terminal())


if __name__ == "__main__":
    main()
