"""What DVC or git would stumble over only after a training, found before it, in milliseconds."""

import json
import os
import re
import time
from pathlib import Path

import psutil

from stages.errors import InputError

GIT_WAIT = 3  # seconds for which another git command may hold its lock: an editor's take less than one


def refuse_before_training(folder: Path) -> None:
    """Raise `InputError` where DVC could not keep, or would lose, what a stage that runs in `folder` makes."""
    refuse_links(folder)
    refuse_a_busy_workspace(folder)
    refuse_a_lost_experiment(folder)
    refuse_a_locked_repository(folder)
    refuse_a_foreign_repository(folder)


def repository(folder: Path) -> Path | None:
    """The nearest folder, from `folder` upwards, that holds a `.git`; None where there is none."""
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)


def git_folder(place: Path) -> Path:
    """The folder of git's own files for the repository in `place`: `.git`, or where a file of that name points to."""
    git = place / ".git"
    if git.is_dir():
        return git
    pointed = re.match(r"gitdir: (.*)", git.read_text(encoding="utf-8"))
    return (place / pointed[1]).resolve() if pointed else git


def is_shallow(place: Path) -> bool:
    """Whether the repository in `place` lacks its older commits."""
    return (git_folder(place) / "shallow").exists()


def refuse_links(folder: Path) -> None:
    """DVC tracks nothing behind a symbolic link, and says so when the stage has ended."""
    for path in (folder / "data", folder / "reports", *folder.glob("data/*"), *folder.glob("reports/*/")):
        if path.is_symlink():
            name = path.relative_to(folder)
            raise InputError(
                f"{name} is a symbolic link to {os.readlink(path)}, and DVC tracks nothing behind one: remove it with "
                f"`rm {name}`. To keep the large files on another disk, let DVC's cache lie there: `dvc cache dir --local "
                "FOLDER`, `dvc config --local cache.type symlink`."
            )


def refuse_a_busy_workspace(folder: Path) -> None:
    """DVC's list of who works here names processes. One that began after the list was written only has the number."""
    path = folder / ".dvc" / "tmp" / "rwlock"
    try:
        written = path.stat().st_mtime
        held = json.loads(path.read_text(encoding="utf-8") or "{}").values()
        holders = [holder for lock in held for holder in [*lock.get("read", []), lock.get("write") or None] if holder]
        numbers = {holder["pid"]: holder["cmd"] for holder in holders}
    except OSError:
        return
    except (ValueError, AttributeError, KeyError, TypeError):
        raise InputError(f"{path.relative_to(folder)} is damaged: type `rm {path.relative_to(folder)}`.") from None
    for number, command in numbers.items():
        try:
            later = psutil.Process(number).create_time() > written + 1
        except (psutil.Error, ValueError):
            continue  # gone, which DVC sees
        if later:
            raise InputError(
                f"{path.relative_to(folder)} says that process {number} (`{command}`) works here, but that number is now "
                f"another program's: type `rm {path.relative_to(folder)}`."
            )


def refuse_a_lost_experiment(folder: Path) -> None:
    """In a shallow clone, DVC loses what an experiment in a temporary folder gives, and does not say so."""
    inside = re.match(r"(.*)/\.dvc/tmp/exps/", f"{folder}/")
    if inside and (Path(inside[1]) / ".git").exists() and is_shallow(Path(inside[1])):
        raise InputError(
            f"{inside[1]} is a shallow clone, of which DVC loses the results of experiments in the queue: type `git fetch "
            "--unshallow` there, then queue this one again, or run it without --queue and --temp."
        )


def refuse_a_locked_repository(folder: Path) -> None:
    """DVC adds `dvc.lock` to git's index after each stage, which another command's lock forbids."""
    place = repository(folder)
    lock = place and git_folder(place) / "index.lock"
    until = time.monotonic() + GIT_WAIT
    while lock and lock.exists():
        if time.monotonic() > until:
            raise InputError(
                f"{lock} is there: another git command runs in this repository, or one was killed. If none runs, type "
                f"`rm '{lock}'`."
            )
        time.sleep(0.1)


def refuse_a_foreign_repository(folder: Path) -> None:
    """Git, and DVC with it, opens no repository of another user's."""
    place = repository(folder)
    if place is None:
        return
    import pygit2  # here: it takes a moment, and not every caller needs it

    try:
        pygit2.Repository(str(place))
    except pygit2.GitError as error:
        if "owned" not in str(error):
            raise InputError(f"git cannot open the repository {place}: {error}.") from None
        raise InputError(
            f"{place} belongs to another user, and git opens no repository that does: type `git config --global --add "
            f"safe.directory '{place}'`, or `sudo chown -R \"$USER\" '{place}'`."
        ) from None
