"""Looks at the workspace before a stage runs, for what would make DVC or git fail after it, when a training is lost."""

import errno
import os
import re
import shutil
import tempfile
import time
import uuid
from pathlib import Path

from stages.base.errors import InputError
from stages.results.git import git
from stages.runner.dvc_files import cache_folder, state_folder
from stages.runner.graph import Stage

GIT_WAIT_SECONDS = 3  # for the lock of another git command; an editor's git commands take less than one


def main_folder() -> Path:
    """The project's folder; for a copy in which an experiment or a worker runs, the one from which it was started."""
    inside = re.match(r"(.*)/\.dvc/tmp/(?:exps|parallel)/", f"{Path.cwd()}/")
    return Path(inside[1]) if inside else Path.cwd()


def git_folder(which: str = "absolute-git-dir") -> Path | None:
    """The folder of git's own files for this workspace; None without a repository, or if that ignores the project.

    With `which` "show-toplevel", the folder of the repository.
    """
    found = git("rev-parse", f"--{which}").strip()
    return Path(found) if found and not git("check-ignore", "dvc.yaml") else None


def refuse_lost_results() -> None:
    """Raise `InputError` if DVC could not store the results of a stage.

    DVC does not track files behind symbolic links. It adds `dvc.lock` to git's index, which another command may lock, and
    cannot read one in two files.
    """
    for path in (Path("data"), Path("reports"), *Path().glob("data/*"), *Path().glob("reports/*/")):
        if path.is_symlink():
            raise InputError(
                f"{path} is a symbolic link to {os.readlink(path)}, but DVC does not track files behind links: type "
                f"`rm {path}`. To keep large files on another disk, move DVC's cache there: `dvc cache dir --local "
                "FOLDER`, `dvc config --local cache.type symlink`."
            )
    if git("rev-parse", "--shared-index-path"):
        raise InputError("git's index is split, and DVC cannot read it: type `git update-index --no-split-index`.")
    folder = git_folder()
    lock = folder / "index.lock" if folder else Path(".dvc/no-lock")
    until = time.monotonic() + GIT_WAIT_SECONDS
    while lock.exists():
        if time.monotonic() > until:
            raise InputError(
                f"{lock} is there: another git command is running in this repository, or was killed. If none is running, "
                f"type `rm '{lock}'`."
            )
        time.sleep(0.1)


def prepare_to_write(stage: Stage) -> None:
    """Remove partly written results that a killed process left; try to write wherever the stage, DVC and git will write.

    Raises:
        OSError: A folder cannot be written, or a folder lies where a result belongs.
    """
    for path in stage.results:
        for left in path.parent.glob(f".{path.stem}.part*{path.suffix}"):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    cache = cache_folder()
    places = [path.parent for path in stage.results]
    places += [Path(tempfile.gettempdir()), Path(".dvc/tmp"), cache / "files/md5", cache / "runs"]
    places += [place for place in (state_folder() / "repo", git_folder()) if place and place.is_dir()]
    for place in dict.fromkeys(places):
        try_to_write(place)
    if Path("dvc.lock").exists() and not os.access("dvc.lock", os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "dvc.lock")


def try_to_write(folder: Path) -> None:
    """Write a file into a folder, which is made if missing, and remove it. Raises `OSError`, which names the folder."""
    probe = folder / f".probe.part{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(bytes(2**18))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
