"""Stages that do not need each other run at once, in the project (`make run`) and in copies of it (`make search`)."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from concurrent.futures import Future
from io import BytesIO
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from stages import run as command
from stages.base.errors import InputError
from stages.cluster import here
from stages.cluster.copies import failure
from stages.cluster.here import LOGS, jobs_for, running_here
from stages.cluster.pool import FOLDER, alone, copies_here, pack
from stages.runner.plan import Plan, priorities, read_plan
from tests.conftest import ENVIRONMENT, commit, edit, hashes, processes_in, ran, run, wait_until

ANY = ("python", "-m", "stages.run")
# A graph with all kinds of results: in DVC's cache and not, none, in folders; of a matrix, added, frozen.
GRAPH = """\
stages:
  check: {cmd: "true", deps: [source]}
  old: {cmd: "false", frozen: true, outs: [frozen: {cache: false}]}
  prepare: {cmd: cp source data/prepared, deps: [source], outs: [data/prepared]}
  train:
    matrix: {item: "${items}"}
    cmd: >-
      echo "warning: few"; for i in 1 2 3; do sleep ${wait}; echo $i >> reports/history; done;
      cp data/prepared data/models/${item.item}; grep -o "${item.item}: [0-9]*" params.yaml > reports/metrics/${item.item}
    params: ["items.${item.item}", wait, devices]
    deps: [data/prepared]
    outs: ["data/models/${item.item}"]
    metrics: ["reports/metrics/${item.item}": {cache: false}]
  select:
    cmd: cat data/models/* > data/selected; cat reports/metrics/* new > reports/selection
    deps: [data/models, reports/metrics, new]
    outs: [data/selected, reports/selection: {cache: false}]
  report:
    cmd: mkdir reports/figures; cp data/selected reports/selection added reports/figures
    deps: [data/selected, added, reports/selection]
    outs: [reports/figures: {cache: false}]
"""


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """A project of DVC in a folder of a larger git repository, whose stages take no time; the current folder."""
    project = tmp_path / "a repository ü" / "project"
    files = {"dvc.yaml": GRAPH, "params.yaml": "items: {a: 1, b: 2}\nwait: 0\ndevices: 1\n", ".gitignore": "/data/\n"}
    places = ("data/models/.keep", "reports/metrics/.keep", "reports/figures/of-a-removed-model", "../other")
    for name in (*files, "source", "new", "frozen", "added", *places):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(files.get(name, f"{name}\n"))
    monkeypatch.chdir(project)
    run(project.parent, "git", "init", "--quiet")
    with Repo.init(subdir=True) as repo:
        repo.add("added")
    commit(project.parent, "First")
    return project


def run_here(*targets: str) -> list:
    """Run stages of a project in the current folder; return what became of them."""
    plan = read_plan(list(targets))
    with running_here(2) as pool:
        return command.run_plan(pool, plan)


def files_in(folder: Path) -> dict[str, bytes]:
    """The files that a project consists of, by their paths, but not DVC's own."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".dvc" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_results_are_the_same_bytes_as_serially(toy, tmp_path, capsys):
    Path("new").write_text("edited\n")  # and not committed
    Path("data/models/of-a-removed-seed").write_text("left")
    serial = Path(shutil.copytree(toy.parent, tmp_path / "serial"), "project")
    ended = run_here()
    assert {done["stage"]: done["status"] for done in ended} == dict.fromkeys(
        ("check", "prepare", "train@a", "train@b", "select", "report"), 0
    )
    assert "[6 of 6 at " in capsys.readouterr().out
    assert read_plan([]) == Plan({}, {})
    run(serial, "dvc", "repro")
    expected, found = files_in(serial), files_in(toy)
    entries = [yaml.safe_load(files.pop("dvc.lock"))["stages"] for files in (expected, found)]
    entries[0].pop("old")  # which `dvc repro` records, but does not run
    assert entries[0] == entries[1]
    assert len(found.pop("reports/history")) == len(expected.pop("reports/history"))  # of two stages at once
    assert found == expected
    assert "reports/figures/of-a-removed-model" not in found


def test_what_is_restored_and_any_error_are_told_and_files_stay_private(toy, monkeypatch, capsys):
    before = os.umask(0o077)
    try:
        run_here("train")
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    Path("data/models/a").unlink()
    run_here("train@a")
    assert "train@a was restored after 0:0" in capsys.readouterr().out
    run_here("select")
    edit(toy, lambda content: content.update(wait=0.01))  # which makes the same models again
    run_here("select")
    assert "select: nothing that it needs changed" in capsys.readouterr().out
    Path("source").write_text("another\n")
    monkeypatch.setattr(here, "Repo", lambda **_: 1 / 0)
    (failed,) = [done for done in run_here("check") if done["status"]]
    assert failed["log"] == "ZeroDivisionError: division by zero\n"


def test_results_that_are_missing_are_made_again_or_restored(toy):
    def ran_so_often() -> int:
        return Path("reports/history").read_text().count("3")

    run_here("train@a")
    Path("data/models/a").unlink()
    assert len(run_here("train@a")) == ran_so_often() == 1
    assert Path("data/models/a").exists()
    lock = Path("dvc.lock").read_text()
    shutil.rmtree(".dvc/cache")
    for path in ("data/prepared", "data/models/a"):
        Path(path).unlink()
    assert len(run_here("train@a")) == ran_so_often() == 2
    assert Path("dvc.lock").read_text() == lock


def test_a_failure_stops_only_what_needs_it(toy, capsys):
    Path("dvc.yaml").write_text(GRAPH.replace("cp data/prepared", "test ${item.item} = b || exit 3; cp data/prepared"))
    command.tell(run_here("select"), told="")
    out, err = capsys.readouterr()
    assert "select does not run: it needs a stage that failed" in out
    assert "exited with 3" in err.partition("train@a failed")[2]
    assert err.endswith("To run it again: dvc repro train@a\n")
    assert set(read_plan(["prepare", "train"]).needs) == {"train@a"}


def test_a_stage_with_other_values_is_watched_and_can_be_stopped(toy):
    class Stop(Exception):
        pass

    def stop(content: str) -> None:
        seen.append(content)
        if "3" in content:
            raise Stop

    seen = []
    run_here("prepare")
    before = files_in(toy)
    with copies_here(2) as pool:
        values = ["++items.a=7", "wait=0.2"]
        whole = pool.submit("train@a", values)
        stopped = pool.submit("train@a", ["wait=1"], "reports/history", stop)
        assert whole.result()["results"] == {"reports/metrics/a": {"reports/metrics/a": b"a: 7\n"}}
        assert whole.result()["entry"]["params"]["params.yaml"]["items.a"] == 7
        with pytest.raises(Stop):
            stopped.result()
    assert seen[-1] == "1\n2\n3\n"
    assert files_in(toy) == before
    assert [process.pid for process in processes_in(toy)] == [os.getpid()]


@pytest.mark.parametrize("git", [True, False])
def test_a_copy_has_the_edits_and_the_last_commit_but_no_data(toy, git):
    (toy / "data" / "large").write_text("large")
    Path("new").unlink()
    Path("source").write_text("edited")
    Path("newer").write_text("newer")
    if not git:  # as from a ZIP
        shutil.rmtree("../.git")
        run(toy, "dvc", "config", "--local", "core.no_scm", "true")
    with Repo() as repo:
        content, inside = pack(repo)
    copy = toy / "data" / "copy"
    with tarfile.open(fileobj=BytesIO(content)) as archive:
        archive.extractall(copy)
    found = files_in(copy / inside)
    assert inside == ("project" if git else ".")
    assert (found["source"], found["newer"]) == (b"edited", b"newer")
    assert not {"new", "data/large"} & found.keys()
    assert not (copy / "other").exists()
    for path in ("source", "dvc.yaml") if git else ():
        log = ("git", "log", "-1", "--format=%H", "--", path)
        assert run(copy / inside, *log) == run(toy, *log) != ""


def test_two_at_once_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (FOLDER / "left").mkdir(parents=True)  # by a command that was killed
    with alone():
        assert not FOLDER.exists()
        with pytest.raises(InputError, match="another command"), alone():
            pass
    with alone():
        pass


def test_the_longest_chain_goes_first():
    needs = {"a": [], "b": [], "c": ["b"], "d": ["a", "b", "c"]}
    assert priorities(needs, {"a": 5, "b": 1, "c": 2, "d": 4}) == {"a": 9, "b": 7, "c": 6, "d": 4}


def test_as_many_stages_run_at_once_as_the_cores_allow(monkeypatch):
    monkeypatch.setattr(here, "GPUS", [Path("no GPU")])
    monkeypatch.setattr(here, "cores", lambda: 4)
    assert [jobs_for(threads) for threads in (1, 2, 3, 8)] == [4, 2, 1, 1]
    monkeypatch.setattr(here, "GPUS", [Path("no GPU"), Path("/")])
    assert jobs_for(1) == 1


@pytest.mark.parametrize(
    ("slots", "order"),
    [(1, ["train@b-0", "train@a-0", "eda", "report"]), (2, ["train@b-0", "eda", "train@a-0", "report"])],
)
def test_the_shortest_training_goes_first_then_the_longest_chain(slots, order, monkeypatch):
    class Pool:
        remote = False

        def submit(self, name: str, results: dict) -> Future:
            begun.append(name)
            future = Future()
            future.set_result(failure(name, "", 0))
            return future

    begun, seconds = [], {"train@a-0": 9, "train@b-0": 5, "eda": 3, "report": 20}
    Pool.slots = slots
    monkeypatch.setattr(command, "read_seconds", lambda: seconds)
    command.run_plan(Pool(), Plan({name: ["eda"] if name == "report" else [] for name in seconds}, {}))
    assert begun == order


def test_warnings_of_stages_that_ended_are_shown_once(capsys):
    logs = {"a": "Running\nwarning: a: no.\nnote: x\n", "b": "note: x\nwarning: b: none.\nwarning", "c": "warning: c"}
    command.tell([failure(name, log, int(name == "c")) for name, log in logs.items()], told="warning: b: none.")
    assert capsys.readouterr().err.splitlines()[:3] == ["warning: a: no.", "note: x", ""]


def test_wrong_options_and_targets_are_refused_in_a_sentence(toy, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    for options, said in (
        (("--jobs", "0"), "must be 1 or more"),
        (("--scheduler", "tcp://a:1"), "make installed-parallel"),
    ):
        monkeypatch.setattr(sys, "argv", ["parallel", *options])
        with pytest.raises(InputError, match=said):
            command.arguments()
    with pytest.raises(InputError, match="nothing"):
        read_plan(["nothing"])


def start(folder: Path, *options: str) -> subprocess.Popen:
    """Start `stages.run`, whose output goes into the file `log` beside the folder."""
    arguments, log = [sys.executable, "-m", "stages.run", *options], (folder.parent / "log").open("w")
    return subprocess.Popen(arguments, cwd=folder, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT)


def at_its_start(folder: Path, stage: str, code: str) -> None:
    """Let a stage run this code first."""
    path = folder / "stages" / f"{stage}.py"
    begin = "def main() -> None:\n"
    path.write_text(path.read_text().replace(begin, f"{begin}    {code}\n", 1))


@pytest.mark.slow
def test_a_cold_graph_gives_the_same_bytes_as_serially(finished, tmp_path):
    folder = tmp_path / "cold"  # with a cache of its own
    run(tmp_path, "git", "clone", "--quiet", str(finished), str(folder))
    printed = run(folder, *ANY, "--jobs", "2")
    assert "The report: " in printed
    expected, found = hashes(finished), hashes(folder)
    differ = {path for path in expected | found if expected.get(path) != found.get(path)}
    assert all("export" in path for path in differ)  # it names the last commit, of which `finished` had none
    assert ran(run(folder, "dvc", "repro")) == set()
    origin = json.loads((folder / "reports/export.json").read_text())
    assert origin["about"][0]["commit"] == run(finished, "git", "rev-parse", "HEAD").strip()
    took = [line.split(",") for line in (folder / "reports/timing/stages.csv").read_text().splitlines()[1:]]
    assert {"prepare", "train@small-0", "select", "report"} <= {name for name, *_ in took}
    assert all(float(cell) > 0 for _, *cells in took for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_run_that_was_stopped(workspace, number):
    at_its_start(workspace, "explain", '__import__("time").sleep(60)')
    edit(workspace, lambda content: content["eda"].update(samples_per_class=5))
    process, log = start(workspace), workspace.parent / "log"
    wait_until(lambda: "eda: " in log.read_text())
    process.send_signal(number)
    assert process.wait(30) != 0
    wait_until(lambda: processes_in(workspace) == [], 30)
    run(workspace, "git", "checkout", "stages/explain.py")
    assert ran(run(workspace, "dvc", "repro")) <= {"check", "report"}  # eda is kept, explain restored as it was
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_an_edit_during_the_run_is_told(workspace):
    at_its_start(workspace, "explain", '__import__("time").sleep(5)')
    process, log = start(workspace), workspace.parent / "log"
    wait_until((workspace / LOGS / "explain.log").exists)
    edit(workspace, lambda content: content["eda"].update(samples_per_class=5))
    assert process.wait(600) == 0, log.read_text()
    again = re.search("note: (.*) run again, because something was edited", log.read_text())[1]
    assert set(again.split(", ")) == {"check", "eda", "report"}
    assert ran(run(workspace, "dvc", "repro")) == set()
