"""`make search`: trials of other values on workers, without test data; what it finds can be had to the byte."""

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from stages import models
from stages.common.environment import processor
from stages.common.errors import InputError
from stages.common.parameters import read_parameters
from stages.search import conditions_of, verdict, with_seeds
from stages.tuning import finalists, study
from stages.tuning.ranges import Choice, Numbers, read_ranges
from tests.conftest import ENVIRONMENT, block_of, clone_with_data, commit, edit, planned, processes_in, run, wait_until
from tests.soak import hashes
from tests.test_parallel import break_down

SEARCH = ("python", "-m", "stages.search", "small")
MODEL = "data/models/small-0.keras"
RATE = Numbers(0.02, 0.5, log=True, whole=False)
WIDTHS = Choice(("[8]", "[16, 32]"))


def refuse_test_data(folder: Path) -> None:
    """Make every training on a worker fail if the test set is in the worker's copy of the project."""
    path = folder / "stages" / "train.py"
    refusing = (
        "def main() -> None:\n"
        "    import os\n\n"
        '    if "parallel" in __file__ and os.path.exists("data/prepared/test.npz"):\n'
        '        raise OSError("the test set is here")\n'
    )
    path.write_text(path.read_text().replace("def main() -> None:\n", refusing, 1))


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "reports/search/small.csv")


@pytest.fixture(scope="module")
def searched(finished, tmp_path_factory) -> Path:
    """A workspace in which a search has ended; what it printed is in `search.log` beside."""
    folder = clone_with_data(finished, tmp_path_factory.mktemp("searched") / "workspace")
    refuse_test_data(folder)
    (folder / "data/prepared/test.npz").unlink()
    commit(folder, "Refuse test data")
    log = run(folder, *SEARCH, "--trials", "4", "--seeds", "2", FASHION_MNIST_CHECKPOINT_SECONDS="0")
    (folder.parent / "search.log").write_text(log)
    return folder


@pytest.mark.parametrize(
    ("advantage", "low", "high", "said"),
    [
        (0.02, 0.01, 0.03, ": significantly better."),
        (0.02, -0.01, 0.05, ": not significantly better."),
        (-0.02, -0.05, 0.01, ": not better, so keep the block."),
        (-0.02, -0.03, -0.01, ": not better, so keep the block."),
    ],
)
def test_a_trial_that_is_worse_is_not_recommended(advantage, low, high, said):
    best = {"configuration": "trial 7", "val_accuracy": 0.9, "advantage": advantage}
    assert verdict(pd.Series(best | {"advantage_low": low, "advantage_high": high}), [1, 2]).endswith(said)


@pytest.mark.fault(
    "A search looks at the test set, on which its result would then be too good.",
    "The workers' copies hold the training and validation images, and no test set.",
)
def test_a_search_without_test_data_writes_its_tables_and_figures(searched):
    table = table_of(searched)
    assert table["number"].tolist() == [0, 1, 2, 3]
    assert set(table["state"]) == {"complete"}
    assert table["val_accuracy"].between(0, 1).all()
    assert (table["epochs"] == 3).all()
    assert set(table["processor"]) == {processor()}
    assert table.loc[0, ["learning_rate", "warmup", "widths"]].tolist() == [
        0.14,
        0.2,
        "[16, 32]",
    ]  # the block as it is, first
    assert table["learning_rate"].between(0.02, 0.5).all()
    ranked = pd.read_csv(searched / "reports/search/small-finalists.csv")
    assert ranked["val_accuracy"].is_monotonic_decreasing
    assert set(ranked["configuration"]) == {"block", "trial 1", "trial 2", "trial 3"}
    assert set(ranked["processor"]) == {processor()}
    assert np.allclose(ranked[["seed_1", "seed_2"]].mean(axis=1), ranked["val_accuracy"], atol=1e-6)
    figures = {path.name for path in (searched / "reports/search").glob("*.png")}
    assert figures == {f"small-{name}.png" for name in ("history", "importance", "slices", "finalists")}
    shown = run(searched, "dvc", "plots", "show", "--json")
    assert all(f"reports/search/{name}" in shown for name in figures)
    assert not list((searched / ".dvc/tmp/checkpoints").glob("*"))
    changed = run(searched, "git", "status", "--short").split()
    assert changed == ["??", "reports/search/"]


