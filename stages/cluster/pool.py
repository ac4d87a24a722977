"""Copies of the project on this machine, in which stages run at once."""

import fcntl
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from configobj import ConfigObj
from dvc.repo import Repo

from stages.base.errors import InputError
from stages.cluster import step
from stages.cluster.copies import Outcome, run_in_copy
from stages.runner.dvc_files import cache_folder, read_text
from stages.runner.workspace import git_folder

FOLDER = Path(".dvc/tmp/parallel")  # of the copies; see also `main_folder`
LIST_FILES = ("ls-files", "-z", "--others", "--exclude-standard")
# The history, without old files; and what lets git send it so.
CLONE_HISTORY = ("clone", "--quiet", "--no-checkout", "--no-local", "--filter=blob:none")
ALLOW_FILTER = ("--upload-pack", "git -c uploadpack.allowFilter=true upload-pack")


class Pool:
    """Runs stages in copies of the project as it was when the pool was made: see `copies_here`."""

    def __init__(self, slots: int):
        """A pool for so many stages at once."""
        self.slots, self.ended, self.executor = slots, threading.Event(), ThreadPoolExecutor(slots)
        with Repo() as repo:
            self.archive = pack(repo, str(cache_folder()))

    def submit(
        self,
        name: str,
        values: Sequence[str] = (),
        watch: str = "",
        on_change: Callable[[str], None] = lambda content: None,
    ) -> Future[Outcome]:
        """Run a stage in a new copy, as soon as one of the slots is free; return a future of what became of it.

        Args:
            name: Of the stage.
            values: Of parameters, for this run alone, as for `dvc exp run --set-param`. Then no checkpoint is kept.
            watch: The path of a file that the stage writes again and again.
            on_change: Called in another thread, with that file's content when it has changed. If it raises an error, the
                stage ends, and the future has this error.
        """
        seen: str | None = None

        def look(folder: Path) -> None:
            nonlocal seen
            if self.ended.is_set():
                raise RuntimeError("the command ends")
            before, seen = seen, read_text(folder / watch) if watch else ""
            if before is not None and seen != before and seen.endswith("\n"):  # else a part of it was written
                on_change(seen)

        return self.executor.submit(run_in_copy, self.archive, FOLDER, name, values, {}, look)


@contextmanager
def copies_here(jobs: int) -> Iterator[Pool]:
    """A pool on this machine, for `jobs` stages at once. At the end of the context, what still runs is ended.

    Raises:
        InputError: Another command runs stages in copies of this project.
    """
    with alone():
        pool = Pool(jobs)
        try:
            yield pool
        finally:
            pool.ended.set()
            pool.executor.shutdown(cancel_futures=True)


@contextmanager
def alone() -> Iterator[None]:
    """A context in which no other command runs stages in copies of this project. Raises `InputError` if one does."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FOLDER.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
        except BlockingIOError:
            raise InputError("another command runs stages in copies: type this again when it has ended.") from None
        shutil.rmtree(FOLDER)  # of a command that was killed
        yield


def pack(repo: Repo, cache: str = "") -> tuple[bytes, str]:
    """The project of DVC's `repo`, which is the current folder, as an archive for copies.

    It holds the files that git tracks or would add, as they are, and git's history, in which a stage finds its last commit.
    Without a git repository, it holds the files that `.gitignore` does not name.

    Args:
        repo: DVC's repository.
        cache: The folder of DVC's cache for the copies; empty: one beside each copy.

    Returns:
        A tar archive; and the project's folder in it, which is `.` unless the git repository holds more.
    """
    if shutil.which("git") is None:
        raise InputError("the program git is not installed: type `sudo apt install git`, for example.")
    place = git_folder("show-toplevel")
    inside = Path.cwd().relative_to(place or Path.cwd())
    with tempfile.TemporaryDirectory() as temporary, io.BytesIO() as written:
        own, local = Path(temporary, ".git"), ConfigObj(".dvc/config.local", encoding="utf-8")
        if place:
            names = git(*LIST_FILES, "--cached")
            git(*CLONE_HISTORY, *ALLOW_FILTER, str(place), temporary)
            git("-C", temporary, "reset", "--quiet")  # to the last commit
        else:
            git("init", "--quiet", temporary)
            names = git(f"--git-dir={own}", "--work-tree=.", *LIST_FILES)
        local.merge({"cache": {"dir": cache or os.path.relpath("cache", Path("copy", inside, ".dvc"))}})
        if (name := repo.config["core"].get("remote")) and "://" not in (url := repo.config["remote"][name]["url"]):
            local.merge({f'remote "{name}"': {"url": os.path.abspath(os.path.expanduser(url))}})
        local.filename = f"{temporary}/config.local"
        local.write()
        with tarfile.open(fileobj=written, mode="w", dereference=True) as archive:
            for name in {*names.split("\0"), *inputs_without_a_stage(repo)}:
                if os.path.isfile(name):
                    archive.add(name, inside / name)
            if place:
                archive.add(own, ".git")
            archive.add(local.filename, inside / ".dvc/config.local")
            archive.add(step.__file__, inside / ".dvc/tmp/step.py")
        return written.getvalue(), str(inside)


def git(*arguments: str) -> str:
    """Run git; return what it printed."""
    return subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", check=True).stdout


def inputs_without_a_stage(repo: Repo) -> list[str]:
    """Files that stages read and none makes, such as those of a seed that was taken out: git may not know them."""
    made = [Path(out.fs_path) for out in repo.index.outs]
    read = {dep.fs_path for dep in repo.index.deps if dep.is_in_repo}
    files = [Path(file) for path in read for file in repo.dvcignore.find(repo.fs, path)]
    return [os.path.relpath(file) for file in files if not any(file.is_relative_to(path) for path in made)]
