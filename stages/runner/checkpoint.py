"""Checkpoints: a file with what the trainings of a stage have reached, from which they go on after an interruption.

A checkpoint belongs to one stage with the values, code, data, packages and machine that it has now, and is used for no
other. It lies outside of every output of DVC, in the main repository also for an experiment whose folder DVC removes. It is
kept until DVC has recorded the stage's results.
"""

import glob
import hashlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from stages.base.environment import machine
from stages.base.errors import InputError
from stages.base.files import DAMAGED, atomic_write
from stages.runner import orphans
from stages.runner.dvc_files import LOCK, cache_folder, digest, read_text
from stages.runner.entry import sentence
from stages.runner.workspace import main_folder

FOLDER = Path(".dvc/tmp/checkpoints")  # STAGE.KEY.checkpoint or, when the stage has ended, STAGE.KEY.MD5.checkpoint
CHECKPOINT_VARIABLE = "FASHION_MNIST_CHECKPOINT_SECONDS"  # for `Checkpoint.every`; without it, `DEFAULT_SECONDS`
DEFAULT_SECONDS = 60.0
MAX_SHARE = 0.02  # of the time, at most, that saving may take
DIGEST = hashlib.sha256().digest_size

Arrays = dict[str, np.ndarray]


class Checkpoint:
    """What the trainings of a stage have reached, by their names, and the file in which it is kept.

    Args:
        path: The file; it may be missing.
        made_with: What the results depend on: text by name. See `difference`.
        every: The least number of seconds between two saves; 0: `keep` always saves. Otherwise, saving takes at most a
            share `MAX_SHARE` of the time.

    Attributes:
        restored: Whether a training went on from here.
    """

    def __init__(self, path: Path, made_with: dict[str, str], every: float):
        self.path, self.made_with, self.every = path, made_with, every
        self.parts: dict[str, Arrays] = {}
        self.restored = self.warned = False
        self.due = time.monotonic() + every

    def restore(self, name: str) -> Arrays | None:
        """What the training `name` has reached; None if it has not begun."""
        found = self.parts.get(name)
        if found:
            self.restored = True
            print(f"{name} goes on from the checkpoint {self.path}", flush=True)
        return found

    def keep(self, name: str, state: Callable[[], Arrays], ended: bool = False) -> None:
        """Keep what the training `name` has reached, and save it if it is time. A disk that is full stops no training.

        Args:
            name: Of the training.
            state: Called for what has to be kept, if it is time, or the training has `ended`.
            ended: Whether the training ends here.
        """
        is_due = time.monotonic() >= self.due
        if not (is_due or ended):
            return
        self.parts[name] = state()
        if not is_due:
            return
        started = time.monotonic()
        try:
            write(self.path, self.made_with, self.parts)
        except OSError as error:
            if not self.warned:
                print(f"warning: the checkpoint cannot be saved: {sentence(error)}", file=sys.stderr, flush=True)
            self.warned = True
        now = time.monotonic()
        self.due = now + (max(self.every, (now - started) / MAX_SHARE) if self.every else 0)

    def keep_for(self, result: Path) -> None:
        """Call it when the stage has ended: the checkpoint is kept until `dvc.lock` has the MD5 of the file `result`."""
        if self.path.exists():
            for other in self.path.parent.glob(f"{glob.escape(self.path.name.split('.')[0])}.*.*.checkpoint"):
                other.unlink(missing_ok=True)  # of an experiment, which DVC recorded elsewhere
            with suppress(FileNotFoundError):  # another experiment with the same values has taken it
                os.replace(self.path, self.path.with_suffix(f".{digest(result)}.checkpoint"))


