"""What a killed DVC leaves of `dvc.lock` and of its list of locks is repaired, and nothing else is touched."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
import zc.lockfile
from dvc.fs import LocalFileSystem
from dvc.rwlock import rwlock as rwlock_of_dvc
from dvc.schema import COMPILED_LOCKFILE_SCHEMA

from stages.base.errors import InputError
from stages.runner import lock_file
from stages.runner.lock_file import (
    LOCK,
    LOCK_COPY,
    LOCK_HEADER,
    MUTEX,
    NO_ENTRIES,
    RWLOCK,
    keep_copy,
    remove_stale_rwlock,
    repair,
)
from tests.conftest import commit, run

FILE = "    - path: data/{0}\n      hash: md5\n      md5: a{1:031x}\n      size: {1}\n"
ENTRY = "  {0}:\n    cmd: python -E -m stages.start {0}\n    deps:\n{1}    outs:\n{2}"
OF_A_USER = "  mine:\n    cmd:\n    - echo 1\n    deps:\n    - path: https://example.org/x\n      etag: '0123456789'\n"


def entry(name: str, number: int) -> str:
    return ENTRY.format(name, FILE.format("all", number), FILE.format(name, number + 1))


A, C, NEW_C = entry("a", 1), entry("c", 5), entry("c", 7)
WHOLE = LOCK_HEADER + A + entry("train@b-0", 3) + C


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A project of three stages, in the working directory, with a whole `dvc.lock` that is neither in git nor copied."""
    monkeypatch.chdir(tmp_path)
    matrix = "{matrix: {model: [b], seed: [0]}, cmd: x}"
    Path("dvc.yaml").write_text(f"stages:\n  a: {{cmd: x}}\n  train: {matrix}\n  c: {{cmd: x}}\n")
    Path("params.yaml").write_text("rate: 1\n")
    RWLOCK.parent.mkdir(parents=True)
    run(tmp_path, "git", "init", "--quiet")
    LOCK.write_text(WHOLE)
    return tmp_path


@pytest.fixture(params=["git", "copy"])
def known(folder, request) -> None:
    """The `dvc.lock` is known from git's last commit, or from the copy that each stage makes."""
    if request.param == "git":
        commit(folder, "All")
    else:
        keep_copy()


def repaired(content: str | bytes) -> tuple[bool, str]:
    """Whether a `dvc.lock` with this content is repaired, and its content then, which DVC can read."""
    LOCK.write_bytes(content.encode() if isinstance(content, str) else content)
    said, text = repair(), LOCK.read_text()
    assert not said or "dvc.lock was damaged, or lacked entries" in said
    if text != WHOLE:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(text))
    return bool(said), text


def test_a_lock_that_is_torn_anywhere_or_has_flipped_bits_is_repaired(known):
    assert repaired(WHOLE) == (False, WHOLE)
    for end in [*range(0, len(WHOLE), 23), *(found.start() for found in re.finditer("(?m)^.", WHOLE))]:
        assert repaired(WHOLE[:end]) == (True, WHOLE), end
    for place in range(0, len(WHOLE), 31):
        damaged = bytearray(WHOLE.encode())
        damaged[place] ^= 0x80  # which makes invalid UTF-8: U+FFFD
        assert repaired(damaged) == (True, WHOLE), place


def test_lost_entries_come_back_and_newer_ones_stay(known):
    assert repaired(LOCK_HEADER + NEW_C) == (True, WHOLE.replace(C, NEW_C))
    Path("dvc.yaml").write_text("stages:\n  a: {cmd: x}\n  c: {cmd: x}\n")  # a stage that is no more has no entry
    assert repaired(LOCK_HEADER + NEW_C) == (True, LOCK_HEADER + A + NEW_C)


def test_of_a_lock_of_which_nothing_is_known_what_is_whole_is_kept(folder):
    assert repaired(WHOLE[:-20]) == (True, WHOLE.replace(C, ""))
    assert repaired("") == (True, NO_ENTRIES)


