"""What cannot be written is told in a stage's first second: full disks, rights, files where folders belong.

The disks are small ones in memory, mounted where only the test's process sees them.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pygit2
import pytest

from stages.common.errors import sentence
from stages.common.files import atomic_write
from tests.conftest import ENVIRONMENT, ROOT, edit, run
from tests.soak import hashes

APART = ("unshare", "--map-root-user", "--mount")
MOUNTS = (
    shutil.which(APART[0])
    and not subprocess.run(
        [*APART, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    ).returncode
)
needs_mounts = pytest.mark.skipif(not MOUNTS, reason="this user may not mount disks")

PREPARE = """\
import sys
from pathlib import Path
from stages.common import stage
from stages.common.errors import sentence
try:
    stage.prepare_to_write(stage.Stage("train", (), (), (Path("data/models/a.keras"), Path("reports/a.json"))))
except OSError as error:
    sys.exit(sentence(error))
"""
FULL, NO_FILES, READ_ONLY = "-o size=64k", "-o nr_inodes=1", "-o ro"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A project's folder, before its first run: a git repository, and DVC's folder."""
    place = tmp_path / "project"
    pygit2.init_repository(str(place))
    (place / ".dvc/cache/files/md5/00").mkdir(parents=True)
    (place / "data/models").mkdir(parents=True)
    (place / "reports").mkdir()
    (place / "dvc.lock").write_text("schema: '2.0'\nstages:\n")
    return place


