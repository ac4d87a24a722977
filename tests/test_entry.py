"""Errors, Ctrl-C and closed pipes end a command with a sentence that says what to type; files are written whole."""

import hashlib
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.base.errors import INTERRUPTED, Damaged, InputError
from stages.base.files import atomic_write, write_json
from stages.runner import entry
from tests.conftest import ENVIRONMENT, ROOT, heed_signals, run, wait_until


def told(monkeypatch, error: Exception) -> str:
    """What an entry point says of an error."""
    monkeypatch.setattr(entry, "ROOT", Path.cwd())

    @entry.entry_point
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        main()
    return str(end.value)


ERRORS = [
    (InputError("rate is 2, but\x1b must be 1."), "error: rate is 2, but\\x1b must be 1."),
    (FileNotFoundError(2, "No such file", "a/x"), "error: a/x is missing. Type `dvc repro`, "),
    (PermissionError(13, "Permission denied", "a/x"), "error: may not read or write a/x: Permission denied. `ls -ld`"),
    (OSError(28, "No space left", "a/x"), "error: the disk is full: cannot write a/x: No space left. `df -h"),
    (NotADirectoryError(20, "Not a directory", "a/x"), "Move what lies there, or in the place of a folder above"),
    (ConnectionError("the proxy hung up"), "error: ConnectionError: the proxy hung up."),
]


@pytest.mark.parametrize(("error", "sentence"), ERRORS)
def test_an_error_is_a_sentence_that_names_the_cause(error, sentence, monkeypatch, capsys):
    assert sentence in told(monkeypatch, error)
    monkeypatch.setenv("FASHION_MNIST_RUN", "1")  # `make run` was typed
    assert sentence.replace("dvc repro", "make run") in told(monkeypatch, error)
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("TRACEBACK", "1")
    told(monkeypatch, error)
    assert "Traceback" in capsys.readouterr().err


def test_what_to_type_where_a_file_is_damaged_helps(tmp_path, monkeypatch):
    """It names the copy in DVC's cache only where that is damaged, too: DVC would restore the damaged file from there."""
    monkeypatch.chdir(tmp_path)
    path, right = Path("data/prepared/a train.npz"), b"right"
    copy = Path(".dvc/cache/files/md5", (md5 := hashlib.md5(right).hexdigest())[:2], md5[2:])
    for one in (path, copy):
        one.parent.mkdir(parents=True)
        one.write_bytes(right)
    error = Damaged(path, "its header is wrong.")
    assert told(monkeypatch, error) == (
        "error: data/prepared/a train.npz cannot be used: its header is wrong. Type `git checkout "
        "'data/prepared/a train.npz'` if git has it, else remove it and type `dvc repro`."
    )
    Path("dvc.lock").write_text(f"stages:\n  x:\n    outs:\n    - path: {path}\n      md5: {md5}\n      size: 5\n")
    assert told(monkeypatch, error).endswith("Type `rm -f 'data/prepared/a train.npz'`, then `dvc repro`.")
    copy.write_bytes(b"wrong")
    advice = told(monkeypatch, error).partition("Its copy in DVC's cache is damaged, too: type `")[2].partition("`")[0]
    subprocess.run(shlex.split(advice), check=True)
    assert not path.exists()
    assert not copy.exists()


def test_a_command_is_typed_in_the_projects_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"you are in {tmp_path}, type `cd {ROOT}` first"):
        entry.entry_point(lambda: None)()


SCRIPT = """
import sys, time
from stages.runner import entry
entry.GRACE_SECONDS = 0.5
@entry.entry_point
def main():
    print("± müde", flush=True)
    while "wait" in sys.argv:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass  # as libraries lose it in their callbacks
    for _ in range(10_000):
        print("a line")
main()
"""


@pytest.mark.parametrize("command", [("-c", SCRIPT, "wait"), ("-m", "stages.train", "no_model")])
def test_ctrl_c_ends_a_command_although_a_library_loses_it_and_a_bare_stage_that_loads_libraries(command):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": heed_signals}
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, **streams) as process:
        if "wait" in command:
            process.stdout.readline()
        else:
            wait_until(lambda: "numpy" in Path(f"/proc/{process.pid}/maps").read_text())
        process.send_signal(signal.SIGINT)
        try:
            _, printed = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, printed) == (INTERRUPTED, "stopped. Type the command again to go on.\n")


def test_a_closed_pipe_and_a_terminal_without_letters_are_no_errors():
    command = f"{shlex.join([sys.executable, '-c', SCRIPT])} | head -1; echo ${{PIPESTATUS[0]}}"
    assert run(ROOT, "bash", "-c", command, PYTHONIOENCODING="ascii") == f"\\xb1 m\\xfcde\n{entry.CLOSED_PIPE}\n"


def test_an_error_of_a_bare_stage_is_a_sentence_too(tmp_path):
    printed = run(tmp_path, "python", "-m", "stages.select", succeeds=False, PYTHONPATH=str(ROOT))
    assert printed.startswith("error: params.yaml ")
    assert "Traceback" not in printed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_two_writers_do_not_meet_and_one_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() in {"first", "second"}
    write_json(path, {"accuracy": 0.9})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"accuracy": float("nan")})

    def fill() -> None:
        with atomic_write(path) as beside:
            beside.symlink_to("/dev/full")
            beside.write_bytes(bytes(10))

    with pytest.raises(OSError, match="No space left") as full:
        fill()
    assert f"the disk is full: cannot write {path}: " in told(monkeypatch, full.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