def test_a_lock_that_is_right_is_left_alone_and_one_of_a_merge_too(folder):
    for text in (NO_ENTRIES, WHOLE, WHOLE + OF_A_USER, LOCK_HEADER + C + A):
        assert repaired(text) == (False, text)
    LOCK.write_text(LOCK_HEADER + C)
    commit(folder, "All")
    LOCK.write_text(WHOLE)
    keep_copy()
    assert repaired(LOCK_HEADER + C) == (False, LOCK_HEADER + C)  # as committed, though the copy has more
    with pytest.raises(InputError, match=r"Type `git checkout --ours dvc\.lock`"):
        repaired(WHOLE.replace("  c:\n", "<<<<<<< HEAD\n  c:\n=======\n>>>>>>> other\n"))
    assert "<<<<<<<" in LOCK.read_text()
    LOCK.unlink()  # on purpose
    assert not repair()
    assert not LOCK.exists()


def test_the_copy_keeps_entries_that_a_later_lock_has_lost_and_takes_none_that_are_damaged(folder):
    for text in (WHOLE, LOCK_HEADER + NEW_C, WHOLE[:-9]):
        LOCK.write_text(text)
        keep_copy()
    assert LOCK_COPY.read_text() == LOCK_HEADER + NEW_C + A + entry("train@b-0", 3)
    LOCK.write_text(WHOLE + OF_A_USER)  # in the order and form of DVC, so that it is known at a glance
    keep_copy()
    assert LOCK_COPY.read_text() == WHOLE + OF_A_USER


def test_what_another_dvc_is_writing_is_not_repaired(folder, monkeypatch):
    keep_copy()
    new = WHOLE + entry("d", 9)
    held = zc.lockfile.LockFile(str(MUTEX))
    monkeypatch.setattr(lock_file, "MUTEX_SECONDS", 0)
    with pytest.raises(InputError, match="another command of DVC works here"):
        repaired(new[: len(new) // 2])
    monkeypatch.setattr(lock_file, "MUTEX_SECONDS", 60)
    threading.Timer(0.2, lambda: (LOCK.write_text(new), held.close())).start()
    assert not repair()
    assert LOCK.read_text() == new


def list_holder(number: int) -> None:
    """Write DVC's list of who reads and writes which files."""
    RWLOCK.write_text(json.dumps({"write": {"/x/a": {"pid": number, "cmd": "dvc repro"}}, "read": {}}))


def test_a_damaged_list_of_locks_is_removed_and_one_that_dvc_writes_is_not(folder):
    for content in ("", "[1]", '{"write": {"/x": {}}}', '{"read": {"/x": [1]}}'):
        RWLOCK.write_text(content)
        assert "rwlock was removed" in remove_stale_rwlock()
        assert not RWLOCK.exists()
        assert not remove_stale_rwlock()
    RWLOCK.write_text('{"write": {}}')  # as DVC leaves it
    assert not remove_stale_rwlock()
    with rwlock_of_dvc(str(RWLOCK.parent), LocalFileSystem(), "dvc repro", ["/x/a"], ["/x/b"], hardlink=False):
        assert lock_file.holders_of(RWLOCK.read_text()) == {os.getpid()}
    assert not remove_stale_rwlock()


@pytest.mark.parametrize("words", [("dvc", "repro"), ("-m", "stages.run")])
def test_a_list_of_ended_processes_is_removed_and_that_of_a_running_dvc_is_not(words, folder, monkeypatch):
    list_holder(os.getppid())  # another program has got the number of an ended one
    assert remove_stale_rwlock()
    command = [sys.executable, "-uc", "import time; print(); time.sleep(60)", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # a process that has only just started has no command line yet
        list_holder(process.pid)
        assert not remove_stale_rwlock()
        RWLOCK.write_text("")
        with monkeypatch.context() as patch:
            writes = SimpleNamespace(sleep=lambda _: list_holder(process.pid))  # DVC is writing it
            patch.setattr(lock_file, "time", writes)  # not `time.sleep` itself, which other threads call, too
            assert not remove_stale_rwlock()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody asked for its status
        assert remove_stale_rwlock()
