"""Checks of the workspace: conditions that would make DVC or git fail after a training are found before it."""

import errno
import itertools
import json
import os
import re
import time
from pathlib import Path

import psutil
import pygit2

from stages.common.cache import cache_folder, state_folder, works_without_git
from stages.common.errors import InputError
from stages.common.files import read_text, try_to_write

RWLOCK = Path(".dvc/tmp/rwlock")  # of DVC
WRITING = 0.2  # seconds in which DVC has written it
LEFT = re.compile(r"\.[\w-]{22}\.tmp")  # the name under which DVC writes a file
PLACES = ("data", "reports")  # where results are
GIT_WAIT = 3  # seconds to wait for the lock of another git command; an editor's git commands take less than one


def refuse_lost_results(folder: Path) -> None:
    """Raise `InputError` if DVC could not store, or would lose, the results of a stage that runs in `folder`."""
    refuse_links(folder)
    refuse_a_busy_workspace(folder)
    refuse_a_lost_experiment(folder)
    refuse_a_locked_repository(folder)
    refuse_a_foreign_repository(folder)


def prepare_to_record(folder: Path) -> None:
    """Try to write wherever DVC and git write when a stage has ended: DVC's folders, `dvc.lock` and git's folder.

    Raises:
        OSError: One of these places cannot be written.
    """
    if not (folder / ".dvc").is_dir():
        return
    cache, place = cache_folder(folder), repository(folder)
    places, inside = [folder / ".dvc/tmp", cache], ["files", "files/md5", "files/md5/*", "runs", "runs/*"]
    below = [path for pattern in inside for path in cache.glob(pattern)]
    if place and not works_without_git(folder):
        git = git_folder(place)
        shared = git / (read_text(git / "commondir").strip() or ".")  # by the worktrees of a repository
        places += [git, shared / "objects"]
        below += (shared / "objects").glob("??")
    databases = state_folder(folder) / "repo"
    if databases.is_dir():  # else DVC makes it, so that other users may write into it, too
        places.append(databases)
    for path in places:
        try_to_write(path)
    below += [
        path for path in (folder / ".dvc/tmp/lock", folder / ".dvc/tmp/rwlock", folder / "dvc.lock") if path.exists()
    ]
    for path in below:
        if not os.access(path, os.W_OK) and path.exists():  # another DVC may have moved it
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    if not (folder / "dvc.lock").exists():
        try_to_write(folder)


def repository(folder: Path) -> Path | None:
    """The nearest folder, from `folder` upwards, that contains `.git`; None if there is none."""
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)


def own_repository(folder: Path) -> Path | None:
    """The repository that knows the project in `folder`; None if there is none, or if it ignores the project."""
    place = repository(folder)
    if place is None or place == folder:
        return place
    ignored = pygit2.Repository(str(place)).path_is_ignored(str((folder / "dvc.yaml").relative_to(place)))
    return None if ignored else place


def git_folder(place: Path) -> Path:
    """The folder of git's own files for the repository in `place`: `.git`, or the folder that the file `.git` names."""
    git = place / ".git"
    if git.is_dir():
        return git
    pointed = re.match(r"gitdir: (.*)", git.read_text(encoding="utf-8"))
    return (place / pointed[1]).resolve() if pointed else git


def is_shallow(place: Path) -> bool:
    """Whether the repository in `place` lacks its older commits."""
    return (git_folder(place) / "shallow").exists()


def refuse_links(folder: Path) -> None:
    """Refuse symbolic links: DVC does not track files behind them, and fails only when the stage has ended."""
    for path in (folder / "data", folder / "reports", *folder.glob("data/*"), *folder.glob("reports/*/")):
        if path.is_symlink():
            name = path.relative_to(folder)
            raise InputError(
                f"{name} is a symbolic link to {os.readlink(path)}, but DVC does not track files behind links: type "
                f"`rm {name}`. To keep large files on another disk, move DVC's cache there: `dvc cache dir --local "
                "FOLDER`, `dvc config --local cache.type symlink`."
            )


def lock_holders(folder: Path) -> dict[int, str]:
    """The processes that DVC's lock file names, with their commands.

    Raises:
        InputError: The file is damaged.
    """
    path = folder / RWLOCK
    try:
        held = {"read": {}, "write": {}} | (json.loads(read_text(path)) if path.exists() else {})
        readers, writers = held.pop("read").values(), held.pop("write").values()
        if held:
            raise ValueError
        return {holder["pid"]: holder["cmd"] for holder in itertools.chain(writers, *readers)}
    except (ValueError, AttributeError, KeyError, TypeError):
        raise InputError(f"{RWLOCK} is damaged: type `rm {RWLOCK}`.") from None


def refuse_a_busy_workspace(folder: Path) -> None:
    """Refuse a stale entry in DVC's lock file, whose process ID now belongs to another program.

    DVC itself removes entries of processes that no longer exist.
    """
    for number, command in lock_holders(folder).items():
        if psutil.pid_exists(number) and not works(folder, number):
            raise InputError(
                f"{RWLOCK} says that process {number} (`{command}`) works here, but it has ended, and this number may be "
                f"another program's: type `rm {RWLOCK}`, or `python -m stages.check`."
            )


def works(folder: Path, number: int) -> bool:
    """Whether a process that DVC's lock file names still runs.

    It does not if it has ended and its parent has not asked for its status, as in a container whose first process asks for
    none. Another program that started after the lock file was written cannot have written it.
    """
    try:
        process, written = psutil.Process(number), (folder / RWLOCK).stat().st_mtime
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return "dvc" in " ".join(process.cmdline()) or process.create_time() <= written + 1
    except (psutil.Error, ValueError, OSError):
        return False


