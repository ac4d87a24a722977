"""`make run`: with or without git, whatever the user's shell, with the place of each stage where a person watches."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pygit2
import pytest

from stages.common import entry, progress
from stages.common.entry import entry_point
from stages.common.errors import InputError, cause
from stages.common.progress import expected, headline, report_progress, seconds_left
from stages.common.runs import ENSEMBLE
from tests.conftest import ENVIRONMENT, MODELS, edit, ran, run

FIT, SCORE = "train@plain-0", "evaluate@plain-0"


def add_comment(folder: Path) -> None:
    """A change of `params.yaml` after which the stage `check` runs again, and no other."""
    path = folder / "params.yaml"
    path.write_text(path.read_text() + "# a comment\n")


def watched_run(folder: Path) -> str:
    """What `make run` prints to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.run"], cwd=folder, env=ENVIRONMENT, stdout=theirs, stderr=theirs, stdin=theirs
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # how a terminal ends on Linux
            break
        if not block:
            break
        printed += block
    os.close(ours)
    assert process.wait() == 0, printed.decode()
    return printed.decode()


def without_git(folder: Path) -> Path:
    """Take the repository away, as in a download of the files alone; the cache stays."""
    shutil.rmtree(folder / ".git")
    return folder


@pytest.mark.fault(
    "Nobody knows how long a run takes.",
    "Each stage says its place, the time, and what is to come.",
)
def test_a_stage_says_its_place_the_time_and_what_is_to_come(workspace):
    edit(workspace, lambda content: content["eda"].update(samples_per_class=3))
    output = watched_run(workspace)
    assert "[1 of 3] check; 0:0" in output
    assert "[2 of 3] eda; 0:" in output
    assert "[3 of 3] report; 0:" in output
    assert "to go" not in output  # nothing is known of these stages yet
    took = pd.read_csv(workspace / "reports/timing/stages.csv").set_index("stage")["seconds"]
    assert set(took.index) == {"check", "eda", "report"}
    assert took["report"] > 0.1
    add_comment(workspace)
    assert re.search(r"\[1 of 1\] check; 0:0\d since the start, about 0:0\d to go", watched_run(workspace))


def test_what_is_to_come_is_scaled_by_the_pace_so_far():
    plan = {"started": time.time() - 65, "stages": {FIT: 100, SCORE: 10, "report": 30}, "took": {}}
    assert seconds_left(plan, 0) == 140
    plan["took"] = {FIT: 20}  # much faster than expected
    assert seconds_left(plan, 1) == 40 * (20 + 60) / (100 + 60)
    assert headline(plan, SCORE) == "[2 of 3] evaluate@plain-0; 1:05 since the start, about 0:20 to go"
    plan["stages"][SCORE] = None
    assert seconds_left(plan, 1) is None
    assert headline(plan, SCORE) == "[2 of 3] evaluate@plain-0; 1:05 since the start"
    assert progress.format_seconds(3_725) == "1:02:05"


def test_another_seed_is_expected_to_take_as_long():
    known = {FIT: 20.0, SCORE: 2.0}
    assert expected(FIT, known) == expected(FIT.replace("0", "7"), known) == 20
    assert expected("train@small-0", known) is None


def test_a_command_outside_the_plan_says_nothing(tmp_path, monkeypatch, capsys):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"started": 0, "stages": {FIT: 1}, "took": {}}))
    monkeypatch.setenv(progress.PLAN, str(path))
    monkeypatch.setattr(sys, "argv", ["stages/report.py"])
    monkeypatch.setenv("DVC_STAGE", "report")
    monkeypatch.setattr(progress, "resumed", False)  # whatever another test did in this process
    with report_progress():
        pass
    assert capsys.readouterr().out == ""
    assert list(json.loads(path.read_text())["took"]) == ["report"]
    monkeypatch.setenv("DVC_STAGE", FIT)
    monkeypatch.setattr(sys, "argv", ["stages/train.py"])
    monkeypatch.setattr(progress, "resumed", True)  # from a checkpoint: it took longer than this process did
    with report_progress():
        pass
    assert list(json.loads(path.read_text())["took"]) == ["report"]
    with pytest.raises(InputError), report_progress():
        raise InputError
    monkeypatch.delenv(progress.PLAN)
    with report_progress():
        pass


@pytest.mark.fault(
    "The project was downloaded as a ZIP file, without git.",
    "It runs, and says what needs git.",
)
def test_it_runs_without_git_and_with_it_again(workspace):
    without_git(workspace)
    output = run(workspace, "python", "-m", "stages.run")
    assert "note: this folder is in no git repository: the pipeline runs" in output
    assert ran(output) == set()
    assert set(re.findall(r"^(\w+)\b.*\d %", output, re.MULTILINE)) == {*MODELS, ENSEMBLE}  # the rows of the table
    add_comment(workspace)
    assert ran(run(workspace, "python", "-m", "stages.run")) == {"check"}
    pygit2.init_repository(str(workspace))
    assert "in no git repository" not in run(workspace, "python", "-m", "stages.run")
    assert "no_scm" not in (workspace / ".dvc/config.local").read_text()  # or DVC would not know the repository


@pytest.mark.fault(
    "The folder lies in another repository, which may ignore it.",
    "It runs.",
)
def test_a_repository_around_it_that_ignores_it_is_no_hindrance(workspace, tmp_path):
    without_git(workspace)
    pygit2.init_repository(str(tmp_path))
    run(workspace, "python", "-m", "stages.run")
    (tmp_path / ".gitignore").write_text("workspace\n")
    assert "in no git repository" in run(workspace, "python", "-m", "stages.run")


