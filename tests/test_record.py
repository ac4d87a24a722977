"""`dvc.lock` records what is true: edits during a run, incomplete locks, foreign models, hidden commands, orphans."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
import zc.lockfile
from dvc.schema import COMPILED_LOCKFILE_SCHEMA

from stages.common import lock_file, runs, stage
from stages.common import start as start_of
from stages.common.errors import InputError
from stages.common.start import INTERRUPTED, STOPPED
from tests.conftest import ENVIRONMENT, ROOT, edit, planned, ran, run, wait_until
from tests.soak import hashes

RUN, STAGE = "plain-0", "train@plain-0"
GONE = object()  # a value that is left out
DEEP = "lists in lists"  # a value that is too deep for Python's parser
MODEL = Path(f"data/models/{RUN}.keras")


def heed_signals() -> None:
    """In a new process: heed Ctrl-C and a closed terminal, also where these tests run in the background, or by `nohup`."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(folder: Path, *command: str) -> subprocess.Popen:
    """Start a command of DVC, in a process group of its own, which writes into `log`."""
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", *command],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=heed_signals,
        )


def type_until_it_runs(folder: Path, *command: str) -> None:
    """Run a command of DVC; again where DVC refuses it, because another one holds its lock for more than 3 s."""
    for _ in range(10):
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *command],
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.returncode:
            return
        assert "Unable to acquire lock" in done.stderr, done.stderr
        time.sleep(1)
    raise AssertionError("DVC's lock was held all the time")


def longer(folder: Path, epochs: int = 40) -> Path:
    """Let the model train for longer; returns its history, which is there after the first epoch."""
    edit(folder, lambda content: content["models"]["plain"].update(epochs=epochs))
    history = folder / f"reports/history/{RUN}.csv"
    history.unlink()  # of the run before
    return history


def test_an_entry_is_what_dvc_makes_of_it(dry_workspace, monkeypatch):
    monkeypatch.chdir(dry_workspace)
    code = (
        "import json; from dvc.repo import Repo\n"
        "found = {one.addressing: [[dep.def_path for dep in one.deps if not hasattr(dep, 'params')], "
        "[out.def_path for out in one.outs if not out.persist], "
        "[key for dep in one.deps for key in getattr(dep, 'params', [])]] for one in Repo().index.stages}\n"
        "print('found', json.dumps(found))"
    )
    found = json.loads(run(dry_workspace, "python", "-c", code).partition("found ")[2])
    assert STAGE in found
    for name, (dependencies, results, parameters) in found.items():
        found_here = stage.read_stage(name)
        assert sorted(map(str, found_here.dependencies)) == sorted(dependencies), name
        assert sorted(map(str, found_here.results)) == sorted(results), name
        assert sorted(found_here.parameters) == sorted(parameters), name


@pytest.mark.fault(
    "A parameter, code or data is edited while a stage runs, and recorded for results that it had no part in.",
    "The stage fails and says what changed; nothing is recorded.",
)
@pytest.mark.parametrize("what", ["parameter", "code", "data"])
def test_an_edit_during_a_run_is_not_recorded(workspace, what):
    history, lock = longer(workspace), (workspace / "dvc.lock").read_bytes()
    process = start(workspace, "repro", "--single-item", STAGE)
    wait_until(history.exists)
    if what == "parameter":
        edit(workspace, lambda content: content["models"]["plain"].update(learning_rate=0.002))
        named = r"models\.plain\.learning_rate of params\.yaml", r" \(from 0\.001 to 0\.002\)"
    else:
        path = "stages/training/fit.py" if what == "code" else "data/prepared/summary.json"
        (workspace / path).write_text((workspace / path).read_text() + "\n")
        named = re.escape(path), ""
    assert process.wait() != 0
    output = (workspace / "log").read_text()
    assert re.search(rf"error: {named[0]} changed while train@plain-0 ran{named[1]}", output), output
    assert (workspace / "dvc.lock").read_bytes() == lock
    assert not (workspace / MODEL).exists()
    assert not history.exists()


