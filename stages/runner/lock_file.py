"""Repair a damaged `dvc.lock`: DVC does not write it atomically, so a DVC that is killed may leave only a part of it.

DVC compares each entry of `dvc.lock` with what lies in the workspace. So an older entry can never make a result look newer
than it is, and lost entries may be taken from git's last commit or from a copy, which each stage makes at its start.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import zc.lockfile

from stages.base.errors import InputError
from stages.base.files import write_text
from stages.results.git import git
from stages.runner.dvc_files import LOCK, read_lock, read_text
from stages.runner.graph import defined

LOCK_COPY = Path(".dvc/tmp/lock.copy.yaml")
MUTEX = Path(".dvc/tmp/lock")  # which DVC holds while it works, but not while a stage runs
RWLOCK = Path(".dvc/tmp/rwlock")  # in which DVC notes who reads and writes which files
MUTEX_SECONDS = 5  # to wait for another DVC, which writes `dvc.lock` in less
LOCK_HEADER = "schema: '2.0'\nstages:\n"
NO_ENTRIES = "schema: '2.0'\nstages: {}\n"  # DVC refuses an empty file, and `LOCK_HEADER` alone
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def blocks_of(text: str) -> dict[str, str]:
    """The text of each stage's entry in a lock file, in order."""
    parts = re.split(r"(?m)^(?=  \S)", text.partition("stages:\n")[2])
    return {found[1].strip("'\""): part for part in parts if (found := re.match(r"  (\S.*):\n", part))}


def joined(blocks: Iterable[str]) -> str:
    """The text of a lock file with these entries."""
    entries = "".join(blocks)
    return LOCK_HEADER + entries if entries else NO_ENTRIES


def is_whole(block: str) -> bool:
    """Whether a stage's entry is as DVC writes it: valid text and YAML, with a hash for each file."""
    try:
        (entry,) = read_lock(LOCK_HEADER + block).values()
        files = [*entry.get("deps", []), *entry.get("outs", [])]
        hashes = [str(file["md5"]) for file in files if file.get("hash") == "md5"]
        return block.endswith("\n") and "\ufffd" not in block and "cmd" in entry and all(map(MD5.fullmatch, hashes))
    except (ValueError, KeyError, AttributeError, TypeError):
        return False


def keep_copy() -> None:
    """Copy `dvc.lock` if it is whole, together with entries of stages that it has lost and the last copy has."""
    text, copied = read_text(LOCK), read_text(LOCK_COPY)
    blocks = blocks_of(text)
    if text != copied and all(map(is_whole, blocks.values())):
        names = defined()
        lost = {name: block for name, block in blocks_of(copied).items() if name in names and name not in blocks}
        write_text(LOCK_COPY, joined((blocks | lost).values()) if lost else text)


def repair() -> str:
    """Repair `dvc.lock` if it is damaged or lacks entries.

    Returns:
        A sentence that says what was done; empty if nothing had to be.

    Raises:
        InputError: It holds the marks of a merge conflict. Or another DVC works here, and may be writing it.
    """
    text = read_text(LOCK)
    if re.search(r"(?m)^<{7} ", text):
        raise InputError(
            f"{LOCK} holds both sides of a merge. Type `git checkout --ours {LOCK}` (or `--theirs`), then `dvc repro`, "
            "which runs what neither side has."
        )
    if not LOCK.exists() or repaired(text) == text:
        return ""
    with dvc_waits():
        text = read_text(LOCK)
        whole = repaired(text)
        if whole == text:
            return ""
        write_text(LOCK, whole)
    return (
        f"{LOCK} was damaged, or lacked entries, as when DVC is killed while it writes the file. What was lost was taken "
        "from a copy or from git. `dvc status` shows what has to run."
    )


def repaired(text: str) -> str:
    """The text of `dvc.lock` with what it lost; the same text if it is whole."""
    copied, committed = read_text(LOCK_COPY), git("show", f"HEAD:./{LOCK}")
    if text and text in {copied, committed}:
        return text
    names = defined()
    known = {
        name: block
        for name, block in (blocks_of(committed) | blocks_of(copied)).items()
        if is_whole(block) and name in names
    }
    found = {  # an entry that breaks off is the beginning of the known one
        name: block
        for name, block in blocks_of(text).items()
        if is_whole(block) and (block == known.get(name) or not known.get(name, "").startswith(block))
    }
    lost = {name: block for name, block in known.items() if name not in found}
    order = dict.fromkeys([*known, *found]) if lost else found
    return joined((lost | found)[name] for name in order)


@contextmanager
def dvc_waits() -> Iterator[None]:
    """A context in which no DVC reads or writes `dvc.lock`. Raises `InputError` if one works here for long."""
    MUTEX.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + MUTEX_SECONDS
    while True:
        try:
            lock = zc.lockfile.LockFile(str(MUTEX))
            break
        except zc.lockfile.LockError:
            if time.monotonic() > until:
                raise InputError(
                    f"{LOCK} is incomplete, and another command of DVC works here, which may be writing it: type this "
                    "again when that has ended."
                ) from None
            time.sleep(0.1)
    try:
        yield
    finally:
        lock.close()


def remove_stale_rwlock() -> str:
    """Remove DVC's file of readers and writers if it is damaged, or if none of those that it names still runs.

    DVC does not write it atomically, and takes another program that got the number of an ended process for that process.

    Returns:
        A sentence that says what was done; empty if nothing had to be.
    """
    text = read_text(RWLOCK)
    held = holders_of(text)
    if not RWLOCK.exists() or held == set() or any(map(is_dvc, held or ())):
        return ""
    time.sleep(0.2)  # it may have been read while DVC wrote it
    if read_text(RWLOCK) != text:
        return ""
    RWLOCK.unlink(missing_ok=True)
    return f"{RWLOCK} was removed: it was damaged, or the processes that it named have ended."


def holders_of(text: str) -> set[int] | None:
    """The numbers of the processes that DVC's file of readers and writers names; None if it is damaged."""
    try:
        held = json.loads(text)
        listed = [*held.get("write", {}).values(), *(one for many in held.get("read", {}).values() for one in many)]
        return {holder["pid"] for holder in listed}
    except (ValueError, AttributeError, KeyError, TypeError):
        return None


def is_dvc(number: int) -> bool:
    """Whether a process runs, and is DVC or `make run`. One that has ended but was not waited for has no command."""
    try:
        return bool(re.search(r"dvc|stages\.run", " ".join(psutil.Process(number).cmdline())))
    except psutil.Error:
        return False
