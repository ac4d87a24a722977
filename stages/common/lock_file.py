"""Repair a damaged `dvc.lock`: DVC does not write it atomically, so a DVC that is killed may leave only a part of it.

DVC compares each entry of `dvc.lock` with what lies in the workspace. So an older entry can never make a result look newer
than it is, and missing entries may be taken from git's last commit or from a copy, which each stage makes at its start.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pygit2
import zc.lockfile
from dvc import schema
from ruamel.yaml import YAML, YAMLError
from voluptuous import Invalid

from stages.common.cache import cache_folder
from stages.common.errors import InputError
from stages.common.files import read_text, write_text
from stages.common.stage import read_stage
from stages.common.workspace import lock_holders, repository, works

LOCK, COPY = Path("dvc.lock"), Path(".dvc/tmp/lock.copy.yaml")
MUTEX = Path(".dvc/tmp/lock")  # which DVC holds while it works, but not while a stage runs
PATIENCE = 5  # seconds to wait for another DVC, which writes `dvc.lock` in less
HEAD = "schema: '2.0'\nstages:\n"
NAME = re.compile(r"^  (\S.*):\n")
# An entry of DVC's cache of runs as DVC writes it for a stage of this project. Others take YAML's parser, which is slow.
RUN = re.compile(r"^cmd: .*\n(?:.*\n)*outs:\n(?:- path: .*\n(?:  \w+: .+\n)*  md5: .+\n(?:  \w+: .+\n)*)+\Z")
HASH = re.compile(r"[0-9a-f]{32}(\.dir)?")


def blocks_of(text: str) -> dict[str, str]:
    """The text of each stage's entry in a lock file, in order."""
    parts = re.split(r"(?m)^(?=  \S)", text.partition("stages:\n")[2])
    return {found[1].strip("'\""): part for part in parts if (found := NAME.match(part))}


def is_whole(block: str) -> bool:
    """Whether a stage's entry is YAML, and each file in it has a whole hash."""
    try:
        (content,) = YAML(typ="safe").load(block).values()
        files = [file for kind in ("deps", "outs") for file in content.get(kind, [])]
        return block.endswith("\n") and bool(content["cmd"]) and all(map(is_whole_file, files))
    except (YAMLError, ValueError, AttributeError, KeyError, TypeError):
        return False


def is_whole_file(file: dict) -> bool:
    """Whether the entry of a file is whole. A file of this project has an MD5 and a size; others may have another hash."""
    if file.get("hash", "md5") == "md5" and not {"etag", "checksum"} & set(file):
        return bool(HASH.fullmatch(str(file["md5"]))) and file["size"] >= 0
    return len(file) > 1


def fits(block: str) -> bool:
    """Whether DVC takes a stage's entry, which is YAML: it fails at a key or a kind of value that it does not know."""
    try:
        schema.COMPILED_LOCKFILE_SCHEMA({"schema": "2.0", "stages": YAML(typ="safe").load(block)})
    except Invalid:
        return False
    return True


def whole_blocks(text: str) -> dict[str, str]:
    """The whole entries of a lock file, of which each is as DVC writes it."""
    return {name: block for name, block in blocks_of(text).items() if is_whole(block) and fits(block)}


def committed() -> str:
    """The lock file of git's last commit; empty if there is none."""
    place = repository(Path.cwd())
    if place is None:
        return ""
    git = pygit2.Repository(str(place))
    name = (Path.cwd() / LOCK).relative_to(place).as_posix()
    if git.head_is_unborn or name not in git.head.peel(pygit2.Commit).tree:
        return ""
    return git[git.head.peel(pygit2.Commit).tree[name].id].data.decode("utf-8", "replace")


def known_blocks() -> dict[str, str]:
    """The entries of git's last commit and of the copy."""
    return whole_blocks(committed()) | whole_blocks(read_text(COPY))


def keep_copy() -> None:
    """Copy `dvc.lock`, together with entries that only the last copy has. A stage calls it, while DVC does not write."""
    copied, now = blocks_of(read_text(COPY)), blocks_of(read_text(LOCK))
    changed = {name: block for name, block in now.items() if block != copied.get(name) and is_whole(block)}
    if changed:
        write_text(COPY, HEAD + "".join((copied | changed).values()))