def prepared(folder: Path, before: str = "true", **variables: str) -> str:
    """What `prepare_to_write` says after a shell command, with mounts of its own; empty if it can write."""
    command = f"{before} && exec {shlex.join([sys.executable, '-c', PREPARE])}"
    done = subprocess.run(
        [*(APART if "mount" in before else ()), "sh", "-c", command],
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert bool(done.returncode) == bool(done.stderr), done.stderr
    return done.stderr


def test_a_folder_that_can_be_written_is_left_as_it_was(folder):
    def content() -> list[Path]:
        return sorted(path for path in folder.rglob("*") if path.name != "tmp")

    before = content()
    assert not prepared(folder)
    assert content() == before


@pytest.mark.fault("There is no `/dev/shm`, or nobody may write to it.", "Nothing needs it: the same bytes.")
@needs_mounts
def test_nothing_needs_shared_memory(workspace):
    stages = "eda train@small-0 evaluate@small-0 select calibrate explain"
    repro = shlex.join([sys.executable, "-m", "dvc", "repro", "--force", "--single-item", *stages.split()])
    run(workspace, *APART, "sh", "-c", f"mount -t tmpfs -o ro none /dev/shm && exec {repro}")
    changed = {line[3:] for line in run(workspace, "git", "status", "--porcelain").splitlines()}
    assert all(path == "dvc.lock" or path.startswith("reports/timing/") for path in changed), changed


@pytest.mark.fault(
    "The disk of the results, of DVC's cache, of git or of temporary files is full, has no inodes left or is read-only.",
    "The stage stops before it begins, and names the folder.",
)
@needs_mounts
@pytest.mark.parametrize("place", ["data/models", "reports", ".dvc/cache", ".dvc/tmp", ".git/objects"])
@pytest.mark.parametrize(
    ("options", "told"),
    [(FULL, "the disk is full"), (NO_FILES, "the disk is full"), (READ_ONLY, "may not read or write")],
)
def test_a_disk_that_cannot_be_written_is_named_before_a_stage_begins(folder, place, options, told):
    error = prepared(folder, f"mkdir -p {place} && mount -t tmpfs {options} none {place}")
    assert error.startswith(told)
    assert f"{place}: " in error


@needs_mounts
def test_a_full_disk_of_temporary_files_is_named_and_another_one_taken_where_none_can_be_made(folder, tmp_path):
    place = tmp_path / "temporary"
    place.mkdir()
    error = prepared(folder, f"mount -t tmpfs {FULL} none {place}", TMPDIR=str(place))
    assert error.startswith(f"the disk is full: cannot write {place}: ")
    assert not prepared(folder, f"mount -t tmpfs {READ_ONLY} none {place}", TMPDIR=str(place))


@needs_mounts
def test_a_cache_on_another_disk_is_the_one_that_is_tried(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / ".dvc/config.local").write_text(f"[cache]\n    dir = {elsewhere}\n")
    error = prepared(folder, f"mount -t tmpfs {FULL} none {elsewhere}")
    assert f"cannot write {elsewhere}: " in error
    assert f"`df -h {elsewhere}`" in error
    assert not prepared(folder, f"mount -t tmpfs {FULL} none .dvc/cache")


@pytest.mark.fault(
    "The disk of DVC's databases (`/var/tmp/dvc`, or `core.site_cache_dir`) is full or read-only.",
    "The stage stops before it begins, and names the folder: DVC could not record the results.",
)
@needs_mounts
@pytest.mark.parametrize("options", [FULL, NO_FILES, READ_ONLY])
def test_the_place_of_dvcs_databases_is_tried(folder, tmp_path, options):
    place = tmp_path / "databases"
    (place / "repo").mkdir(parents=True)
    (folder / ".dvc/config.local").write_text(f"[core]\n    site_cache_dir = {place}\n")
    assert str(place) in prepared(folder, f"mount -t tmpfs {options} none {place}/repo")


@pytest.mark.fault(
    "`dvc.lock`, or a folder inside DVC's cache or git's, belongs to another user, as after `sudo`.",
    "The stage stops before it begins, and names it.",
)
@needs_mounts
@pytest.mark.parametrize("place", ["dvc.lock", ".dvc/cache/files/md5/00", ".git/objects/00"])
def test_a_single_place_that_cannot_be_written_is_named(folder, place):
    (folder / ".git/objects/00").mkdir()
    error = prepared(folder, f"mount --bind {place} {place} && mount -o remount,ro,bind {place}")
    assert f"{place}: Permission denied." in error


@pytest.mark.fault("A file lies where a folder belongs, or a folder where a file belongs.", "It is named.")
@pytest.mark.parametrize("place", ["data", "data/models", "reports", ".dvc/cache", ".dvc/tmp"])
def test_a_file_in_the_place_of_a_folder_is_named(folder, place):
    error = prepared(folder, f"rm -rf {place} && touch {place}")
    assert f"{place}" in error
    assert "Move what lies there, or in the place of a folder above it, away." in error


def test_a_folder_in_the_place_of_a_file_is_named(folder):
    assert "data/models/a.keras: Is a directory." in prepared(folder, "mkdir data/models/a.keras")


@pytest.mark.fault(
    "The disk has no space for as much as the stage wrote the last time: it fails when it has trained.",
    "It stops before it begins, with both numbers.",
)
def test_the_space_of_the_last_time_is_asked_for(folder):
    entry = "stages:\n  train:\n    outs:\n    - path: data/models/a.keras\n      md5: '00'\n      size: {}\n"
    (folder / "dvc.lock").write_text(entry.format(10**17))
    assert "200000000000.0 MB are needed, as the last time, " in prepared(folder)
    (folder / "dvc.lock").write_text(entry.format(1000))
    assert not prepared(folder)


@needs_mounts
def test_the_copy_in_dvcs_cache_takes_space_too(folder):
    entry = "stages:\n  train:\n    outs:\n    - path: data/models/a.keras\n      md5: '00'\n      size: {}\n"
    disk = "mkdir -p disk && mount -t tmpfs -o size=16m none disk && mkdir disk/models disk/cache"
    command = f"{disk} && mount --bind disk/models data/models && mount --bind disk/cache .dvc/cache"
    for size, kind, fits in ((6 << 20, "copy", True), (10 << 20, "copy", False), (10 << 20, "hardlink,copy", True)):
        (folder / "dvc.lock").write_text(entry.format(size))
        (folder / ".dvc/config.local").write_text(f"[cache]\n    type = {kind}\n")
        error = prepared(folder, command)
        assert ("the disk is full" in error) == (not fits), error


def test_what_a_killed_stage_left_is_removed(folder):
    left = folder / "data/models/.a.part7.keras", folder / "data/models/.a.part8.keras/inside"
    probe = folder / "reports/.probe.part9"
    left[1].mkdir(parents=True)
    for path in (left[0], probe):
        path.touch()
    assert not prepared(folder)
    assert not any(path.exists() for path in (*left, left[1].parent, probe))


@needs_mounts
def test_a_git_that_dvc_does_not_use_is_not_tried(folder):
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    assert not prepared(folder, f"mount -t tmpfs {READ_ONLY} none .git/objects")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_in_a_run_is_named(tmp_path):
    path = tmp_path / "result.json"

    def write() -> None:
        with atomic_write(path) as beside:
            beside.symlink_to("/dev/full")
            beside.write_bytes(bytes(10))

    with pytest.raises(OSError, match="No space left") as error:
        write()
    assert sentence(error.value).startswith(f"the disk is full: cannot write {path}: ")
    assert not list(tmp_path.iterdir())


@needs_mounts
def test_dvc_starts_no_training_that_it_cannot_keep(finished, tmp_path):
    workspace = tmp_path / "workspace"
    run(tmp_path, "git", "clone", "--quiet", str(finished), str(workspace))
    (workspace / ".dvc/config.local").write_text(f"[cache]\n    dir = {finished / '.dvc/cache'}\n")
    run(workspace, "dvc", "checkout", "--quiet")
    lock = (workspace / "dvc.lock").read_bytes()
    cache, python = shlex.quote(str(finished / ".dvc/cache")), shlex.quote(sys.executable)
    for module in ("dvc repro --force --single-item train@plain-0", "stages.check"):
        command = f"mount --bind {cache} {cache} && mount -o remount,ro,bind {cache} && {python} -m {module}"
        output = run(workspace, *APART, "sh", "-c", command, succeeds=False)
        assert f"error: may not read or write {finished / '.dvc/cache'}: Read-only file system." in output
        assert "Epoch" not in output
    assert (workspace / "dvc.lock").read_bytes() == lock
    run(workspace, "dvc", "checkout", "--quiet")
    assert (workspace / "data/models/plain-0.keras").exists()


# A disk of its own for a folder; it is full as soon as a stage has trained for an epoch, and has space for a second run.
FILLED = """
mkdir -p {place} && mount -t tmpfs -o size=8m none {place} || exit 77
{repro} > log 2>&1 &
until [ -e reports/history/small-0.csv ] || ! kill -0 $!; do sleep 0.05; done
dd if=/dev/zero of={place}/filler bs=64k 2>&1 | tail -1
wait $! && echo "the first ended well"
rm {place}/filler
cat log && exec {repro}
"""


@pytest.mark.fault(
    "The disk of the results or of DVC's cache becomes full while a stage trains.",
    "It is named, nothing is recorded, and `dvc repro` goes on when there is space: the same bytes.",
)
@needs_mounts
@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("data/models", "error: the disk is full: cannot write data/models/"),
        ("cache", "No space left on device"),  # as DVC says it
        (".dvc/tmp/checkpoints", "warning: the checkpoint cannot be saved: the disk is full"),
    ],
    ids=["results", "cache", "checkpoints"],
)
def test_a_disk_that_fills_up_in_a_training_costs_nothing_but_its_end(workspace, place, told):
    edit(workspace, lambda content: content["models"]["small"].update(epochs=12))
    shutil.rmtree(workspace / "data/models")
    run(workspace, "rm", "-r", "reports/history")
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "train@small-0"]
    disk = str(workspace.parent / "cache") if place == "cache" else place
    script = FILLED.format(place=shlex.quote(disk), repro=shlex.join(command))
    said = run(workspace, *APART, "sh", "-c", script, FASHION_MNIST_CHECKPOINT_SECONDS="0")
    assert ("the first ended well" in said) == (place == ".dvc/tmp/checkpoints")
    assert told in said
    found = hashes(workspace)
    run(workspace, *command, "--force")
    assert hashes(workspace) == found