def remove_stale_locks(folder: Path) -> str:
    """Remove DVC's lock file if no process that it names still runs, or if it is damaged.

    DVC cannot tell the former in all cases. It does not write the file atomically, and fails at a damaged one.

    Returns:
        A sentence that says what was done; empty if nothing had to be.
    """
    if is_damaged(folder):
        time.sleep(WRITING)
        if is_damaged(folder):
            (folder / RWLOCK).unlink(missing_ok=True)
            return f"{RWLOCK} was damaged, as when DVC is killed while it writes the file, and was removed."
    holders = lock_holders(folder)
    if not any(map(psutil.pid_exists, holders)) or any(works(folder, number) for number in holders):
        return ""
    (folder / RWLOCK).unlink(missing_ok=True)
    return f"{RWLOCK} was removed: the processes that it named have ended."


def is_damaged(folder: Path) -> bool:
    """Whether DVC's lock file is damaged, or DVC writes it at this moment."""
    try:
        lock_holders(folder)
    except InputError:
        return True
    return False


def remove_leftovers(folder: Path) -> str:
    """Remove files of DVC that it left among the results when it was killed, if no DVC works in a folder now.

    DVC writes a file under a name such as `.2hBk0dGmXzVqk3l5yY1HSw.tmp` to copy a result, or to see which links a disk has.

    Returns:
        A sentence that says what was done; empty if nothing had to be.
    """
    if any(works(folder, number) for number in lock_holders(folder)):
        return ""
    left = [path for place in PLACES for path in (folder / place).rglob(".*.tmp") if LEFT.fullmatch(path.name)]
    for path in left:
        path.unlink(missing_ok=True)
    return f"{len(left)} partly written files, left by a DVC that was killed, were removed." if left else ""


def main_folder(folder: Path) -> Path:
    """The project's folder; for a copy in which an experiment or a worker runs, the one from which it was started."""
    inside = re.match(r"(.*)/\.dvc/tmp/(?:exps|parallel)/", f"{folder}/")
    return Path(inside[1]) if inside else folder


def refuse_a_lost_experiment(folder: Path) -> None:
    """Refuse experiments in a temporary folder of a shallow clone: DVC loses their results without a message."""
    place = main_folder(folder)
    if "/.dvc/tmp/exps/" in f"{folder}/" and (place / ".git").exists() and is_shallow(place):
        raise InputError(
            f"{place} is a shallow clone, of which DVC loses the results of experiments in the queue: type `git fetch "
            "--unshallow` there, then queue this one again, or run it without --queue and --temp."
        )


def refuse_a_locked_repository(folder: Path) -> None:
    """Refuse a locked git index: DVC adds `dvc.lock` to it after each stage. Waits `GIT_WAIT` seconds for the lock."""
    place = repository(folder)
    lock = place and git_folder(place) / "index.lock"
    until = time.monotonic() + GIT_WAIT
    while lock and lock.exists():
        if time.monotonic() > until:
            raise InputError(
                f"{lock} is there: another git command is running in this repository, or was killed. If none is running, "
                f"type `rm '{lock}'`."
            )
        time.sleep(0.1)


def refuse_a_foreign_repository(folder: Path) -> None:
    """Refuse a repository that belongs to another user: git, and so DVC, does not open it."""
    place = repository(folder)
    if place is None:
        return
    try:
        pygit2.Repository(str(place))
    except pygit2.GitError as error:
        if "owned" not in str(error):
            raise InputError(
                f"git cannot open the repository {place}: {error}. Type `git status` there, which may say more; "
                "`git fsck` finds damage."
            ) from None
        raise InputError(
            f"{place} belongs to another user, and git does not open such a repository: type `git config --global --add "
            f"safe.directory '{place}'`, or `sudo chown -R \"$USER\" '{place}'`."
        ) from None


def commit_of(folder: Path, paths: tuple[str, ...]) -> str:
    """The last commit that changed one of `paths` in a project's folder.

    Later commits, such as that of the results, do not change it. In a shallow clone it may be a later one.

    Returns:
        Its 40 digits, followed by ", with uncommitted changes" if files of `paths` differ from it; "unknown" without git.
    """
    place = repository(folder)
    if place is None:
        return "unknown"
    git = pygit2.Repository(str(place))
    if git.head_is_unborn:
        return "unknown"
    inside = [(folder / path).relative_to(place).as_posix() for path in paths]

    def state(commit: pygit2.Commit) -> list:
        return [commit.tree[path].id if path in commit.tree else None for path in inside]

    last = git.head.peel(pygit2.Commit)
    wanted = state(last)
    while parent := next((parent for parent in known_parents(last) if state(parent) == wanted), None):
        last = parent
    ignorable = pygit2.enums.FileStatus.CURRENT | pygit2.enums.FileStatus.IGNORED
    changed = any(
        status & ~ignorable
        for file, status in git.status(untracked_files="all").items()
        if any(file == path or file.startswith(f"{path}/") for path in inside)
    )
    return f"{last.id}{', with uncommitted changes' if changed else ''}"


def known_parents(commit: pygit2.Commit) -> list[pygit2.Commit]:
    """The parents of a commit that the repository has: a shallow clone lacks some."""
    try:
        return commit.parents
    except KeyError:
        return []
