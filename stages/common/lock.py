"""A torn `dvc.lock` is mended: DVC does not write it atomically, so a killed DVC may leave a part of it.

DVC compares each entry of `dvc.lock` with what lies in the workspace. So an older entry can never make a result look newer
than it is, and missing entries may be taken from git's last commit or from a copy, which each stage makes at its start.
"""

import json
import re
from pathlib import Path

import psutil
import pygit2
from ruamel.yaml import YAML, YAMLError

from stages.common.errors import InputError
from stages.common.files import write_text
from stages.common.stage import entry
from stages.common.workspace import repository

LOCK, COPY = Path("dvc.lock"), Path(".dvc/tmp/lock.copy.yaml")
RWLOCK = Path(".dvc/tmp/rwlock")
HEAD = "schema: '2.0'\nstages:\n"
NAME = re.compile(r"^  (\S.*):\n")
HASH = re.compile(r"[0-9a-f]{32}(\.dir)?")


def blocks_of(text: str) -> dict[str, str]:
    """The text of each stage's entry in a lock file, in order."""
    parts = re.split(r"(?m)^(?=  \S)", text.partition("stages:\n")[2])
    return {found[1].strip("'\""): part for part in parts if (found := NAME.match(part))}


def is_whole(block: str) -> bool:
    """Whether a stage's entry ends where DVC ends one: it is YAML, and each file has its path and a whole hash."""
    try:
        (content,) = YAML(typ="safe").load(block).values()
        files = [file for kind in ("deps", "outs") for file in content.get(kind, [])]
        return (
            block.endswith("\n")
            and isinstance(content["cmd"], str)
            and all(file["path"] and HASH.fullmatch(str(file["md5"])) and file["size"] >= 0 for file in files)
        )
    except (YAMLError, ValueError, AttributeError, KeyError, TypeError):
        return False


def whole_blocks(text: str) -> dict[str, str]:
    """The whole entries of a lock file."""
    return {name: block for name, block in blocks_of(text).items() if is_whole(block)}


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


def read(path: Path) -> str:
    """The content of a text file; empty if there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def known_blocks() -> dict[str, str]:
    """The entries of git's last commit and of the copy."""
    return whole_blocks(committed()) | blocks_of(read(COPY))


def keep_copy() -> None:
    """Copy `dvc.lock`, together with entries that only the last copy has. A stage calls it, while DVC does not write."""
    copied, now = blocks_of(read(COPY)), blocks_of(read(LOCK))
    changed = {name: block for name, block in now.items() if block != copied.get(name) and is_whole(block)}
    if changed:
        write_text(COPY, HEAD + "".join((copied | changed).values()))


def is_torn(text: str) -> bool:
    """Whether a lock file is only a part of what DVC wrote: it breaks off within an entry, or lacks the last ones."""
    blocks = blocks_of(text)
    if not blocks or text != HEAD + "".join(blocks.values()) or not all(map(is_whole, blocks.values())):
        return True
    if is_cut(blocks):
        return True
    names, copied = list(blocks), list(blocks_of(read(COPY)))
    return text != committed() and len(names) < len(copied) and names == copied[: len(names)]


def is_cut(blocks: dict[str, str]) -> bool:
    """Whether the last entry breaks off at the end of a line."""
    name, last = list(blocks.items())[-1]
    was = known_blocks().get(name, "")
    return was.startswith(last) and was != last


def is_defined(name: str) -> bool:
    """Whether `dvc.yaml` and `params.yaml` define a stage of this name."""
    try:
        entry(name)
    except InputError:
        return False
    return True


def in_use() -> bool:
    """Whether a running DVC has locks on files of this workspace, and so may be writing `dvc.lock`."""
    try:
        numbers = re.findall(r'"pid": (\d+)', json.dumps(json.loads(read(RWLOCK) or "{}")))
    except ValueError:
        return False
    return any(psutil.pid_exists(int(number)) for number in numbers)


def mend() -> str:
    """Mend `dvc.lock` if it is torn.

    Returns:
        A sentence that says what was done; empty if nothing had to be.

    Raises:
        InputError: It holds the marks of a merge conflict.
    """
    text = read(LOCK)
    if re.search(r"(?m)^<{7} ", text):
        raise InputError(
            f"{LOCK} holds both sides of a merge. Type `git checkout --ours {LOCK}` (or `--theirs`), then `dvc repro`, "
            "which runs what neither side has."
        )
    if not LOCK.exists() or in_use() or not is_torn(text):
        return ""
    found, known = whole_blocks(text), known_blocks()
    if found and is_cut(found):
        found.popitem()
    missing = {name: block for name, block in known.items() if name not in found and is_defined(name)}
    order = [name for name in known if name in found or name in missing]
    whole = {name: found.get(name, missing.get(name, "")) for name in [*order, *found]}
    write_text(LOCK, HEAD + "".join(whole.values()))
    return (
        f"{LOCK} was torn, as it is when DVC is killed while it writes it. It was mended: {len(found)} entries were whole, "
        f"{len(missing)} were taken from git or from the copy that stages make. `dvc status` shows what has to run."
    )