@pytest.mark.fault(
    "What a search found cannot be repeated.",
    "The command that it prints gives the same model, byte by byte: from DVC's cache, and when it is trained again.",
)
def test_the_printed_command_gives_the_same_model(searched):
    *_, text, line = (searched.parent / "search.log").read_text().strip().splitlines()
    found = table_of(searched).set_index("number").loc[int(re.search(r"To have trial (\d+) in", text)[1])]
    command = shlex.split(line)
    assert command[:4] == ["dvc", "exp", "run", "-S"]
    assert "Running stage" not in run(searched, *command)
    assert hashes(searched)[MODEL] == found["model_md5"]
    metrics = json.loads((searched / "reports/metrics/val/small-0.json").read_text())
    assert metrics["accuracy"] == pytest.approx(found["val_accuracy"], abs=1e-6)
    compared = json.loads(run(searched, "dvc", "params", "diff", "--json"))["params.yaml"]
    assert all(re.fullmatch(r"models\.small\.(learning_rate|warmup|widths)(\[\d\])?", key) for key in compared)
    run(searched, "dvc", "repro", "--force", "--single-item", "train@small-0")
    assert hashes(searched)[MODEL] == found["model_md5"]


def start(folder: Path, *options: str) -> subprocess.Popen:
    with (folder.parent / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, *SEARCH[1:], *options], cwd=folder, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT
        )


@pytest.mark.fault(
    "A search is killed.",
    "The next call keeps the trials that had ended, and tries again what was running; no process is left.",
)
def test_a_search_that_was_killed_goes_on(workspace):
    log = workspace.parent / "log"
    process = start(workspace, "--trials", "5")
    wait_until(lambda: len(re.findall(r"^trial \d+: \d", log.read_text(), re.MULTILINE)) >= 2, 120)
    kept = table_of(workspace).query("state == 'complete'").set_index("number")
    process.kill()
    process.wait()
    wait_until(lambda: processes_in(workspace) == [], 30)
    process = start(workspace, "--trials", "5")
    wait_until(lambda: "seed 1" in log.read_text(), 120)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    assert "Traceback" not in log.read_text()
    wait_until(lambda: processes_in(workspace) == [], 30)
    table = table_of(workspace).set_index("number")
    pd.testing.assert_frame_equal(table.loc[kept.index], kept, check_dtype=False)
    assert (table["state"] == "complete").sum() == 5
    interrupted = table[table["state"] == "interrupted"]
    assert len(interrupted) >= 1
    complete = table[table["state"] == "complete"]
    known = interrupted[["learning_rate", "widths"]].dropna()  # unless it was killed before its values were noted
    for values in known.itertuples(index=False):
        assert (complete[["learning_rate", "widths"]] == list(values)).all(axis=1).sum() == 1
    assert complete["learning_rate"].is_unique  # what is proposed after a kill is not what was proposed before
    assert re.search(r"(2|3|4) of 5 trials have ended", log.read_text())


@pytest.mark.fault("A trial is worse than the others early on.", "Its training is stopped, and the next one begins.")
def test_a_bad_trial_is_stopped(workspace):
    code = workspace / "stages" / "tuning" / "study.py"
    text = code.read_text().replace("WARMUP = 6", "WARMUP = 1").replace("ENDED = 8", "ENDED = 1")
    code.write_text(text)
    edit(workspace, lambda content: content["models"]["small"].update(epochs=40))
    edit(workspace, lambda content: content.update(search={"small": {"learning_rate": [0.14, 0.00001]}}))
    process = start(workspace, "--jobs", "1")
    log = workspace.parent / "log"
    wait_until(lambda: "stopped at" in log.read_text(), 120)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    pruned = table_of(workspace).query("state == 'pruned'")
    assert (pruned["learning_rate"] == 0.00001).all()
    assert (pruned["epochs"] < 40).all()