def test_code_that_is_edited_while_a_stage_loads_it_is_noticed(dry_workspace, monkeypatch):
    monkeypatch.chdir(dry_workspace)
    path = "stages/training/fit.py"
    monkeypatch.setattr(start_of, "AT_START", start_of.times() | {path: 1})
    begun = []
    named = rf"{path} changed while {STAGE} ran\. .* Type the command again"
    with pytest.raises(InputError, match=named), stage.checked(stage.read_stage(STAGE)):
        begun.append("with other code than is there now")
    assert not begun
    with stage.checked(stage.read_stage("prepare")):  # which does not read this file
        pass
    monkeypatch.setattr(start_of, "AT_START", start_of.times())
    assert start_of.edited() == set()


def test_the_lock_of_an_editor_is_no_code(tmp_path, monkeypatch):
    monkeypatch.setattr(start_of, "ROOT", tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/.#train.py").symlink_to("somebody@here.1")
    (tmp_path / "stages/train.py").touch()
    assert start_of.times().keys() == {"stages/train.py"}


def test_results_in_folders_are_removed_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").write_text("rate: 1\n")
    one = stage.Stage("mine", ("rate",), (), (tmp_path / "folder", tmp_path / "file"))

    def run_it() -> None:
        with stage.checked(one):
            (tmp_path / "folder").mkdir()
            (tmp_path / "folder/part").touch()
            (tmp_path / "file").touch()
            (tmp_path / "params.yaml").write_text("rate: 2\n")

    with pytest.raises(InputError, match=r"rate of params\.yaml changed while mine ran"):
        run_it()
    assert {path.name for path in tmp_path.iterdir()} == {".dvc", "params.yaml"}


def test_a_stage_keeps_its_results_unless_it_is_refused_before_or_after(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    Path("params.yaml").write_text("rate: 1\n")
    Path("data").write_bytes(b"data")
    one = stage.Stage("mine", ("rate",), (Path("data"),), (Path("result"), Path("never")))
    with stage.checked(one):
        Path("result").touch()
    assert Path("result").exists()
    with pytest.raises(InputError, match=r"changed while mine ran"), stage.checked(one):
        Path("data").write_bytes(b"other")
    assert not Path("result").exists()
    begun = []
    Path("never").mkdir()
    with pytest.raises(IsADirectoryError), stage.checked(one):
        begun.append("with a folder in the place of a result")
    Path("never").rmdir()
    Path("dvc.lock").write_text("stages:\n  first:\n    outs:\n    - path: data\n      md5: 0a\n      size: 4\n")
    with pytest.raises(InputError, match="data is damaged, or was edited"), stage.checked(one):
        begun.append("with damaged data")
    assert not begun


def test_a_fingerprint_has_every_value_and_every_file_that_dvc_does_not_ignore(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "rate: 1\nmodels: {small: {widths: [1, 2], deep: {name: x}, empty: {}}}\nother: 3\nday: 2020-01-31\n"
    )
    Path(".dvcignore").write_text((ROOT / ".dvcignore").read_text())
    Path("code/inner").mkdir(parents=True)
    for name in (
        "code/b.py",
        "code/inner/a.py",
        "code/.hidden",
        "code/a.part",
        "code/a.pyc",
        "code/.a.part1.py",
        "code/.a.py.swp",
        "code/a.py~",
        "data",
    ):
        Path(name).write_text(name)
    one = stage.Stage(
        "mine", ("rate", "models.small", "missing.key", "day"), (Path("code"), Path("data"), Path("gone")), ()
    )
    values = {
        "rate": "1",
        "day": '"2020-01-31"',
        "models.small.widths": "[1, 2]",
        "models.small.deep.name": '"x"',
        "models.small.empty": "{}",
    }
    expected = {f"{key} of params.yaml": value for key, value in values.items()}
    expected |= {"missing.key of params.yaml": "null", "gone": ""}
    kept = ("code/b.py", "code/inner/a.py", "code/.hidden", "code/a.part", "data")
    expected |= {name: hashlib.md5(name.encode()).hexdigest() for name in kept}
    assert stage.fingerprint(one) == expected
    assert stage.files_of(Path("code")) == sorted(map(Path, kept[:-1]))


def test_a_stage_is_read_with_the_values_of_its_matrix_and_of_the_parameters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seeds: [0, 1]\nbase: {name: plain}\n")
    Path("dvc.yaml").write_text(
        "stages:\n  train:\n    matrix: {model: [a, b], seed: '${seeds}'}\n    cmd: x\n"
        "    params: ['models.${item.model}']\n"
        "    deps: ['data/${base.name}.npz']\n    outs: ['${item.model}-${item.seed}.keras', {log: {persist: true}}]\n"
        "    metrics: [{m.json: {cache: false}}]\n    plots: [p.csv]\n  alone: {cmd: x}\n"
    )
    results = (Path("b-1.keras"), Path("m.json"), Path("p.csv"))
    expected = stage.Stage("train@b-1", ("models.b",), (Path("data/plain.npz"),), results)
    assert stage.read_stage("train@b-1") == expected
    assert stage.read_stage("alone") == stage.Stage("alone", (), (), ())
    for name in ("train@b-2", "train@c-1", "train", "other", "alone@b-1"):
        with pytest.raises(InputError, match=f"define no stage {name}: "):
            stage.read_stage(name)


def test_a_file_that_is_not_as_recorded_is_refused_and_a_missing_one_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(
        "stages:\n  mine:\n    cmd: x\n    outs:\n    - path: result\n      md5: 0a\n      size: 1\n"
    )
    for found in ({}, {"result": ""}, {"result": "0a"}, {"other": "0b"}):
        stage.refuse_damaged(found)
    with pytest.raises(InputError, match=r"result is damaged, or was edited: its MD5 is 0b, but dvc\.lock records 0a"):
        stage.refuse_damaged({"result": "0b"})


def test_the_first_changes_are_named_and_the_others_counted():
    one, names = stage.Stage("mine", (), (), ()), [f"file{number}" for number in range(7)]
    assert stage.what_changed(one, names, {}, {}).startswith(
        f"{', '.join(names[:5])} and 2 more changed while mine ran. "
    )
    assert stage.what_changed(one, names[:5], {}, {}).startswith(f"{', '.join(names[:5])} changed while mine ran. ")
    key = "rate of params.yaml"
    assert "mine ran (from 1 to 2). " in stage.what_changed(one, [key, *names], {key: "1"}, {key: "2"})


def test_an_edit_of_what_a_stage_does_not_read_is_none_of_its_business(workspace):
    history = longer(workspace)
    process = start(workspace, "repro", "--single-item", STAGE)
    wait_until(history.exists)
    edit(workspace, lambda content: content["models"]["small"].update(learning_rate=0.1))
    assert process.wait() == 0, (workspace / "log").read_text()
    assert "didn't change" in run(workspace, "dvc", "repro", "--single-item", STAGE)


@pytest.mark.fault(
    "A command hidden in a parameter is run by the shell, when a stage is asked for that does not depend on `check`.",
    "No value of `params.yaml` reaches a shell.",
)
@pytest.mark.parametrize("key", ["seeds", "models"])
def test_a_command_hidden_in_a_parameter_is_not_run(workspace, key):
    hidden = "0; touch pwned #" if key == "seeds" else "plain$(touch pwned)`touch pwned`"
    if key == "seeds":
        edit(workspace, lambda content: content.update(seeds=[hidden]))
        name = f"train@plain-{hidden}"
    else:
        edit(workspace, lambda content: content["models"].update({hidden: content["models"]["plain"]}))
        name = f"train@{hidden}-0"
    for options in ([], ["--single-item"]):
        output = run(workspace, "dvc", "repro", *options, name, succeeds=False)
        assert "error" in output.lower()
    assert not list(workspace.rglob("pwned*"))


@pytest.mark.fault(
    "DVC dies alone; the stage trains on unseen, and writes over newer results minutes later.",
    "It ends too, at once, and writes nothing.",
)
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_stage_ends_with_dvc(workspace, signal_number):  # SIGHUP: the terminal is closed
    history = longer(workspace, 500)
    process = start(workspace, "repro", "--single-item", STAGE)
    wait_until(history.exists)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("stages.train" in " ".join(child.cmdline()) for child in children)
    os.kill(process.pid, signal_number)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert "DVC has ended, so this stage ends, too" in (workspace / "log").read_text()
    assert not (workspace / MODEL).exists()


@pytest.mark.fault(
    "Ctrl-C during `dvc repro`, also in the first second of a stage.",
    "A sentence says what to type to go on; no traceback.",
)
def test_ctrl_c_is_answered_in_a_sentence(workspace):
    history = longer(workspace, 500)
    process = start(workspace, "repro", "--single-item", STAGE)
    wait_until(history.exists)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) != 0
    printed = (workspace / "log").read_text()
    assert STOPPED in printed
    assert "Traceback" not in printed
    assert not (workspace / MODEL).exists()


def test_ctrl_c_that_a_library_loses_is_answered_in_a_sentence_too():
    code = "import time\nfrom stages.common import entry\nentry.GRACE = 0.5\ndef main():\n  while True:\n    try:\n"
    code += "      print('works', flush=True); time.sleep(60)\n    except KeyboardInterrupt: pass\n"
    code += "entry.entry_point(main)()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )
    assert process.stdout.readline() == "works\n"
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert (process.returncode, printed.strip()) == (INTERRUPTED, STOPPED)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not tell what a process has loaded")
@pytest.mark.parametrize("name", ["check", "train", "predict"])
def test_ctrl_c_is_answered_while_libraries_are_loaded(name):
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{name}"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )
    wait_until(lambda: "numpy" in Path(f"/proc/{process.pid}/maps").read_text())
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert printed.strip() == STOPPED


@pytest.mark.fault(
    "Two `dvc repro` of different stages run at once in one workspace.", "Both results are recorded; nothing is lost."
)
def test_two_commands_at_once_lose_nothing(workspace):
    history = longer(workspace, 30)
    edit(workspace, lambda content: content["eda"].update(samples_per_class=5))
    processes = [
        subprocess.Popen([sys.executable, "-m", "dvc", "repro", "--single-item", name], cwd=workspace, env=ENVIRONMENT)
        for name in (STAGE, "eda")
    ]
    codes = [process.wait(120) for process in processes]
    if any(codes):  # DVC refuses one of them while the other writes `dvc.lock`
        for name in (STAGE, "eda"):
            run(workspace, "dvc", "repro", "--single-item", name)
    assert "up to date" in run(workspace, "dvc", "status", STAGE, "eda")
    assert len(history.read_text().splitlines()) == 1 + 30


@pytest.mark.fault(
    "Experiments in temporary folders, or two of the queue, run at once, and beside `dvc repro`.",
    "Each has the result that it has alone, under its own parameters.",
)
@pytest.mark.parametrize("kind", ["--temp", "--queue"])
def test_experiments_at_once_mix_nothing(workspace, kind):
    rates = ("0.002", "0.004")
    experiments = [
        ("exp", "run", kind, "--name", f"rate-{place}", "-S", f"models.plain.learning_rate={rate}", STAGE)
        for place, rate in enumerate(rates)
    ]
    if kind == "--queue":
        for one in experiments:
            run(workspace, "dvc", *one)
        experiments = [("exp", "run", "--run-all", "--jobs", "2")]
    with ThreadPoolExecutor() as pool:
        ended = [pool.submit(type_until_it_runs, workspace, *one) for one in experiments]
        edit(workspace, lambda content: content["models"]["small"].update(epochs=2))
        type_until_it_runs(workspace, "repro", "--single-item", "train@small-0")
        for one in ended:
            one.result()
    shown = json.loads(run(workspace, "dvc", "exp", "show", "--json"))
    ended = [experiment["revs"][0] for place in shown for experiment in place.get("experiments") or []]
    assert sorted(one["name"] for one in ended) == ["rate-0", "rate-1"]
    for one in ended:
        rate = one["data"]["params"]["params.yaml"]["data"]["models"]["plain"]["learning_rate"]
        assert one["name"] == f"rate-{rates.index(str(rate))}"
        lock = run(workspace, "git", "show", f"{one['rev']}:dvc.lock")
        edit(workspace, lambda content, rate=rate: content["models"]["plain"].update(learning_rate=rate))
        run(workspace, "dvc", "repro", "--force", "--single-item", STAGE)
        assert hashes(workspace)[str(MODEL)] in lock


@pytest.mark.fault(
    "DVC dies while its stage still loads its modules: the stage does not know its parent.",
    "It ends before it does anything.",
)
def test_a_stage_whose_dvc_died_before_it_began_does_nothing(workspace):
    longer(workspace, 500)
    process = start(workspace, "repro", "--single-item", STAGE)

    def stages_of_it() -> list[psutil.Process]:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "stages.train" in " ".join(child.cmdline())]

    wait_until(stages_of_it)
    children = stages_of_it()
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert "training plain-0" not in (workspace / "log").read_text()


