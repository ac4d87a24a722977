"""Damaged files, in the workspace and in DVC's cache: what a sentence advises is typed here, and it helps."""

import os
import re
import shutil
from pathlib import Path

import pytest

from stages.common import cache, lock_file
from stages.common.errors import InputError
from stages.inference.classifier import Classifier
from tests.conftest import run

LOCK = """\
schema: '2.0'
stages:
  make:
    cmd: make
    deps:
    - path: data/a
      hash: md5
      md5: 00000000000000000000000000000000
      size: 9
    outs:
    - path: data/a
      hash: md5
      md5: 0cc175b9c0f1b6a831c399e269772661
      size: 1
    - path: 'data/b: c'
      hash: md5
      md5: 92eb5ffee6ae2fec3ad71c777531578f
      size: 1
  last:
    cmd: make
"""


@pytest.fixture
def alone(finished, workspace) -> Path:
    """A workspace with a cache of its own."""
    shutil.copytree(finished / ".dvc/cache", workspace / ".dvc/cache")
    run(workspace, "dvc", "config", "--local", "--unset", "cache.dir")
    return workspace


def damage(path: Path, how: str) -> None:
    """Damage a file as a disk does: neither its time nor its permissions change."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes({"flipped": content, "truncated": content[: len(content) // 2], "empty": b""}[how])
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def copy_of(path: str) -> Path:
    """A result's copy in the cache of the working directory."""
    md5 = cache.recorded()[path].md5
    return cache.cache_folder(Path.cwd()) / "files/md5" / md5[:2] / md5[2:]


@pytest.mark.fault(
    "A file and its copy in DVC's cache are damaged: DVC restores the damaged one, also over what `--force` made anew.",
    "The stage that reads it stops, and names both to remove; typed, this gives the same bytes as before.",
)
@pytest.mark.parametrize(
    ("path", "how", "reader"),
    [
        ("data/models/plain-0.keras", "flipped", "evaluate@plain-0"),
        ("data/models/plain-0.txt", "flipped", "select"),  # no reader of this file would notice
        ("data/prepared/test.npz", "truncated", "evaluate@plain-0"),
        ("data/prepared/summary.json", "empty", "eda"),
    ],
)
def test_what_is_advised_of_a_damaged_file_helps(alone, monkeypatch, path, how, reader):
    monkeypatch.chdir(alone)
    copy, right = copy_of(path), Path(path).read_bytes()
    damage(Path(path), how)
    damage(copy, how)
    output = run(alone, "dvc", "repro", "--single-item", "--force", reader, succeeds=False)
    advice = re.search(rf"{re.escape(path)} is damaged.* damaged, too: type `(rm -f .*?)`, then `(dvc repro)`", output)
    assert advice, output
    run(alone, "sh", "-c", advice[1])
    run(alone, *advice[2].split())
    assert Path(path).read_bytes() == copy.read_bytes() == right
    assert "up to date" in run(alone, "dvc", "status")


def test_a_damaged_file_whose_copy_is_right_is_restored(alone, monkeypatch):
    monkeypatch.chdir(alone)
    path = Path("data/models/plain-0.keras")
    right = path.read_bytes()
    damage(path, "flipped")
    output = run(alone, "python", "-m", "stages.evaluate", "plain", succeeds=False)
    assert f"Type `rm -f {path}`, then `dvc repro`." in output
    path.unlink()
    assert "Running stage 'train" not in run(alone, "dvc", "repro")
    assert path.read_bytes() == right


@pytest.mark.fault(
    "DVC's cache of runs is damaged.",
    "`make run` and `python -m stages.check` remove such runs; DVC runs the stages again: the same bytes.",
)
def test_a_damaged_cache_of_runs_costs_a_run(alone):
    for entry in alone.glob(".dvc/cache/runs/*/*/*"):
        damage(entry, "truncated")
    assert "damaged entries of DVC's cache of runs were removed" in run(alone, "python", "-m", "stages.check")
    text = alone / "data/models/plain-0.txt"
    right = text.read_bytes()
    text.unlink()
    run(alone, "dvc", "repro")
    assert text.read_bytes() == right
    assert "damaged" not in run(alone, "python", "-m", "stages.check")


def test_entries_of_runs_are_whole_however_dvc_writes_them():
    for command in ("cmd: a\n", "cmd:\n- a\n- b\n"):
        outs = "outs:\n- path: x\n  hash: md5\n  md5: 01\n  size: 1\n- path: y\n  files:\n  - relpath: z\n    md5: 02\n"
        assert lock_file.is_run(f"{command}deps:\n- path: d\n  md5: 03\n{outs}")
        assert not lock_file.is_run(f"{command}deps:\n- path: d\n")
        assert not lock_file.is_run(f"{command}{outs[:-4]}")


@pytest.mark.parametrize(
    "configured", ["", "[cache]\n    dir = ../../shared\n", "['remote \"x\"']\n    url = /x\nbroken"]
)
def test_the_cache_is_found_and_the_lock_is_read(tmp_path, monkeypatch, configured):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n    autostage = true\n")
    (tmp_path / ".dvc/config.local").write_text(configured)
    assert cache.setting(tmp_path, "core", "autostage")[0] == "true"
    assert set(cache.recorded()) == {"data/a", "data/b: c"}
    folder = cache.cache_folder(tmp_path)
    assert folder == (tmp_path.parent / "shared" if "dir" in configured else tmp_path / ".dvc/cache")
    names = "92/eb5ffee6ae2fec3ad71c777531578f", "0c/c175b9c0f1b6a831c399e269772661"  # of "b", damaged here, and of "a"
    for copy in (folder / "files/md5" / name for name in names):
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text("a")
    assert cache.remedy(Path("data/a")) == "Type `rm -f data/a`, then `dvc repro`."
    assert re.search(r"type `rm -f 'data/b: c' .*92/eb5ffee6ae2fec3ad71c777531578f`", cache.remedy(Path("data/b: c")))
    shutil.rmtree(folder)


def test_nobody_is_told_to_delete_a_file_that_is_no_result(tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"Name model-tta\.onnx or model\.onnx\.$"):
        Classifier(path)
