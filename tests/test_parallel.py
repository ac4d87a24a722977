"""`make run JOBS=2`: stages that do not need each other run at once, in copies that fill the cache."""

import argparse
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import pytest
from distributed.comm import CommClosedError
from dvc.lock import LockError
from pandas import read_csv

from stages import parallel
from stages.cluster import archive, clusters, command, cores
from stages.cluster.display import Display, Output
from stages.cluster.execution import LOST, asked_for, result_of
from stages.cluster.plan import UNKNOWN, Plan, priorities
from stages.cluster.worker import gpus_here, not_run, own_cache
from stages.common import environment
from stages.common.entry import UNREAD
from stages.common.errors import InputError
from stages.common.workspace import commit_of
from stages.export import CODE
from tests.conftest import ENVIRONMENT, ROOT, commit, edit, processes_in, ran, run, wait_until
from tests.soak import hashes

ANY = ("python", "-m", "stages.parallel")


def slow_down(folder: Path, stage: str, seconds: float) -> None:
    """Make a stage wait at its start, and say that it does."""
    path = folder / "stages" / f"{stage}.py"
    waits = f'def main() -> None:\n    print("waiting", flush=True)\n    __import__("time").sleep({seconds})\n'
    path.write_text(path.read_text().replace("def main() -> None:\n", waits, 1))


def break_down(folder: Path, stage: str) -> None:
    """Make a stage fail."""
    path = folder / "stages" / f"{stage}.py"
    path.write_text(
        path.read_text().replace("def main() -> None:\n", 'def main() -> None:\n    raise OSError("broken")\n', 1)
    )


def start(folder: Path, *options: str, **environment: str) -> subprocess.Popen:
    with (folder.parent / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "stages.parallel", *options],
            cwd=folder,
            env=ENVIRONMENT | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def without_commit(found: dict[str, str]) -> dict[str, str]:
    """Hashes of results, but not of those that name the last commit: `finished` was built before its first one."""
    return {path: value for path, value in found.items() if "export" not in path}


@pytest.mark.fault(
    "Stages that run at once, in other folders, give other results than one after the other.",
    "Every hash in `dvc.lock` is the same, and `dvc repro` has nothing left to run.",
)
@pytest.mark.parametrize("known", [False, True])
def test_a_cold_graph_gives_the_same_bytes_as_serially(finished, tmp_path, known):
    folder = tmp_path / "cold ü"  # with a cache of its own
    run(tmp_path, "git", "clone", "--quiet", str(finished), str(folder))
    if (
        known
    ):  # of the last run, as in a clone on another machine: times that differ, in results that are not in its cache
        lock = (folder / "dvc.lock").read_text()
        times = r"(path: reports/timing/train/.*\n +hash: md5\n +md5: )...."
        (folder / "dvc.lock").write_text(re.sub(times, r"\g<1>0000", lock))
    else:
        (folder / "dvc.lock").unlink()
    printed = run(folder, *ANY, "--jobs", "2")
    runs = [list(key.iterdir()) for key in (folder / ".dvc/cache/runs").glob("??/*")]
    assert max(map(len, runs)) == 1  # no stage ran twice
    assert without_commit(hashes(folder)) == without_commit(hashes(finished))
    assert "Data and pipelines are up to date" in run(folder, "dvc", "repro")
    assert "train@small-0 runs on worker" in printed
    assert "selected small-0" not in printed  # what `select` prints: `dvc repro` has run nothing, but collected
    assert not (folder / clusters.FOLDER).exists()
    origin = json.loads((folder / "reports/export.json").read_text())
    assert origin["about"][0]["commit"] == commit_of(finished, CODE)
    took = read_csv(folder / "reports/timing/stages.csv")
    assert {"prepare", "train@small-0", "train@plain-0", "select", "report"} <= set(took["stage"])
    assert (took["seconds"] > 0).all()
    again = run(folder, *ANY)
    assert "runs on worker" not in again
    assert "The report: " in again
    assert "The report: " not in run(folder, *ANY, "select")  # after other targets, the table may be older than they


