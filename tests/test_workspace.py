"""What DVC or git would only stumble over after a training is told before it: links, locks, full and read-only disks."""

import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stages.base.errors import InputError
from stages.runner import workspace
from stages.runner.dvc_files import cache_folder, setting
from stages.runner.graph import Stage
from stages.runner.workspace import prepare_to_write, refuse_lost_results
from tests.conftest import run

APART = ("unshare", "--map-root-user", "--mount")  # mounts that only a test's own process sees
MOUNT = [*APART, "mount", "-t", "tmpfs", "none", "/mnt"]
CAN_MOUNT = shutil.which(APART[0]) and not subprocess.run(MOUNT, capture_output=True, check=False).returncode
needs_mounts = pytest.mark.skipif(not CAN_MOUNT, reason="this user may not mount disks")
FULL, NO_FILES = ("mount -t tmpfs -o " + option + " none {0}" for option in ("size=64k", "nr_inodes=1"))
READ_ONLY = "mount --bind {0} {0} && mount -o remount,ro,bind {0}"
STAGE = Stage("train", (), (), (Path("data/models/a.keras"), Path("reports/a.json")))


@pytest.fixture
def folder(project, monkeypatch) -> Path:
    """A project in the working directory, where a stage has been prepared."""
    monkeypatch.chdir(project)
    Path("reports/figures").mkdir(parents=True)
    prepare_to_write(STAGE)
    return project


def test_an_ordinary_workspace_is_left_as_it_was(folder):
    left = Path("data/models/.a.part7.keras"), Path("data/models/.a.part8.keras/inside")  # by a process that was killed
    before = sorted(folder.rglob("*"))
    left[1].mkdir(parents=True)
    left[0].touch()
    refuse_lost_results()
    prepare_to_write(STAGE)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["data", "reports/figures"])
def test_a_folder_behind_a_link_is_refused(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{name} is a symbolic link to .*elsewhere.*rm {name}.*cache.type symlink"):
        refuse_lost_results()


def test_the_lock_of_git_is_waited_for_and_that_of_a_killed_one_is_named(folder, monkeypatch):
    lock = folder / ".git/index.lock"
    lock.touch()
    threading.Timer(0.1, lock.unlink).start()
    refuse_lost_results()
    lock.touch()
    monkeypatch.setattr(workspace, "GIT_WAIT_SECONDS", 0)
    with pytest.raises(InputError, match=r"index\.lock is there: .* type `rm '.*index\.lock'`"):
        refuse_lost_results()


def test_an_index_that_dvc_cannot_read_is_refused(folder):
    run(folder, "git", "update-index", "--split-index")
    with pytest.raises(InputError, match="index is split") as refused:
        refuse_lost_results()
    run(folder, *str(refused.value).split("`")[1].split())
    refuse_lost_results()


def test_settings_are_those_of_dvc(folder):
    Path(".dvc/config").write_text("[core]\n    autostage = true\n")
    for local in ("", "['remote \"x\"']\n    url = /x\nbroken", "[cache]\n    dir = ../../shared\n"):
        Path(".dvc/config.local").write_text(local)
        assert setting("core", "autostage")[0] == "true"
        assert cache_folder() == (folder.parent / "shared" if "dir" in local else folder / ".dvc/cache")


@needs_mounts
@pytest.mark.parametrize(
    ("place", "mount", "told"),
    [
        ("data", FULL, "error: the disk is full: cannot write data"),
        ("cache", READ_ONLY, "error: may not read or write {}/cache"),
        (".git", READ_ONLY, "error: may not read or write {}/.git"),
        ("databases/repo", FULL, "error: the disk is full: cannot write {}/databases/repo"),
        (".dvc/tmp/code", FULL, "error: the code of the stage cannot be copied to .dvc/tmp/code: "),
    ],
)
def test_a_disk_that_cannot_be_written_is_named_before_a_stage_begins(project, place, mount, told):
    """That of the results, of temporary files, of git, of DVC's cache and its databases, wherever these are."""
    settings = f"[core]\nsite_cache_dir = {project}/databases\n[cache]\ndir = {project}/cache\n"
    (project / ".dvc/config.local").write_text(settings)
    for name in (place, "temporary"):
        (project / name).mkdir(parents=True, exist_ok=True)
    command = f"{mount.format(place)} && exec {shlex.join([sys.executable, '-m', 'stages.start', 'mine'])}"
    variables = {"DVC_STAGE": "mine", "TMPDIR": f"{project}/temporary"}
    printed = run(project, *APART, "sh", "-c", command, succeeds=False, **variables)
    assert printed.startswith(told.format(project))
    assert "counts" not in printed
    assert "Traceback" not in printed