@pytest.mark.fault(
    "A file that every training needs is broken.", "After three trials, the search ends with what the last one printed."
)
def test_a_search_in_which_all_fails_ends(workspace):
    break_down(workspace, "train")
    printed = run(workspace, *SEARCH, "--trials", "6", succeeds=False)
    assert "all 3 trials failed" in printed
    assert "OSError: broken" in printed
    assert table_of(workspace)["state"].tolist().count("failed") == 3


class Trainings:
    """Stands in for `stages.search.Workers`: trainings end in turn, and those fail whose key begins with one of `fails`."""

    def __init__(self, fails: tuple[str, ...]):
        self.fails, self.running, self.stopped = fails, [], []

    def have_room(self) -> bool:
        return len(self.running) < 2

    def start(self, number: str, _task: object) -> str:
        self.running.append(number)
        return number

    def next(self) -> dict[str, str]:
        return {"key": self.running[0]}

    def stop(self, key: str) -> None:
        self.running.remove(key)
        self.stopped.append(key)

    def result(self, key: str) -> dict:
        self.running.remove(key)
        metrics = json.dumps({"accuracy": float(key[-1])})
        return {
            "status": int(key.startswith(self.fails)),
            "log": "why",
            "files": {"reports/metrics/val/a.json": metrics},
        }


@pytest.mark.fault(
    "One of the best trials fails when it is trained with another seed.",
    "It is left out, with the end of what it printed; the others are compared.",
)
def test_a_finalist_that_fails_is_left_out(capsys):
    values = {"trial 1": {}, "trial 2": {}, "block": {}}
    trainings = Trainings(fails=("trial 1-1",))
    found = with_seeds(trainings, "small", values, [1, 2, 3])
    assert found == {name: [{"accuracy": float(seed)} for seed in (1, 2, 3)] for name in ("trial 2", "block")}
    assert (
        "trial 1 failed with seed 1. The end of what it printed:\n  why\ntrial 1 is left out."
        in capsys.readouterr().out
    )
    assert with_seeds(Trainings(fails=("trial 1-2",)), "small", values, [1, 2, 3]) == found
    trainings = Trainings(fails=("trial 1-1",))
    trainings.have_room = lambda: len(trainings.running) < 9
    assert with_seeds(trainings, "small", values, [1, 2, 3]) == found
    assert trainings.stopped == ["trial 1-2", "trial 1-3"]
    for fails in (("block",), ("trial",)):
        with pytest.raises(InputError, match="failed with seed"):
            with_seeds(Trainings(fails), "small", values, [1, 2, 3])


@pytest.mark.fault(
    "A range in `search` is wrong.",
    "`python -m stages.check` refuses it, before anything runs, and names what may stand.",
)
@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"smal": {}}, "search.smal is unknown; did you mean small?"),
        ({"small": None}, "search.small is None, but must be a mapping with a range for each key"),
        ({"small": {}}, "search.small is {}, but must be a mapping"),
        ({"small": {"learning_rte": [1]}}, "search.small.learning_rte is unknown; did you mean learning_rate?"),
        ({"small": {"dropout": 0.5}}, "search.small.dropout is 0.5, but must be {low: ..., high: ...} or a list"),
        ({"small": {"dropout": {"low": 0}}}, "search.small.dropout.high is missing; it must be a number."),
        ({"small": {"dropout": {"low": 0, "hihg": 1}}}, "search.small.dropout.hihg is unknown; did you mean high?"),
        ({"small": {"dropout": {"low": "0", "high": 1}}}, "search.small.dropout.low is '0', but must be a number."),
        ({"small": {"dropout": {"low": 0.5, "high": 0.5}}}, "has low 0.5 and high 0.5, but low must be below high."),
        ({"small": {"dropout": {"low": 0, "high": 0.5, "log": True}}}, "has low 0, but a logarithmic scale"),
        ({"small": {"dropout": {"low": 0, "high": 1}}}, "search.small.dropout is 1, but must be a number from 0 up to"),
        ({"small": {"epochs": {"low": 2.5, "high": 4}}}, "search.small.epochs is 2.5, but must be a whole number"),
        ({"small": {"schedule": ["cosine", "cosin"]}}, "search.small.schedule is 'cosin', but must be constant"),
        ({"small": {"schedule": ["cosine"]}}, "search.small.schedule is ['cosine'], but must be a list of two or more"),
        ({"small": {"dropout": [0.1, 0.1]}}, "must be a list of two or more values, none twice"),
        ({"small": {"dropout": [0, 0.0]}}, "must be a list of two or more values, none twice"),
    ],
)
def test_wrong_ranges_are_refused_in_a_sentence(section, said):
    with pytest.raises(InputError) as caught:
        read_ranges(section, {"small": block_of("small")})
    assert said in str(caught.value)