@pytest.mark.fault(
    "A stage fails while others run.",
    "What does not need it goes on and is kept; the end of its log and the command to repeat it are shown; exit status 1.",
)
def test_a_failure_stops_only_what_needs_it(workspace):
    break_down(workspace, "eda")  # edited, and not committed
    edit(workspace, lambda content: content["statistics"].update(bins=14))
    before = (workspace / "reports/eda/samples.png").read_bytes()
    printed = run(workspace, *ANY, succeeds=False)
    assert "eda failed" in printed
    assert "broken" in printed
    assert "dvc repro eda" in printed
    assert "report does not run" in printed
    assert (workspace / "reports/eda/samples.png").read_bytes() == before
    assert ran(run(workspace, "dvc", "repro", "compare")) == set()  # it was collected
    run(workspace, "git", "checkout", "stages/eda.py")
    assert ran(run(workspace, "dvc", "repro")) == {"report"}


@pytest.mark.fault(
    "The command is killed while DVC runs a stage in the project itself, such as `fetch`.",
    "That stage ends, too, nothing is recorded, and the next command is not told that DVC works here.",
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_run_that_was_stopped_while_dvc_ran_a_stage_here(workspace, number):
    slow_down(workspace, "fetch", 100)
    process = start(workspace, "prepare")
    wait_until(lambda: "waiting" in (workspace.parent / "log").read_text())
    process.send_signal(number)
    assert process.wait(30) != 0
    wait_until(lambda: processes_in(workspace) == [], 30)
    run(workspace, "git", "checkout", "stages/fetch.py")
    assert "prepare" not in ran(run(workspace, "dvc", "repro", "prepare"))


def test_warnings_of_stages_that_ended_are_shown_once():
    logs = {"a": "Running\nwarning: a: no class 3.\nnote: x\n", "b": "note: x\nwarning", "c": "warning: c failed"}
    ended = [not_run(name, log) | {"status": int(name == "c")} for name, log in logs.items()]
    assert parallel.warnings_of(ended, told="") == ["warning: a: no class 3.", "note: x"]
    assert parallel.warnings_of(ended, told="warning: a: no class 3.\nwarning: b: none.") == ["note: x"]


@pytest.mark.fault(
    "Another command of DVC holds its lock when a run with several jobs asks what has to run.",
    "A sentence says so; nothing runs.",
)
def test_a_lock_of_dvc_is_told(monkeypatch):
    def locked(_):
        raise LockError("\x1b[36mUnable to acquire lock.")

    monkeypatch.setattr(parallel, "read_plan", locked)
    with pytest.raises(InputError, match=r"^another command of DVC works here: type this again when it has ended\.$"):
        parallel.plan_of([])


@pytest.mark.fault(
    "The computer sleeps, or Ctrl-Z stops the command, for longer than Dask waits for a worker.",
    "Workers in the command's own process are never given up: it goes on.",
)
def test_no_worker_of_this_process_is_given_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with dask.config.set({"distributed.scheduler.worker-ttl": "5s"}), clusters.on_this_machine(1) as client:
        assert client.cluster.scheduler.worker_ttl is None


@pytest.mark.fault(
    "Someone runs stages in a clone in which others have workers by SSH.",
    "The copies of these are left alone.",
)
def test_copies_of_workers_that_others_started_are_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    theirs, ours = clusters.FOLDER / "dask-scratch-space" / "worker", clusters.COPIES / "x"
    theirs.mkdir(parents=True)
    ours.mkdir(parents=True)
    with command.alone():
        assert not ours.exists()
        ours.mkdir(parents=True)
    assert theirs.exists()
    assert not clusters.COPIES.exists()


@pytest.mark.parametrize("name", ["parallel", "search"])
def test_without_the_packages_a_sentence_says_what_to_type(name):
    hide = "import sys, importlib.util as util; find = util.find_spec; sys.modules['distributed'] = None; "
    hide += "util.find_spec = lambda name, *more: None if name == 'distributed' else find(name, *more); "
    printed = run(ROOT, "python", "-c", f"{hide}import stages.{name}", succeeds=False)
    assert "Traceback" not in printed
    assert "type `make installed-parallel`" in printed


def test_users_of_hosts_belong_into_the_configuration_of_ssh():
    given = argparse.Namespace(jobs=None, scheduler=None, ssh="me@a,b")
    with pytest.raises(InputError, match=r"'me@a,b': give hosts alone, and their users in ~/\.ssh/config"):
        command.refuse_options(given)


def test_a_remote_in_the_home_folder_is_the_same_for_the_copies(dry_workspace, monkeypatch):
    monkeypatch.chdir(dry_workspace)
    before = Path(".dvc/config").read_text()
    try:
        Path(".dvc/config").write_text(f"{before}\n[core]\nremote = s\n['remote \"s\"']\nurl = ~/storage\n")
        assert command.absolute_remote() == {'remote "s".url': str(Path.home() / "storage")}
    finally:
        Path(".dvc/config").write_text(before)


@pytest.mark.fault(
    "Ctrl-C, or SIGKILL of everything, while stages run in parallel.",
    "No process goes on, no lock is left, and the next `dvc repro` goes on from what had ended.",
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_run_that_was_stopped(workspace, number):
    slow_down(workspace, "explain", 60)
    edit(workspace, lambda content: content["eda"].update(samples_per_class=5))
    process = start(workspace)
    log = workspace.parent / "log"
    wait_until(lambda: "eda ended" in log.read_text())
    process.send_signal(number)
    assert process.wait(30) != 0
    wait_until(lambda: processes_in(workspace) == [], 30)
    run(workspace, "git", "checkout", "stages/explain.py")
    assert ran(run(workspace, "dvc", "repro")) <= {"check", "report"}  # eda is restored, explain as it was
    if number == signal.SIGINT:
        assert "Traceback" not in log.read_text()
        assert not (workspace / clusters.FOLDER).exists()


@pytest.mark.fault(
    "The process of one stage is killed, as by a system that is out of memory.",
    "The stage failed: it is said by what; the others go on.",
)
def test_a_stage_that_is_killed_has_failed(workspace):
    slow_down(workspace, "explain", 60)
    edit(workspace, lambda content: content["eda"].update(samples_per_class=5))
    process = start(workspace)
    log = workspace.parent / "log"
    wait_until(lambda: "eda ended" in log.read_text())
    (step,) = (one for one in processes_in(workspace) if one.cmdline()[-2:] == ["stages.cluster.step", "explain"])
    step.kill()
    assert process.wait(30) == 1
    assert "killed (SIGKILL)" in log.read_text()
    wait_until(lambda: processes_in(workspace) == [], 30)
    assert ran(run(workspace, "dvc", "repro", "eda")) == set()


def test_what_a_worker_tells_is_shown_in_order_and_once():
    display = Display(["a", "b"], 1, {"a": None, "b": None})
    display.console = Output(file=io.StringIO(), width=100)
    ended = {"stage": "a", "status": 0, "log": ""}
    display.hear({"name": "a", "where": "1", "when": time.time(), "worker": "added by the scheduler"})
    display.hear({"done": ended, "worker": "added by the scheduler"})
    display.hear({"name": "b", "where": "1", "when": time.time()})
    display.end(ended)  # the scheduler tells of it later
    display.hear({"name": "a", "where": "2", "when": time.time()})  # its result was lost with the worker
    said = [line.partition("] ")[2] for line in display.console.file.getvalue().splitlines()]
    assert said == ["a runs on worker 1", "a ended after 0:00", "b runs on worker 1", "a runs again, on worker 2"]


def test_what_a_worker_told_counts_where_the_scheduler_is_lost_before_it_hands_over_the_result():
    class Lost:
        key = "eda/token"

        def __init__(self, cancelled: bool):
            self.cancelled, self.exception = lambda: cancelled, lambda: None

        def result(self):
            raise CommClosedError

    ended = not_run("eda", "") | {"status": 0}
    for future in (Lost(cancelled=True), Lost(cancelled=False)):
        assert result_of(future, {"eda": ended}) == ended
        assert result_of(future) == not_run("eda", LOST)


@pytest.mark.fault("Nobody reads on: `... | head -1`.", "The run ends at once, and nothing of it goes on.")
def test_a_closed_pipe_ends_it(workspace):
    slow_down(workspace, "explain", 60)
    edit(workspace, lambda content: content["eda"].update(samples_per_class=5))
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.parallel"], cwd=workspace, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    while "runs on worker" not in process.stdout.readline():
        pass
    process.stdout.close()
    assert process.wait(60) == UNREAD
    wait_until(lambda: processes_in(workspace) == [], 30)


def test_what_runs_and_waits_and_how_long_is_shown():
    display = Display(["a", "b", "c", "d"], 2, {"a": 60, "b": 30, "c": 10, "d": 10})
    display.console = Output(file=io.StringIO(), width=100)
    now = time.time()
    display.started = now - 20
    display.begin("a", "1", now - 20)
    display.begin("b", "2", now - 20)
    display.end({"stage": "b", "status": 0, "log": ""})
    display.begin("c", "2", now)
    display.console.print(display.table())
    rows = [line.split() for line in display.console.file.getvalue().splitlines()[-4:]]
    assert rows == [
        ["worker", "stage", "elapsed", "expected"],
        ["1", "a", "0:20", "1:00"],
        ["2", "c", "0:00", "0:10"],
        ["1", "stages", "wait", "0:20", "0:30", "to", "go"],  # 40 + 10 + 10 s of work for two workers
    ]


@pytest.mark.fault("Two runs in parallel in one project.", "The second says so, and does nothing.")
def test_two_at_once_are_refused(workspace):
    slow_down(workspace, "explain", 60)
    process = start(workspace)
    wait_until(lambda: "explain runs" in (workspace.parent / "log").read_text())
    assert "another process" in run(workspace, *ANY, succeeds=False)
    process.send_signal(signal.SIGINT)
    process.wait(30)


def test_the_longest_chain_goes_first():
    plan = Plan((), {"a": (), "b": (), "c": ("b",), "d": ("a", "b", "c")}, {})
    assert priorities(plan, {"a": 5, "b": 1, "c": 2, "d": 4}) == {"a": 9, "b": 7, "c": 6, "d": 4}
    assert priorities(plan, {})["d"] == UNKNOWN


def test_gpus_are_divided_among_workers_and_a_training_gets_what_devices_says():
    assert clusters.shares_of([], 3, 1) == [[], [], []]
    assert clusters.shares_of(["0", "1", "2"], 2, 1) == [["0", "2"], ["1"]]
    assert clusters.shares_of(["0", "1", "2"], 8, 1) == [["0"], ["1"], ["2"]]
    assert clusters.shares_of(["0", "1", "2", "3"], 4, 2) == [["0", "2"], ["1", "3"]]
    plan = Plan((), {"train@a-0": ()}, {"train@a-0": 2})
    assert asked_for(plan, [0, 0]) == {}
    assert asked_for(plan, [1, 2]) == {"train@a-0": 2}
    with pytest.raises(InputError, match="the most is 1"):
        asked_for(plan, [1, 1])


def test_cores_are_divided_among_the_stages_that_run():
    assert cores.shares_of([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3, 4]]
    assert cores.shares_of([3, 7], 3) == [[3], [7], [3]]
    assert cores.shares_of([3, 7], 1) == [[3, 7]]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or environment.cores() < 2, reason="needs Linux and two cores")
def test_a_stage_that_runs_alone_has_all_cores():
    whole = os.sched_getaffinity(0)
    program = [sys.executable, "-c", "import time; time.sleep(60)", cores.PROGRAM]
    with cores.divided():
        first = subprocess.Popen(program)
        with subprocess.Popen(program) as second:
            wait_until(lambda: not os.sched_getaffinity(first.pid) & os.sched_getaffinity(second.pid))
            assert os.sched_getaffinity(first.pid) | os.sched_getaffinity(second.pid) == whole
            first.kill()
            first.wait()
            wait_until(lambda: os.sched_getaffinity(second.pid) == whole)
            second.kill()


def test_the_gpus_that_a_process_may_use(monkeypatch):
    for value, names in (("", []), ("-1", []), ("2, 0", ["2", "0"]), ("0,-1,1", ["0"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert gpus_here() == names


def test_a_machine_of_its_own_has_the_cache_that_is_configured_there(tmp_path):
    place = tmp_path / "project" / ".dvc" / "tmp" / "parallel"
    place.mkdir(parents=True)
    assert Path(own_cache(place)) == place.parent / "dvc-cache"  # no project is around it
    (tmp_path / "project" / ".dvc" / "config").touch()
    assert Path(own_cache(place)) == tmp_path / "project" / ".dvc" / "cache"
    (tmp_path / "project" / ".dvc" / "config.local").write_text("[cache]\n    dir = ../../shared\n")
    assert Path(own_cache(place)) == tmp_path / "shared"


def test_a_copy_has_the_edits_and_the_last_commit_but_no_data(dry_workspace, tmp_path):
    assert archive.pack(dry_workspace)[1] == "."
    parameters = dry_workspace / "params.yaml"
    parameters.write_text(parameters.read_text() + "# edited\n")
    (dry_workspace / "stages" / "new.py").write_text("new = 1\n")
    try:
        unpacked = unpack(dry_workspace, tmp_path)
        both = [commit_of(folder, ("params.yaml",)) for folder in (dry_workspace, unpacked)]
        unchanged = [commit_of(folder, ("dvc.yaml",)) for folder in (dry_workspace, unpacked)]
    finally:
        run(dry_workspace, "git", "checkout", "params.yaml")
        (dry_workspace / "stages" / "new.py").unlink()
    assert both[0] == both[1]
    assert both[0].endswith("uncommitted changes")
    assert unchanged[0] == unchanged[1]
    assert len(unchanged[0]) == 40
    assert (unpacked / "params.yaml").read_text().endswith("# edited\n")
    assert (unpacked / "stages" / "new.py").exists()
    assert not (unpacked / "data").exists()


def unpack(folder: Path, into: Path) -> Path:
    """What a worker has of a project."""
    content, inside = archive.pack(folder)
    (into / "copy.tar").write_bytes(content)
    shutil.unpack_archive(into / "copy.tar", into / "copy", filter="data")
    return into / "copy" / inside


def test_a_copy_of_a_project_within_a_larger_repository(tmp_path):
    project = tmp_path / "all" / "project"
    (project / "reports").mkdir(parents=True)
    (project / "dvc.yaml").write_text("stages: {}\n")
    (project / ".gitignore").write_text("/data/\n")
    (project / "data").mkdir()
    (project / "data" / "large").write_text("large")
    (tmp_path / "all" / "other").write_text("other")
    run(tmp_path / "all", "git", "init", "--quiet")
    assert sorted(path.name for path in unpack(project, tmp_path).iterdir()) == [".gitignore", "dvc.yaml"]
    commit(tmp_path / "all", "first")
    (tmp_path / "again").mkdir()
    unpacked = unpack(project, tmp_path / "again")
    assert commit_of(unpacked, ("dvc.yaml",)) == commit_of(project, ("dvc.yaml",))
    assert not (unpacked.parent / "other").exists()
    shutil.rmtree(tmp_path / "all" / ".git")
    (tmp_path / "without").mkdir()
    assert sorted(path.name for path in unpack(project, tmp_path / "without").iterdir()) == [".gitignore", "dvc.yaml"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--jobs", "0"), "must be 1 or more"),
        (("--scheduler", "tcp://127.0.0.1:1", "--ssh", "a"), "give one"),
        (("--jobs", "2", "--scheduler", "tcp://127.0.0.1:1"), "give one"),
        (("nothing",), "nothing"),
        (("--ssh", ","), "names nothing"),
        (("--scheduler", ""), "names nothing"),
        (("--scheduler", "tcp://127.0.0.1:1"), "default remote"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(dry_workspace, options, said):
    printed = run(dry_workspace, *ANY, *options, succeeds=False)
    assert said in printed.partition("error: ")[2]
    assert "Traceback" not in printed