def open_checkpoint(name: str, reads: dict[str, str]) -> Checkpoint:
    """The checkpoint of a stage, with what an interrupted run of it has reached.

    Checkpoints of the same stage that are damaged, or were made with other values, code, data, packages or another machine
    are named on stderr, and not used. `dvc repro --force` starts anew.

    Args:
        name: The stage's name, such as `train@cnn-0`.
        reads: What it reads: see `stages.runner.graph.fingerprint`.
    """
    made_with = {"stage": name, **reads} | {key: str(value) for key, value in machine().items() if key != "threads"}
    key = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:16]
    folder = main_folder() / FOLDER
    for left in folder.glob(f".{glob.escape(name)}.*part*"):  # by a process that was killed; another may be writing
        if f".{key}." in left.name or left.stat().st_mtime < time.time() - 10 * DEFAULT_SECONDS:
            left.unlink(missing_ok=True)
    if orphans.is_forced():
        for path in folder.glob(f"{glob.escape(name)}.{key}.*checkpoint"):
            path.unlink(missing_ok=True)
    every = float(os.environ.get(CHECKPOINT_VARIABLE) or DEFAULT_SECONDS)
    opened = Checkpoint(folder / f"{name}.{key}.checkpoint", made_with, every)
    for path in sorted(folder.glob(f"{glob.escape(name)}.*.checkpoint")):
        if has_ended(path) and not path.name.startswith(f"{name}.{key}."):
            continue  # of other values: there is nothing to go on with
        try:
            found, parts = read(path)
            if found != made_with:
                raise InputError(f"it was made with {difference(found, made_with)}")
            opened.parts = parts
        except (InputError, OSError) as error:
            told = f"note: the checkpoint {path} is not used: {sentence(error)}. `rm '{path}'` removes it."
            print(told, file=sys.stderr, flush=True)
    return opened


def difference(found: dict[str, str], expected: dict[str, str]) -> str:
    """The first difference between what a checkpoint was made with and what its stage has now, in words."""
    key = next(key for key in found | expected if found.get(key) != expected.get(key))
    if re.search("^stages/|^data/", key):
        return f"another {key}"
    return f"{key}: {found.get(key)}, and it is {expected.get(key)} now"


def write(path: Path, made_with: dict[str, str], parts: dict[str, Arrays]) -> None:
    """Write a checkpoint atomically: the SHA-256 of what follows, then arrays in NumPy's format `.npz`."""
    content = io.BytesIO()
    arrays = {f"{name}/{key}": array for name, part in parts.items() for key, array in part.items()}
    np.savez(content, allow_pickle=False, made_with=np.array(json.dumps(made_with)), **arrays)
    with atomic_write(path) as beside, beside.open("wb") as file:
        file.write(hashlib.sha256(content.getbuffer()).digest())
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())  # a rename may reach the disk before the content


def read(path: Path) -> tuple[dict[str, str], dict[str, Arrays]]:
    """The two arguments with which a checkpoint was written. Raises `InputError` if the file is damaged."""
    content = path.read_bytes()
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        raise InputError("it is damaged, its content does not match its checksum")
    try:
        with np.load(io.BytesIO(content[DIGEST:])) as arrays:
            parts: dict[str, Arrays] = {}
            for full in set(arrays.files) - {"made_with"}:
                name, _, key = full.partition("/")
                parts.setdefault(name, {})[key] = arrays[full]
            made_with = json.loads(str(arrays["made_with"]))
    except DAMAGED as error:
        raise InputError(f"it is no checkpoint of this project ({error})") from None
    if not isinstance(made_with, dict):
        raise InputError("it does not say what it was made with")
    return made_with, parts


def remove_recorded() -> None:
    """Remove the checkpoints of stages whose results are in `dvc.lock` or, of an experiment, in DVC's cache of runs."""
    lock = read_text(LOCK)
    for path in (main_folder() / FOLDER).glob("*.*.*.checkpoint"):
        md5 = path.name.split(".")[-2]
        if has_ended(path) and (md5 in lock or is_in_a_run(md5)):
            path.unlink(missing_ok=True)


def has_ended(path: Path) -> bool:
    """Whether a checkpoint is of a stage that has ended: see `Checkpoint.keep_for`."""
    return bool(re.search(r"\.[0-9a-f]{32}\.checkpoint$", path.name))


def is_in_a_run(md5: str) -> bool:
    """Whether DVC's cache of runs has a result with this MD5."""
    return any(md5.encode() in path.read_bytes() for path in (cache_folder() / "runs").glob("*/*/*"))