@pytest.mark.fault(
    "DVC starts stages by a shell that nobody thought of, and dies.", "The stage knows DVC behind any shell, and ends."
)
def test_a_stage_ends_with_dvc_behind_any_shell(workspace, monkeypatch):
    shell = workspace.parent / "myshell"
    shutil.copy(Path("/bin/sh").resolve(), shell)
    history = longer(workspace, 500)
    monkeypatch.setitem(ENVIRONMENT, "SHELL", str(shell))
    process = start(workspace, "repro", "--single-item", STAGE)
    wait_until(history.exists)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive


def test_what_a_killed_stage_left_is_removed(workspace):
    left = workspace / "reports/history/.plain-0.part0123.csv"
    longer(workspace, 2)
    left.write_text("epoch\n1")
    run(workspace, "dvc", "repro", "--single-item", STAGE)
    assert not left.exists()


# --- An incomplete lock ---


@pytest.mark.fault(
    "DVC is killed while it writes `dvc.lock`: every later command fails, or stages are lost silently and train again.",
    "`make run` and `python -m stages.check` repair the file from git or a copy, and say so.",
)
@pytest.mark.parametrize("known", ["git", "copy"])
def test_an_incomplete_lock_is_repaired_wherever_it_ends(dry_workspace, known):
    lock, copy = dry_workspace / "dvc.lock", dry_workspace / ".dvc/tmp/lock.copy.yaml"
    whole = lock.read_bytes()
    copy.unlink(missing_ok=True)
    if known == "copy":
        copy.write_bytes(whole)
    ends = [0, 1, 20, 25, 8192, 16384, len(whole) // 2, len(whole) - 1]
    ends += [whole.index(b"\n", end) + 1 for end in (30, 5000, len(whole) // 2)]  # at the end of a line: it may be YAML
    ends += [whole.index(b"\n  train@plain-0:") + 1, whole.index(b"\n  report:") + 1]  # whole entries, but not all
    for end in ends:
        lock.write_bytes(whole[:end])
        output = run(dry_workspace, "python", "-m", "stages.check")
        if known == "git" and whole[:end].endswith(b"\n") and end in ends[-2:]:
            continue  # without a copy, the last entries may be missing for good reasons
        assert "dvc.lock was incomplete" in output, end
        assert lock.read_bytes() == whole, end
    lock.write_bytes(whole)
    assert "incomplete" not in run(dry_workspace, "python", "-m", "stages.check")


@pytest.mark.fault(
    "A bit of `dvc.lock` is flipped: every command of DVC fails at a key or a value that it does not know.",
    "`make run` and `python -m stages.check` repair the file from git or a copy, and say so.",
)
def test_a_damaged_lock_is_repaired_wherever_dvc_would_fail_at_it(dry_workspace, monkeypatch):
    monkeypatch.chdir(dry_workspace)
    lock, copy = dry_workspace / "dvc.lock", dry_workspace / ".dvc/tmp/lock.copy.yaml"
    whole = lock.read_bytes()
    copy.write_bytes(whole)
    places = np.random.default_rng(0).choice(len(whole), 20, replace=False)
    marks = [
        b"      - https:",
        b"    - path:",
        b"  deps:",
        b"  outs:",
        b"  params:",
        b" hash: ",
        b" path: ",
        b" nfiles: ",
    ]
    keys = [whole.index(mark) + 3 for mark in marks]
    try:
        for place in [*keys, keys[-1] + 6, *places]:
            damaged = bytearray(whole)
            damaged[place] ^= 2
            lock.write_bytes(damaged)
            said = lock_file.repair()
            assert lock.read_bytes() == (whole if said else damaged), place
            COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(lock.read_bytes()))
    finally:
        lock.write_bytes(whole)
        copy.unlink()


@pytest.mark.fault(
    "`make run` is typed while another DVC writes `dvc.lock`, of which a part is there.",
    "It waits until that is written; if DVC works on for long, a sentence says so. What DVC writes is kept.",
)
def test_what_another_dvc_writes_is_not_repaired(dry_workspace, monkeypatch):
    monkeypatch.chdir(dry_workspace)
    lock, copy = dry_workspace / "dvc.lock", dry_workspace / ".dvc/tmp/lock.copy.yaml"
    whole = lock.read_text()
    copy.write_text(whole)
    new = whole.replace("\n  report:\n", "\n  report:\n    cmd: 'true'\n  reports:\n", 1)  # DVC adds an entry
    lock.write_text(new[: len(new) // 2])
    held = zc.lockfile.LockFile(str(dry_workspace / lock_file.MUTEX))

    def write() -> None:
        lock.write_text(new)
        held.close()

    try:
        monkeypatch.setattr(lock_file, "PATIENCE", 0)
        with pytest.raises(InputError, match="another command of DVC works here"):
            lock_file.repair()
        assert lock.read_text() == new[: len(new) // 2]
        monkeypatch.setattr(lock_file, "PATIENCE", 60)
        threading.Timer(1, write).start()
        assert lock_file.repair() == ""
        assert lock.read_text() == new
    finally:
        held.close()
        lock.write_text(whole)
        copy.unlink(missing_ok=True)


@pytest.mark.fault(
    "DVC is killed while it writes `dvc.lock`, and `make run` is typed, with or without JOBS.",
    "It repairs the file before anything runs, and says so.",
)
@pytest.mark.parametrize("command", [("stages.run",), ("stages.parallel",)])
def test_a_run_repairs_the_lock_first(workspace, command):
    lock = workspace / "dvc.lock"
    whole = lock.read_bytes()
    lock.write_bytes(whole[: len(whole) // 2])
    output = run(workspace, "python", "-m", *command)
    assert "dvc.lock was incomplete" in output
    assert ran(output) <= {"check"}
    assert lock.read_bytes() == whole


def test_a_cut_within_a_new_entry_is_noticed(dry_workspace, monkeypatch):
    monkeypatch.chdir(dry_workspace)
    lock, copy = dry_workspace / "dvc.lock", dry_workspace / ".dvc/tmp/lock.copy.yaml"
    whole = lock.read_text()
    copy.write_text(whole)
    start = whole.index("\n  report:\n") + 1
    new = re.sub(r"md5: [0-9a-f]{4}", "md5: 0000", whole[start:])  # as after a change of what it reads
    lines = new.splitlines(keepends=True)
    try:
        for count in range(1, len(lines), 3):  # a file has four lines
            lock.write_text(whole[:start] + "".join(lines[:count]))
            assert "dvc.lock was incomplete" in lock_file.repair(), count
            assert lock.read_text() == whole, count
    finally:
        lock.write_text(whole)
        copy.unlink(missing_ok=True)


@pytest.mark.fault("`dvc commit` is killed.", "`make run` repairs what it left; the results are as they were.")
def test_a_killed_commit_loses_nothing(workspace):
    lock, code = workspace / "dvc.lock", workspace / "stages/common/errors.py"
    before, ended = hashes(workspace), []
    for seconds in (0, 0, 0.01, 0.03, 0.1):
        with code.open("a") as file:
            file.write("# edited\n")  # an entry of each stage that reads it is written anew
        written = lock.stat().st_mtime_ns
        process = start(workspace, "commit", "--force", "--quiet")
        wait_until(lambda written=written: not lock.exists() or lock.stat().st_mtime_ns != written)
        time.sleep(seconds)
        process.kill()
        ended.append(process.wait())
        run(workspace, "python", "-m", "stages.check")
        run(workspace, "dvc", "status")
    assert -signal.SIGKILL in ended  # not all of them had ended already
    run(workspace, "dvc", "commit", "--force", "--quiet")
    assert ran(run(workspace, "dvc", "repro")) == set()
    assert hashes(workspace) == before


def test_no_stage_runs_for_what_a_killed_dvc_left_among_the_results(dry_workspace):
    left = [
        dry_workspace / place / ".2hBk0dGmXzVqk3l5yY1HSw.tmp" for place in ("reports/history", "data/predictions/test")
    ]
    before = planned(dry_workspace), run(dry_workspace, "git", "status", "--porcelain")
    for path in left:
        path.write_text("test")
    try:
        assert (planned(dry_workspace), run(dry_workspace, "git", "status", "--porcelain")) == before
    finally:
        for path in left:
            path.unlink()


def test_entries_of_other_stages_of_a_user_are_whole():
    other = (
        "  mine:\n    cmd:\n    - echo 1\n    - echo 2\n    deps:\n    - path: https://example.org/x\n      etag: '1'\n"
    )
    assert lock_file.is_whole(other)
    assert not lock_file.is_whole(other + "    - path: data/x\n      hash: md5\n      md5: 0123\n      size: 1\n")
    assert not lock_file.is_whole(other[:-3])


def test_an_incomplete_lock_of_which_nothing_is_known_keeps_what_is_whole(workspace):
    lock = workspace / "dvc.lock"
    text = lock.read_text()
    (workspace / ".dvc/tmp/lock.copy.yaml").unlink(missing_ok=True)
    run(workspace, "git", "rm", "--quiet", "--cached", "dvc.lock")
    run(workspace, "git", "commit", "--quiet", "--message", "No lock")
    end = text.index("\n  report:\n") + 1
    lock.write_text(text[: end + 100])
    assert "dvc.lock was incomplete" in run(workspace, "python", "-m", "stages.check")
    assert lock.read_text() == text[:end]
    assert ran(run(workspace, "dvc", "repro")) == {"report"}


def test_each_stage_keeps_a_copy_of_the_lock(workspace):
    copy = workspace / ".dvc/tmp/lock.copy.yaml"
    copy.unlink(missing_ok=True)
    edit(workspace, lambda content: content["eda"].update(samples_per_class=5))
    run(workspace, "dvc", "repro", "eda")
    before = copy.read_text()
    assert "  report:\n" in before
    run(workspace, "dvc", "repro", "report")
    entry = re.search(r"(?m)^  eda:\n(    .*\n|    - .*\n)*", (workspace / "dvc.lock").read_text())[0]
    assert entry not in before
    assert entry in copy.read_text()


def test_an_earlier_lock_or_none_is_not_called_incomplete(workspace):
    lock, copy = workspace / "dvc.lock", workspace / ".dvc/tmp/lock.copy.yaml"
    text = lock.read_text()
    copy.write_text(text + text[text.index("\n  report:\n") + 1 :].replace("report", "later"))
    assert "incomplete" not in run(workspace, "python", "-m", "stages.check")  # as committed
    lock.unlink()
    assert "incomplete" not in run(workspace, "python", "-m", "stages.check")
    assert not lock.exists()


def test_a_lock_with_both_sides_of_a_merge_is_told(workspace):
    lock = workspace / "dvc.lock"
    lock.write_text(lock.read_text().replace("\n  report:\n", "\n<<<<<<< HEAD\n  report:\n=======\n>>>>>>> other\n"))
    output = run(workspace, "python", "-m", "stages.check", succeeds=False)
    assert "git checkout --ours dvc.lock" in output
    assert "<<<<<<<" in lock.read_text()


# --- A foreign model ---


@pytest.mark.fault("A foreign model lies under the right name, and is evaluated.", "It is refused.")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "small"}, "its run is small-0, but should be plain-0"),
        ({"seed": 1}, "its run is plain-1, but should be plain-0"),
        ({"split_sha256": "0" * 64}, "its split_sha256 is 000"),
        ({"parameters": {"learning_rate": 0.5}}, "its learning_rate is 0.5, but should be 0.001"),
        ({"parameters": {"unknown": 1}}, "its unknown is 1, but should be None"),
        ({"versions": {"keras": "2.0"}}, "its keras is 2.0, but should be"),
        ({"versions": None}, "its origin.json is no mapping of what this project writes"),
        ({"parameters": []}, "its origin.json is no mapping of what this project writes"),
        ({"model": GONE}, "does not say its model"),
        ({"split_sha256": GONE, "parameters": GONE}, "does not say its parameters, split_sha256"),
        ({"more": "x" * 1_000_001}, "its origin.json has 1,00"),
        ({"more": DEEP}, "has no origin"),
    ],
)
def test_a_foreign_model_is_not_evaluated(workspace, change, named):
    path = workspace / MODEL
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    origin = json.loads(members["origin.json"])
    for key, value in change.items():
        origin[key] = origin[key] | value if isinstance(value, dict) else value
    origin = {key: value for key, value in origin.items() if value is not GONE}
    members["origin.json"] = json.dumps(origin).replace(f'"{DEEP}"', "[" * 100_000).encode()
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    output = run(workspace, "python", "-m", "stages.evaluate", "plain", "--seed", "0", succeeds=False)
    assert named in output
    assert "Traceback" not in output
    if set(change) & {"model", "seed"} and GONE not in change.values():
        edit(workspace, lambda content: content.update(models={"plain": content["models"]["plain"]}))
        edit(workspace, lambda content: content["audit"].update(model="plain"))
        assert named in run(workspace, "python", "-m", "stages.select", succeeds=False)


@pytest.mark.parametrize(("place", "value"), [(6, 1), (8, 77)])  # in the header: encrypted; an unknown compression
def test_a_model_that_cannot_be_unpacked_is_told(tmp_path, place, value):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("origin.json", "{}")
    content = bytearray(path.read_bytes())
    content[place] = content[content.index(b"PK\1\2") + place + 2] = value
    path.write_bytes(content)
    with pytest.raises(InputError, match="has no origin"):
        runs.read_origin(path)


def test_damaged_predictions_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = runs.PREDICTIONS / "val" / "plain-0.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"plain-0\.npz is damaged"):
        runs.load_predictions("val", "plain-0")