@pytest.mark.fault(
    "The user's shell is `/bin/false`, or reads a file that ends it.",
    "Stages run by `/bin/sh`.",
)
def test_the_users_shell_and_its_files_have_no_say(workspace, tmp_path):
    (tmp_path / "rc").write_text("exit 3\n")
    add_comment(workspace)
    output = run(workspace, "python", "-m", "stages.run", SHELL="/bin/false", BASH_ENV=str(tmp_path / "rc"))
    assert ran(output) == {"check"}


@pytest.mark.fault(
    "The folder's name holds spaces, quotes, umlauts or a `$`; the terminal is ASCII.",
    "It runs.",
)
def test_a_folder_whose_name_holds_everything(workspace, tmp_path):
    folder = tmp_path / "a $HOME folder, müde & 'so'"
    workspace.rename(folder)
    add_comment(folder)
    assert ran(run(folder, "python", "-m", "stages.run")) == {"check"}
    assert ran(run(folder, "python", "-m", "stages.run", LC_ALL="POSIX", PYTHONIOENCODING="ascii")) == set()


@pytest.mark.fault("No HOME, no USER, and a user whom the system does not know.", "It runs.")
def test_a_user_without_a_home_and_without_a_name_runs_it(workspace, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import pwd\ndef unknown(uid): raise KeyError(f'getpwuid(): uid not found: {uid}')\npwd.getpwuid = unknown\n"
    )
    add_comment(workspace)
    variables = {"PATH": ENVIRONMENT["PATH"], "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "stages.run"]
    done = subprocess.run(command, cwd=workspace, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ran(done.stdout) == {"check"}
    assert not (workspace / "~").exists()


@pytest.mark.fault(
    "Variables of Python's own, such as `PYTHONSAFEPATH`, keep `dvc repro` from its stages.", "They do not."
)
def test_pythons_variables_do_not_reach_a_stage(workspace, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('this is another numpy')\n")
    add_comment(workspace)
    output = run(workspace, "dvc", "repro", "check", PYTHONPATH=str(tmp_path))
    assert ran(output) == {"check"}
    add_comment(workspace)
    command = [Path(sys.executable).parent / "dvc", "repro", "check"]
    env = ENVIRONMENT | {"PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=workspace, env=env, capture_output=True, text=True, check=False)
    assert ran(done.stdout) == {"check"}, done.stdout + done.stderr


@pytest.mark.fault(
    "Ctrl-C in a run, or SIGINT to its first process alone, leaves DVC or a stage running.",
    "All end, and a sentence says so.",
)
@pytest.mark.parametrize("everybody", [True, False])
def test_a_run_that_is_stopped_leaves_nothing_running(workspace, everybody):
    edit(workspace, lambda content: content["models"]["plain"].update(epochs=5000))
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.run"],
        cwd=workspace,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    history = workspace / "reports/history/plain-0.csv"
    until = time.monotonic() + 60
    while not history.exists() or len(pd.read_csv(history)) < 4 or len(pd.read_csv(history)) > 4000:  # the new one
        assert time.monotonic() < until
        time.sleep(0.1)
    (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "stopping; the stages that ended are kept" in output
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nobody of the group is left


# --- Errors ---


def guarded(monkeypatch, error: Exception) -> str:
    """What an entry point says of an error."""
    monkeypatch.chdir(entry.ROOT)

    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        entry_point(main)()
    return str(end.value)


@pytest.mark.fault(
    "Every error of the system is told as a full disk.",
    "The sentence names the cause.",
)
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            PermissionError(13, "Permission denied", "data/x"),
            "may not read or write data/x: Permission denied. `ls -ld`",
        ),
        (OSError(30, "Read-only file system", "data/x"), "may not read or write data/x"),
        (OSError(28, "No space left on device", "data/x"), "the disk is full: cannot write data/x"),
        (NotADirectoryError(20, "Not a directory", "data/x"), "Move what lies there"),
        (OSError(24, "Too many open files", "data/x"), "cannot read or write data/x: Too many open files."),
        (ConnectionError("the proxy hung up"), "ConnectionError: the proxy hung up."),
    ],
)
def test_an_error_of_the_system_is_told_by_its_own_cause(monkeypatch, error, sentence):
    told = guarded(monkeypatch, error)
    assert sentence in told
    assert "TRACEBACK=1" in told
    assert sentence in cause(error)


@pytest.mark.fault(
    "A sentence hides where an error comes from.",
    "`TRACEBACK=1` or `--traceback` shows all of it.",
)
def test_the_whole_of_an_error_is_shown_where_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.delenv("TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "argv", ["x"])
    guarded(monkeypatch, OSError(5, "Input/output error", "data/x"))
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("TRACEBACK", "1")
    guarded(monkeypatch, OSError(5, "Input/output error", "data/x"))
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    monkeypatch.delenv("TRACEBACK")
    monkeypatch.setattr(sys, "argv", ["x", "--traceback"])
    guarded(monkeypatch, InputError("bad"))
    assert "InputError: bad" in capsys.readouterr().err
    assert sys.argv == ["x"]  # argparse knows nothing of it


@pytest.mark.fault(
    "An ASCII terminal ends a stage that prints `±`.",
    "It prints the letter's code.",
)
def test_a_terminal_that_lacks_a_letter_gets_its_code(tmp_path):
    code = "from stages.common.entry import entry_point\n@entry_point\ndef main(): print('± müde')\nmain()"
    output = run(entry.ROOT, "python", "-c", code, PYTHONIOENCODING="ascii")
    assert output == "\\xb1 m\\xfcde\n"
