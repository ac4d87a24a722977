"""`make run`: check the workspace, run `dvc repro`, print the table of models.

In a terminal, each stage prints its position in the run, the time since the start and an estimate of the remaining time.
The estimate uses the durations of earlier runs (`reports/timing/stages.csv`). Without a git repository, DVC is configured
to run without git.
"""

import getpass
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pygit2

import stages
from stages.common.checkpoint import remove_recorded
from stages.common.entry import entry_point
from stages.common.environment import cores
from stages.common.files import read_text, write_csv
from stages.common.lock_file import is_defined
from stages.common.orphans import RUN
from stages.common.parameters import read_parameters
from stages.common.progress import PLAN
from stages.common.workspace import is_shallow, repository

SECONDS = Path("reports/timing/stages.csv")  # one row per stage: its name, seconds in the last run


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


def stage(name: str, quiet: bool = False) -> None:
    """Run `python -m stages.NAME`, and end if it fails; `quiet` leaves out what it prints to stdout."""
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{name}"], stdout=subprocess.DEVNULL if quiet else None, check=False
    )
    if done.returncode:
        sys.exit(done.returncode)


def repro() -> int:
    """Run `dvc repro`; return its exit status. After Ctrl-C, wait until DVC has ended its stage and released its locks."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro"], env=environment()) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # DVC and the stage get the signal, too
                print("\nstopping; the stages that ended are kept. Type `make run` to go on.", flush=True)


def do_without_git(folder: Path) -> bool:
    """Whether DVC must run without git; sets `core.no_scm` in `.dvc/config.local` accordingly.

    It must if there is no repository, or if the repository around the project's folder ignores the project.
    """
    place = repository(folder)
    without = place is None or (place != folder and ignored_by(place, folder / "dvc.yaml"))
    configured = bool(re.search(r"no_scm\s*=\s*true", read_text(folder / ".dvc" / "config.local"), re.IGNORECASE))
    if without and not configured:
        dvc("config", "--local", "--quiet", "core.no_scm", "true")
    if configured and not without:
        dvc("config", "--local", "--quiet", "--unset", "core.no_scm")
    return without


def ignored_by(place: Path, path: Path) -> bool:
    """Whether the repository in `place` ignores a file."""
    return pygit2.Repository(str(place)).path_is_ignored(str(path.relative_to(place)))


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


def planned() -> list[str]:
    """DVC's names of the stages that `dvc repro` would run if every result changed, in order."""
    done = dvc(
        "repro", "--dry", "--force-downstream", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )
    return re.findall(r"^Running stage '(.*)':$", done.stdout, re.MULTILINE)


def expected(name: str, seconds: dict[str, float]) -> float | None:
    """The last duration of a stage in seconds, or of the same stage with another seed; None if neither is known."""
    alike = [value for other, value in seconds.items() if "@" in name and without_seed(other) == without_seed(name)]
    return seconds.get(name, alike[0] if alike else None)


def without_seed(name: str) -> str:
    """A stage's name without its seed: `train@cnn` for `train@cnn-0`."""
    return name.rpartition("-")[0]


@entry_point
def main() -> None:
    folder = Path.cwd()
    stage("check", quiet=True)  # whose errors are clearer than DVC's
    for note in notes(folder):
        print(f"note: {note}", flush=True)
    seconds = dict(pd.read_csv(SECONDS).itertuples(index=False)) if SECONDS.exists() else {}
    plan = {"started": time.time(), "stages": {}, "took": {}}
    if sys.stdout.isatty():
        plan["stages"] = {name: expected(name, seconds) for name in planned()}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "plan.json"
        path.write_text(json.dumps(plan), encoding="utf-8")
        os.environ |= {PLAN: str(path), RUN: str(os.getpid())}
        status = repro()
        took = json.loads(path.read_text(encoding="utf-8"))["took"]
    if took:
        known = {name: taken for name, taken in (seconds | took).items() if is_defined(name)}
        write_csv(SECONDS, pd.DataFrame(known.items(), columns=["stage", "seconds"]))
    remove_recorded()
    if status:
        sys.exit(status)
    stage("table")


if __name__ == "__main__":
    main()
