"""`make run`: its notes, the place of each stage where a person watches, the table, its exit status, Ctrl-C."""

import getpass
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.base.environment import versions
from stages.base.errors import InputError
from stages.base.runs import ENSEMBLE
from stages.cluster.here import LOGS
from stages.runner import commands, notes, progress
from tests.conftest import ENVIRONMENT, MODELS, ROOT, processes_in, ran, run, start, wait_until

MAKE = (
    "make",
    "--file",
    str(ROOT / "Makefile"),
    "--no-print-directory",
    "INSTALL=:",
    f"PYTHON={shlex.quote(sys.executable)}",
    "run",
)
FIT, SCORE = "train@plain-0", "evaluate@plain-0"


def test_it_runs_anywhere_whatever_the_user_has_set_and_says_what_that_changes(project, tmp_path):
    """In a folder without git whose name holds everything, with another shell, variables and startup files of a user."""
    folder = project.rename(tmp_path / "a $HOME folder, müde & 'so'")
    shutil.rmtree(folder / ".git")
    (folder / "requirements.txt").write_text("keras==1.2.3\nabsl-py==1.0\n")
    for name, text in {"rc": "exit 3\n", "numpy.py": "raise ImportError('another numpy')\n"}.items():
        (tmp_path / name).write_text(text)
    user = {"SHELL": "/bin/false", "BASH_ENV": str(tmp_path / "rc"), "ENV": str(tmp_path / "rc")}
    user |= {
        "TF_CLI_CONFIG_FILE": "terraform.rc",
        "PYTHONPATH": str(tmp_path),
        "PYTHONSAFEPATH": "1",
        "KERAS_MAX_EPOCHS": "1",
        "LC_ALL": "POSIX",
    }
    printed = run(folder, *MAKE, **user)
    assert "note: this folder is in no git repository: the pipeline runs" in printed
    assert f"those of the pinned versions: keras {versions()['keras']} (1.2.3)." in printed
    assert re.search("note: these environment variables are ignored, .*: KERAS_MAX_EPOCHS\\.$", printed, re.MULTILINE)
    assert ran(printed) == {"mine"}
    assert printed.endswith("the table\n")
    # In a repository, after a kill of DVC as it wrote its files.
    run(folder, "git", "init", "--quiet")
    (folder / ".dvc/tmp/rwlock").write_text("")
    lock = folder / "dvc.lock"
    shutil.copy(lock, folder / ".dvc/tmp/lock.copy.yaml")
    lock.write_text(lock.read_text()[:50])
    printed = run(folder, *MAKE)
    assert "note: .dvc/tmp/rwlock was removed" in printed
    assert "note: dvc.lock was damaged" in printed
    assert "in no git repository" not in printed
    assert ran(printed) == set()


@pytest.mark.slow
def test_a_terminal_shows_the_place_of_each_stage_and_the_time(project):
    command = f"import pty, sys; sys.exit(pty.spawn([{sys.executable!r}, '-m', 'stages.run']) >> 8)"
    printed = run(project, "python", "-c", command)
    assert re.search(r"^\[1 of 1 at 0:\d\d\] mine(: | ended)", printed, re.MULTILINE)
    assert re.fullmatch(
        r"stage,seconds,cpu_seconds,memory_mib\nmine,\d+\.\d,\d+\.\d,\d+\n", (project / progress.COSTS).read_text()
    )


def test_a_failure_ends_it_with_a_sentence_and_without_a_table(project):
    (project / "params.yaml").write_text("rate: [\nthreads: 1\n")
    printed = run(project, *MAKE, succeeds=False)
    assert "error: params.yaml" in printed
    assert "the table" not in printed


@pytest.mark.parametrize("everybody", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_leaves_nothing_running(project, everybody):
    """By Ctrl-C, which reaches all its processes, or by SIGINT to the first one alone."""
    (project / "wait-1").touch()
    process = start(project, "stages.run")
    wait_until((project / "at-1").exists)
    (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
    assert process.wait(120) != 0
    printed = (project / "log").read_text()
    assert "stopping; the stages that ended are kept. Type the command again" in printed
    assert "stopped. Type the command again to go on." in (project / LOGS / "mine.log").read_text()  # the stage
    assert "Traceback" not in printed
    assert not processes_in(project)
    assert not (project / "data/result").exists()


def test_a_killed_make_leaves_nothing_running(project):
    (project / "wait-1").touch()
    make = subprocess.Popen(MAKE, cwd=project, env=ENVIRONMENT)
    wait_until((project / "at-1").exists)
    make.kill()
    make.wait()
    wait_until(lambda: not processes_in(project))


def test_it_prints_the_table_of_the_models(workspace):
    printed = run(workspace, *MAKE)
    assert set(re.findall(r"^(\w+)\b.*\d %", printed, re.MULTILINE)) == {*MODELS, ENSEMBLE}
    assert ran(printed) == set()


def test_a_user_without_a_home_whom_the_system_does_not_know_gets_both(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", {}.popitem)  # raises KeyError
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    found = commands.environment()
    assert found["LOGNAME"] == f"user-{os.getuid()}"
    assert Path(found["HOME"]).is_absolute()
    assert found["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_a_repository_around_the_project_counts_unless_it_ignores_it(project, tmp_path, monkeypatch):
    shutil.rmtree(project / ".git")
    run(tmp_path, "git", "init", "--quiet")
    monkeypatch.chdir(project)
    for ignored, without in (("", False), ("project\n", True), ("", False)):
        (tmp_path / ".gitignore").write_text(ignored)
        assert notes.do_without_git() == without
        assert (notes.setting("core", "no_scm")[0].lower() == "true") == without


def test_the_time_to_go_counts_what_runs_and_is_unknown_where_a_stage_is(monkeypatch):
    seconds = {"a": 10.0, "b": 20.0, "c": 5.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: 100.0)
    assert progress.time_left(seconds, [], {}, 0) == 35
    assert progress.time_left(seconds, ["a"], {"b": 92.0}, 18) == 17  # as fast as expected
    assert progress.time_left(seconds, ["a"], {"b": 0.0}, 30) == 5  # no longer than all of it
    assert progress.time_left(seconds, ["a"], {}, 80) == 25 * (80 + 60) / (10 + 60)  # slower
    assert progress.time_left(seconds, list(seconds), {}, 30) is None
    assert progress.time_left(seconds | {"c": None}, [], {}, 0) is None
    assert progress.format_seconds(3_725) == "1:02:05"
    assert progress.expected(FIT, {FIT: 20.0}) == progress.expected("train@plain-7", {FIT: 20.0}) == 20
    assert progress.expected("train@small-0", {FIT: 20.0}) is None


def test_a_stage_writes_its_seconds_unless_it_fails_or_went_on_from_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.COSTS_VARIABLE, str(tmp_path))
    kept = progress.Checkpoint(tmp_path / "x", {}, 0)
    kept.restored = True
    with progress.report_costs("report", None), progress.report_costs(FIT, kept):
        pass
    with pytest.raises(InputError), progress.report_costs(SCORE, None):
        raise InputError
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
