"""DVC records what ran: code from a copy, no edits during a run, no damaged input, no stage that outlives DVC."""

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from dvc.repo import Repo

from stages.base.errors import Damaged, InputError
from stages.runner import guard, orphans
from stages.runner.graph import Stage, fingerprint, read_stage
from tests.conftest import ROOT, run, start, wait_until


def test_an_entry_is_what_dvc_makes_of_it_and_no_value_reaches_a_shell(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = Repo(config={"core": {"no_scm": True}}).index.stages
    assert found
    for one in found:
        stage = read_stage(one.addressing)
        files = [dependency.def_path for dependency in one.deps if not hasattr(dependency, "params")]
        keys = [key for dependency in one.deps for key in getattr(dependency, "params", [])]
        assert sorted(map(str, stage.dependencies)) == sorted(files), one.addressing
        assert sorted(map(str, stage.results)) == sorted(out.def_path for out in one.outs), one.addressing
        assert sorted(stage.parameters) == sorted(keys), one.addressing
        name = '"$DVC_STAGE"' if "@" in one.addressing else one.addressing
        assert one.cmd.partition(" #")[0] == f"python -E -m stages.start {name}"
    for name in ("train@no_model-0", "train", "other", "check@cnn-0"):
        with pytest.raises(InputError, match=f"define no stage {name}: "):
            read_stage(name)


def test_a_fingerprint_has_every_value_and_every_file_that_dvc_does_not_ignore(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("rate: 1\nmodels: {small: {widths: [1, 2], deep: {name: x}, empty: {}}}\nother: 3\n")
    Path(".dvcignore").write_text((ROOT / ".dvcignore").read_text())
    kept = ("stages/b.py", "stages/inner/a.py", "stages/.hidden", "data")
    of_editors = (
        ".a.py.swp",
        "a.py~",
        ".#a.py",
        "#a.py#",
        ".a.py.kate-swp",
        "a.py___jb_tmp___",
        "4913",
        "a.py.bak",
        ".~a.py",
    )
    for name in (*kept, "stages/a.pyc", "stages/.a.part1.py", *(f"stages/{name}" for name in of_editors)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    values = {"rate": "1", "models.small.widths": "[1, 2]", "models.small.deep.name": '"x"', "models.small.empty": "{}"}
    values |= {"missing.key": "null"}
    expected = {f"{key} of params.yaml": value for key, value in values.items()} | {"gone": ""}
    expected |= {name: hashlib.md5(name.encode()).hexdigest() for name in kept}
    one = Stage("mine", ("rate", "models.small", "missing.key"), (Path("stages"), Path("data"), Path("gone")), ())
    assert fingerprint(one) == expected
    shutil.copytree("stages", tmp_path / "copy")
    Path("stages/b.py").write_text("edited")
    assert fingerprint(one, tmp_path / "copy") == expected


def attempt(edited: str = "data/other", text: str = "") -> None:
    """Run the guarded stage `mine` of the project in the working directory, and edit a file while it runs."""
    shutil.copytree("stages", "copy", dirs_exist_ok=True)
    with guard.guarded(read_stage("mine"), Path("copy")):
        Path("data/result").touch()
        Path(edited).write_text(text)


@pytest.mark.parametrize(
    ("edited", "text", "named"),
    [
        ("params.yaml", "rate: 2\n", r"rate of params\.yaml changed while mine ran \(from 1 to 2\)\."),
        ("stages/base/part.py", "", r"stages/base/part\.py changed while mine ran\."),
        ("data/input", "other", r"data/input changed while mine ran\. .* removed.* Type the command again"),
    ],
)
def test_an_edit_during_a_run_is_refused_and_the_results_are_removed(project, monkeypatch, edited, text, named):
    monkeypatch.chdir(project)
    attempt("params.yaml", "rate: 1\nother: 2\n")  # which the stage does not read
    assert Path("data/result").exists()
    with pytest.raises(InputError, match=named):
        attempt(edited, text)
    assert not Path("data/result").exists()


def test_an_input_that_is_not_as_recorded_is_refused_before_the_stage_runs(project, monkeypatch):
    monkeypatch.chdir(project)
    outs = "    - path: data/{}\n      md5: '00'\n      size: 4\n"
    Path("dvc.lock").write_text(f"stages:\n  first:\n    outs:\n{outs.format('input')}{outs.format('gone')}")
    with pytest.raises(Damaged, match=r"data/input cannot be used: its MD5 is \w+, but dvc\.lock records 00\."):
        attempt()
    assert not Path("data/result").exists()
    Path("dvc.lock").unlink()
    Path("data/result").mkdir()  # in the place of a result
    with pytest.raises(IsADirectoryError):
        attempt()


@pytest.mark.parametrize("is_put_back", [True, False])
def test_code_that_is_edited_while_a_stage_loads_reaches_no_recorded_result(project, is_put_back):
    """Also where it is put back, so that it is at the end what it was at the start."""
    part, right = project / "stages/base/part.py", (project / "stages/base/part.py").read_text()
    for place in ("loading", "end"):
        (project / f"wait-{place}").touch()
    process = start(project, "dvc", "repro")
    wait_until((project / "at-loading").exists)
    part.write_text(right.replace("right", "wrong"))
    (project / "params.yaml").write_text("rate: 2\n")
    (project / "wait-loading").unlink()
    wait_until((project / "at-end").exists)
    assert (project / "data/result").read_text() == "right input\n"
    if is_put_back:
        part.write_text(right)
        (project / "params.yaml").write_text("rate: 1\n")
    (project / "wait-end").unlink()
    status, printed = process.wait(), (project / "log").read_text()
    assert (project / "data/result").exists() == (project / "dvc.lock").exists() == (status == 0) == is_put_back, (
        printed
    )
    assert "at rate 1" in printed
    if is_put_back:
        assert hashlib.md5(right.encode()).hexdigest() in (project / "dvc.lock").read_text()
    else:
        assert "error: rate of params.yaml, stages/base/part.py changed while mine ran" in printed


def test_a_stage_ends_with_dvc_and_records_nothing_behind_any_shell(project, tmp_path):
    shutil.copy(Path("/bin/sh").resolve(), tmp_path / "myshell")
    (project / "wait-1").touch()
    process = start(project, "dvc", "repro", SHELL=str(tmp_path / "myshell"))
    wait_until((project / "at-1").exists)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("stages.start" in child.cmdline() for child in children)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert "DVC has ended, so this stage ends, too. Nothing is recorded." in (project / "log").read_text()
    assert not (project / "data/result").exists()
    assert not (project / "dvc.lock").exists()


@pytest.mark.parametrize("typed", ["dvc repro -f mine", "dvc repro -sf", "dvc repro --force", "dvc repro -s mine-f"])
def test_a_forced_run_is_known_by_dvcs_command(monkeypatch, typed):
    monkeypatch.setattr(orphans, "ancestors", lambda: [SimpleNamespace(cmdline=typed.split)])
    assert orphans.is_forced() == (not typed.endswith("mine-f"))


def test_a_stage_runs_without_dvc_unguarded_and_one_that_is_not_there_is_told(project):
    run(project, "python", "-m", "stages.start", "mine")
    assert (project / "data/result").read_text() == "right input\n"
    assert list((project / ".dvc/tmp").iterdir()) == [project / ".dvc/tmp/code"]
    assert "there is no stage other: `dvc" in run(project, "python", "-m", "stages.start", "other", succeeds=False)