def is_incomplete(text: str) -> bool:
    """Whether a lock file is damaged or a part of what DVC wrote: it breaks off within an entry, or lacks the last ones."""
    blocks = blocks_of(text)
    if not blocks or text != HEAD + "".join(blocks.values()) or whole_blocks(text) != blocks:
        return True
    if is_cut(*list(blocks.items())[-1], known_blocks()):
        return True
    names, copied = list(blocks), list(blocks_of(read_text(COPY)))
    return text != committed() and len(names) < len(copied) and names == copied[: len(names)]


def is_cut(name: str, block: str, known: dict[str, str]) -> bool:
    """Whether a stage's entry breaks off at the end of a line: as a known one does not, or before all its results."""
    was = known.get(name, "")
    return was != block and (was.startswith(block) or lacks_results(name, block))


def lacks_results(name: str, block: str) -> bool:
    """Whether a stage's entry, which is whole YAML, lacks some of the results that `dvc.yaml` names."""
    (content,) = YAML(typ="safe").load(block).values()
    listed = {file["path"] for file in content.get("outs", [])}
    return is_defined(name) and any(path.as_posix() not in listed for path in read_stage(name).results)


def is_defined(name: str) -> bool:
    """Whether `dvc.yaml` and `params.yaml` define a stage of this name."""
    try:
        read_stage(name)
    except InputError:
        return False
    return True


def in_use() -> bool:
    """Whether a running DVC has locks on files of this workspace, and so may be writing `dvc.lock`."""
    return any(works(Path.cwd(), number) for number in lock_holders(Path.cwd()))


def repair() -> str:
    """Repair `dvc.lock` if it is incomplete.

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
    if not LOCK.exists() or in_use() or not is_incomplete(text):
        return ""
    with dvc_waits():
        text = read_text(LOCK)
        return repair_text(text) if is_incomplete(text) else ""


@contextmanager
def dvc_waits() -> Iterator[None]:
    """A context in which no DVC reads or writes `dvc.lock`. Raises `InputError` if one works here for long."""
    MUTEX.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + PATIENCE
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


def repair_text(text: str) -> str:
    """Repair `dvc.lock`, which holds this incomplete text; return a sentence that says what was done."""
    known = known_blocks()
    found = {name: block for name, block in whole_blocks(text).items() if not is_cut(name, block, known)}
    missing = {name: block for name, block in known.items() if name not in found and is_defined(name)}
    order = [name for name in known if name in found or name in missing]
    whole = {name: found.get(name, missing.get(name, "")) for name in [*order, *found]}
    write_text(LOCK, HEAD + "".join(whole.values()))
    return (
        f"{LOCK} was incomplete or damaged, as when DVC is killed while it writes the file. It was repaired: {len(found)} "
        f"entries were whole, {len(missing)} were taken from git or from a copy. `dvc status` shows what has to run."
    )


def remove_damaged_runs() -> str:
    """Remove damaged entries of DVC's cache of runs, at which `dvc repro` fails; DVC runs their stages again.

    Returns:
        A sentence that says what was done; empty if nothing had to be.
    """
    removed = 0
    for entry in cache_folder(Path.cwd()).glob(f"runs/*/*/{'[0-9a-f]' * 64}"):
        if not is_run(entry.read_text(encoding="utf-8", errors="replace")):
            with suppress(OSError):
                entry.unlink()
                removed += 1
    return f"{removed} damaged entries of DVC's cache of runs were removed." if removed else ""


def is_run(text: str) -> bool:
    """Whether an entry of DVC's cache of runs is whole: it ends with the stage's results."""
    if RUN.search(text):
        return True
    try:
        content = YAML(typ="safe").load(text)
        return text.endswith("\n") and bool(content["cmd"]) and all(result["path"] for result in content["outs"])
    except (YAMLError, ValueError, KeyError, TypeError):
        return False
