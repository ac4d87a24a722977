"""What DVC or git would only stumble over after a training is told before it; what is harmless is not."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pygit2
import pytest
from dvc.fs import LocalFileSystem
from dvc.rwlock import rwlock as rwlock_of_dvc

from stages.common import stage, workspace
from stages.common.errors import InputError
from stages.common.workspace import is_shallow, refuse_lost_results, remove_stale_locks, repository


@pytest.fixture
def folder(tmp_path) -> Path:
    """A project's folder: a git repository with the folders that DVC uses."""
    pygit2.init_repository(str(tmp_path / "project"))
    for name in ("data/models", "reports", ".dvc/tmp"):
        (tmp_path / "project" / name).mkdir(parents=True)
    return tmp_path / "project"


def test_an_ordinary_workspace_is_not_refused(folder, tmp_path):
    refuse_lost_results(folder)
    (tmp_path / "without").mkdir()
    refuse_lost_results(tmp_path / "without")  # no repository, nothing made yet


@pytest.mark.fault(
    "`data/` is a symbolic link; DVC fails when a stage has ended.",
    "Told before, with what to type.",
)
@pytest.mark.parametrize("name", ["data", "data/models", "reports", "reports/figures"])
def test_a_folder_behind_a_link_is_refused(folder, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    path = folder / name
    path.rename(tmp_path / "away") if path.exists() else None
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{name} is a symbolic link to .*elsewhere.*rm {name}.*cache.type symlink"):
        refuse_lost_results(folder)


@pytest.mark.fault(
    "A `.git/index.lock` is left; DVC fails when a stage has ended, perhaps after minutes.",
    "Told before, with what to type.",
)
def test_the_lock_of_a_killed_git_is_named(folder, monkeypatch):
    monkeypatch.setattr(workspace, "GIT_WAIT", 0.2)
    (folder / ".git" / "index.lock").touch()
    monkeypatch.chdir(folder)
    told = r"index\.lock is there: .*`rm '.*index\.lock'"
    with pytest.raises(InputError, match=told), stage.checked(stage.Stage("folds", (), (), ())):
        pytest.fail("the stage runs")


def test_the_lock_of_a_git_that_runs_is_waited_for(folder):
    lock = folder / ".git" / "index.lock"
    lock.touch()
    subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(0.5); os.remove({str(lock)!r})"])
    refuse_lost_results(folder)
    assert not lock.exists()


def test_the_lock_of_a_worktree_is_found(folder):
    (folder / "moved").mkdir()
    (folder / ".git").rename(folder / "moved" / "git")
    (folder / ".git").write_text("gitdir: moved/git\n")
    assert repository(folder / "data") == folder
    (folder / "moved" / "git" / "shallow").touch()
    assert is_shallow(folder)


@pytest.mark.fault(
    "The checkout belongs to another user; DVC fails when a training has ended.",
    "Told before, with what to type.",
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_another_user_is_told_with_what_to_type(folder, monkeypatch, tmp_path):
    for path in (folder, folder / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(InputError, match=r"belongs to another user.*safe\.directory '.*project'"):
        refuse_lost_results(folder)


def rwlock(folder: Path, number: int, age: float) -> None:
    path = folder / ".dvc" / "tmp" / "rwlock"
    path.write_text(json.dumps({"write": {"/x/a": {"pid": number, "cmd": "dvc repro"}}, "read": {}}))
    os.utime(path, (time.time() - age,) * 2)


@pytest.mark.fault(
    "A stale `rwlock` names a process that is another program by now.",
    "Told, with what to type.",
)
def test_a_lock_whose_process_is_another_program_by_now_is_told(folder):
    rwlock(folder, os.getpid(), age=100_000_000)
    with pytest.raises(
        InputError, match=rf"process {os.getpid()} \(`dvc repro`\) works here, but .*`rm \.dvc/tmp/rwlock`"
    ):
        refuse_lost_results(folder)


@pytest.mark.fault(
    "DVC is killed in a container that asks for no status of ended processes; later runs say that it is busy.",
    "`make run` and `python -m stages.check` remove the lock file, and say so.",
)
@pytest.mark.parametrize("ended", ["its number is another program's", "nobody asked for its status", "it works"])
def test_a_stale_lock_is_removed(folder, ended):
    child = subprocess.Popen(["sleep", "0" if ended == "nobody asked for its status" else "60"])
    while ended == "nobody asked for its status" and psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    rwlock(folder, child.pid, age=100_000_000 if "another" in ended else 0)
    told = remove_stale_locks(folder)
    assert not remove_stale_locks(folder)
    assert (folder / ".dvc/tmp/rwlock").exists() == (not told) == (ended == "it works")
    child.kill()
    child.wait()


def test_the_lock_of_a_dvc_that_works_is_left_whatever_the_clock_of_the_disk_says(folder):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "dvc", "repro"]) as child:
        rwlock(folder, child.pid, age=100)
        assert not remove_stale_locks(folder)
        refuse_lost_results(folder)
        child.kill()


def test_a_lock_of_a_process_that_holds_it_or_is_gone_is_left_to_dvc(folder):
    rwlock(folder, os.getpid(), age=0)
    refuse_lost_results(folder)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    rwlock(folder, gone.pid, age=100_000_000)
    refuse_lost_results(folder)


def test_the_holders_of_a_lock_are_read_as_dvc_writes_them(folder):
    path, lock = str(folder / ".dvc/tmp"), folder / ".dvc/tmp/rwlock"
    with rwlock_of_dvc(path, LocalFileSystem(), "dvc repro", ["/x/a"], ["/x/b"], hardlink=False):
        assert json.loads(lock.read_text())
        assert workspace.lock_holders(folder) == {os.getpid(): "dvc repro"}
    assert workspace.lock_holders(folder) == {}


@pytest.mark.fault(
    "A damaged `rwlock`.",
    "Told, with what to type.",
)
def test_a_damaged_list_of_locks_is_told(folder):
    for content in ("", "garbage", "[1]", '{"x": 1}', '{"write": {"/x": {}}}', '{"read": {"/x": [1]}}'):
        (folder / ".dvc" / "tmp" / "rwlock").write_text(content)
        with pytest.raises(InputError, match=r"rwlock is damaged: type `rm \.dvc/tmp/rwlock`"):
            refuse_lost_results(folder)


@pytest.mark.fault(
    "DVC is killed while it writes its `rwlock`, at which every later command fails.",
    "`make run` and `python -m stages.check` remove the lock file, and say so.",
)
def test_a_damaged_list_of_locks_is_removed_unless_dvc_is_writing_it(folder, monkeypatch):
    lock = folder / ".dvc/tmp/rwlock"
    lock.write_text("")
    assert "was damaged" in remove_stale_locks(folder)
    assert not lock.exists()
    lock.write_text("")
    monkeypatch.setattr(workspace.time, "sleep", lambda _: rwlock(folder, os.getpid(), age=0))  # meanwhile, DVC writes
    assert not remove_stale_locks(folder)
    assert workspace.lock_holders(folder) == {os.getpid(): "dvc repro"}


@pytest.mark.fault(
    "DVC is killed while it tries which links a disk has; the file that it leaves among the results changes folders that "
    "stages read.",
    "No stage runs because of it; `make run` and `python -m stages.check` remove it, and say so.",
)
def test_what_a_killed_dvc_left_among_the_results_is_removed_unless_dvc_works(folder):
    places = [folder / "reports/history", folder / "data/models"]
    left, others = "." + "aB-_3" * 4 + "xy.tmp", (".mine.tmp", "mine.tmp")
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        for name in (left, *others):
            (place / name).write_text("test")
    rwlock(folder, os.getpid(), age=0)
    assert not workspace.remove_leftovers(folder)
    (folder / ".dvc/tmp/rwlock").unlink()
    assert workspace.remove_leftovers(folder).startswith("2 ")
    for place in places:
        assert {path.name for path in place.glob("*.tmp")} | {path.name for path in place.glob(".*.tmp")} == set(others)
    assert not workspace.remove_leftovers(folder)


@pytest.mark.fault(
    "In a shallow clone `dvc exp run --queue` loses its result silently.",
    "The experiment is refused before it trains.",
)
def test_an_experiment_in_a_temporary_folder_of_a_shallow_clone_is_refused(folder):
    inside = folder / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    inside.mkdir(parents=True)
    refuse_lost_results(inside)
    (folder / ".git" / "shallow").touch()
    refuse_lost_results(folder)  # the workspace itself loses nothing
    with pytest.raises(InputError, match=r"shallow clone, of which DVC loses .*git fetch --unshallow"):
        refuse_lost_results(inside)