def test_right_ranges_mean_what_they_say():
    section = {"epochs": {"low": 2, "high": 9}, "learning_rate": {"low": 1, "high": 2}, "patience": [None, 3]}
    found = read_ranges({"small": section}, {"small": block_of("small")})["small"]
    assert found["epochs"] == Numbers(2, 9, log=False, whole=True)
    assert found["learning_rate"] == Numbers(1, 2, log=False, whole=False)
    assert found["patience"] == Choice(("null", "3"))
    assert None in found["patience"]
    choice = read_ranges({"small": {"dropout": [0, 0.5]}}, {"small": block_of("small")})["small"]["dropout"]
    assert 0.0 in choice  # a block of which `dropout` is 0
    assert RATE.rounded(0.123456) == 0.1235
    assert Numbers(0.12344, 1, log=False, whole=False).rounded(0.123441) == 0.12344  # 0.1234 lies below


@pytest.mark.fault("`search` is edited.", "Stage `check` runs again, and no other stage.")
def test_only_the_check_depends_on_the_ranges(dry_workspace):
    before = planned(dry_workspace)  # what other tests left
    try:
        edit(dry_workspace, lambda content: content["search"]["small"].update(dropout={"low": 0, "high": 0.5}))
        assert planned(dry_workspace) - before == {"check"}
        edit(dry_workspace, lambda content: content["search"]["small"].update(dropout={"low": 0.5, "high": 0}))
        assert "low must be below high" in run(dry_workspace, "python", "-m", "stages.check", succeeds=False)
    finally:
        run(dry_workspace, "git", "checkout", "params.yaml")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("smal",), "no section search.smal; did you mean small?"),
        (("plain",), "no section search.plain; the models with ranges are small."),
        (("small", "--trials", "0"), "--trials is 0, but must be 1 or more."),
        (("small", "--seeds", "1"), "--seeds is 1, but must be 2 or more."),
        (("small", "--jobs", "0"), "--jobs is 0, but must be 1 or more."),
        (("small", "--scheduler", "tcp://127.0.0.1:1"), "default remote"),
        (("small", "--jobs", "2", "--ssh", "one"), "give one"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(dry_workspace, options, said):
    printed = run(dry_workspace, *SEARCH[:3], *options, succeeds=False)
    assert said in printed.partition("error: ")[2]
    assert "Traceback" not in printed


def test_whoever_does_not_search_needs_no_optuna(dry_workspace):
    code = (
        "import sys; sys.modules |= {name: None for name in ('optuna', 'distributed')}; import stages.check, stages.run"
    )
    run(dry_workspace, "python", "-c", code)


@pytest.mark.fault(
    "The block, the ranges, the data or the code changed since a search was stopped.",
    "A new study begins, so that old trials are not compared with new ones; changes of searched keys do not count.",
)
def test_trials_under_other_conditions_are_another_study(dry_workspace, monkeypatch):
    monkeypatch.chdir(dry_workspace)

    def conditions(rates: Numbers = RATE) -> str:
        return json.dumps(conditions_of("train@small-0", "small", {"learning_rate": rates}), sort_keys=True)

    first, parameters = conditions(), dry_workspace / "params.yaml"
    found = [conditions(Numbers(0.02, 0.6, log=True, whole=False))]
    try:
        edit(dry_workspace, lambda content: content["models"]["small"].update(learning_rate=0.3))
        assert conditions() == first
        for change in ({"momentum": 0.5}, {"epochs": 4}):
            edit(dry_workspace, lambda content, change=change: content["models"]["small"].update(change))
            found.append(conditions())
        edit(dry_workspace, lambda content: content.update(threads=1))
        found.append(conditions())
        for path in ("stages/training/fit.py", "stages/models/small.py"):
            (dry_workspace / path).write_text((dry_workspace / path).read_text() + "\n")
            found.append(conditions())
    finally:
        run(dry_workspace, "git", "checkout", str(parameters), "stages")
    assert len({first, *found}) == 1 + len(found)


def test_a_study_is_found_again_and_proposes_other_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ranges, block = {"learning_rate": RATE, "widths": WIDTHS}, {"learning_rate": 0.14, "widths": [16, 32]}
    first = study.open_study("small", {"a": 1})
    assert study.propose_first(first, ranges, block)
    trials = [study.propose(first, ranges) for _ in range(3)]
    assert trials[0].user_attrs["values"] == block
    first.tell(trials[0], 0.5)
    again = study.open_study("small", {"a": 1})
    assert [study.state(trial) for trial in again.trials[:3]] == ["complete", "interrupted", "interrupted"]
    later = [study.propose(again, ranges).user_attrs["values"] for _ in range(4)]
    before = [trial.user_attrs["values"] for trial in trials]
    assert later[:2] == before[1:]
    assert all(values not in before for values in later[2:])
    other = study.open_study("small", {"a": 2})
    assert other.study_name != again.study_name
    assert not other.trials
    study.STORE.write_text("damaged")
    with pytest.raises(InputError, match=r"Type `rm -r \.dvc/tmp/search`"):
        study.open_study("small", {"a": 1})


def test_trials_are_compared_where_they_are_equally_far():
    found = optuna.create_study(direction="maximize")
    long, short = found.ask(), found.ask()
    study.report(long, [0.1, 0.2, 0.3], 20)
    study.report(long, [0.1, 0.2, 0.3, 0.4], 20)
    study.report(short, [0.5], 5)
    assert found.trials[0].intermediate_values == {1: 0.2, 2: 0.4}
    assert found.trials[1].intermediate_values == {1: 0.5, 2: 0.5}


def test_the_interval_is_that_of_dunnetts_table():
    generator = np.random.default_rng(1)
    accuracies = {name: generator.normal(0.94, 0.001, 5).tolist() for name in ("block", "a", "b", "c")}
    compared = finalists.compare(accuracies, "block", 0.95).set_index("configuration")
    spread = np.sqrt(np.mean([np.var(values, ddof=1) for values in accuracies.values()]))
    half = 2.59 * spread * np.sqrt(2 / 5)  # two-sided, 95 %, three treatments, 16 degrees of freedom
    others = compared.drop(index="block")
    assert np.allclose(others["advantage"] - others["advantage_low"], half, rtol=0.01)
    assert np.allclose(others["advantage_high"] - others["advantage"], half, rtol=0.01)
    assert compared.loc["a", "advantage"] == pytest.approx(np.mean(accuracies["a"]) - np.mean(accuracies["block"]))
    same = finalists.compare({"block": [0.9, 0.9], "a": [0.9, 0.9]}, "block", 0.95)
    assert same["advantage_low"].isna().all()


def test_the_projects_own_ranges_hold_its_block():
    sections, blocks = models.read_all()
    for name, ranges in read_ranges(sections.search, blocks).items():
        assert all(getattr(blocks[name], key) in one for key, one in ranges.items())
    assert read_parameters("search") == sections.search
