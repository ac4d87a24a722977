"""`make search`: trials of other values in copies without test data; what it finds can be had in the project."""

import json
import re
import shlex
import subprocess
import sys
from concurrent.futures import Future

import numpy as np
import optuna
import pandas as pd
import pytest

from stages import search
from stages.base.errors import InputError
from stages.parameters.search import Numbers, read_ranges
from stages.tuning import finalists, study
from tests.conftest import ENVIRONMENT, ROOT, block_of, commit, edit, processes_in, run, wait_until

SEARCH = ("python", "-m", "stages.search", "small")
RANGES = {"learning_rate": Numbers(low=0.02, high=0.5, log=True), "widths": ([8], [16, 32])}
BLOCK = {"learning_rate": 0.14, "widths": [16, 32], "epochs": 5}


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder, where studies are kept in memory."""
    memory = optuna.storages.InMemoryStorage()
    monkeypatch.setattr(optuna.storages, "get_storage", lambda storage: memory)
    monkeypatch.chdir(tmp_path)


class Trainings:
    """Stands in for the pool: a training ends at once, with the accuracy that its values have; with None, it fails."""

    slots = 2

    def __init__(self, accuracy_of):
        self.accuracy_of = accuracy_of

    def submit(self, name, values, watch, on_change):
        training, accuracy = Future(), self.accuracy_of(" ".join(values))
        path = f"reports/metrics/val/{name.partition('@')[2]}.json"
        metrics = {"accuracy": accuracy, "network": [{"epochs": 5}], "conditions": [{"processor": "any"}]}
        done = {"stage": name, "status": int(accuracy is None), "log": "Traceback\nerror: it diverged.\nERROR: failed"}
        try:
            for epoch in range(1, 6 if accuracy else 1):
                on_change("val_accuracy\n" + f"{accuracy}\n" * epoch)
            training.set_result(done | {"results": {path: {path: json.dumps(metrics).encode()}}})
        except optuna.TrialPruned as pruned:
            training.set_exception(pruned)
        return training


def test_wrong_ranges_are_refused_in_sentences():
    ranges = {
        "learning_rte": [1, 2],
        "dropout": {"low": 0, "high": 0.5, "log": True},
        "warmup": {"low": 0, "high": 1},
        "cutmix": [0, 0.0],
    }
    with pytest.raises(InputError) as caught:
        read_ranges({"smal": {}, "small": ranges}, {"small": block_of("small")})
    for said in (
        "search.smal is unknown; did you mean small?",
        "search.small.learning_rte is unknown; did you mean learning_rate?",
        "low must be below high, and above 0 where log is true.",
        "search.small.warmup is 1, but must be a number from 0 up to",
        "search.small.cutmix is [0, 0.0], but must be a list of two or more values, none twice",
    ):
        assert said in str(caught.value)


def test_values_that_are_tried_are_those_that_a_block_may_have():
    section = {"epochs": {"low": 2, "high": 9}, "learning_rate": {"low": 1, "high": 2}, "patience": [None, 3]}
    ranges = read_ranges({"small": section}, {"small": block_of("small")})["small"]
    found = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for values in (study.propose(found.ask(), ranges) for _ in range(9)):
        block = block_of("small", **values)
        assert all(getattr(block, key) in one for key, one in ranges.items())
        assert len(str(values["learning_rate"])) <= 5  # can be read and typed


@pytest.mark.usefixtures("empty")
def test_a_search_goes_on_where_it_was_stopped():
    first, _ = study.open_study("small", BLOCK, RANGES, {})
    _, stopped = (study.propose(first.ask(), RANGES) for _ in range(2))
    first.tell(0, 0.5)
    again, _ = study.open_study("small", BLOCK, RANGES, {})
    search.run_trials(Trainings(lambda values: 0.5), again, RANGES, "small-0", 5, 4)
    table = pd.read_csv("reports/search/small.csv")
    assert table["learning_rate"][:2].tolist() == [0.14, stopped["learning_rate"]]
    assert table["learning_rate"].is_unique  # none is proposed again


@pytest.mark.usefixtures("empty")
def test_a_search_that_begins_anew_says_why():
    for model, conditions, said in (
        ("plain", {"a": 0, "b": 1}, []),
        ("small", {"a": 1, "b": 1, "c": 1}, []),
        ("small", {"a": 2, "b": 1, "d": 1}, ["a, c, d."]),
        ("small", {"a": 1, "b": 1, "c": 1}, []),
    ):
        _, notes = study.open_study(model, BLOCK, RANGES, conditions)
        assert [note.rpartition(": ")[2] for note in notes] == said
    _, notes = study.open_study("small", BLOCK | {"learning_rate": 0.6}, RANGES, conditions)
    assert "outside of its ranges" in notes[0]


@pytest.mark.usefixtures("empty")
def test_bad_trials_are_stopped_and_the_best_others_are_kept(monkeypatch):
    monkeypatch.setattr(study, "MIN_COMPLETE", 4)
    found, _ = study.open_study("small", BLOCK, RANGES, {})
    for rate in (0.3, 0.3, 0.2, 0.1, 0.4):
        found.enqueue_trial({"learning_rate": rate, "widths": "[8]"})
    accuracies = {"0.14": 0.9, "0.3": 0.6, "0.2": 0.8, "0.1": 0.5, "0.4": None}
    trainings = Trainings(lambda values: accuracies[re.search(r"rate=(\S+)", values)[1]])
    search.run_trials(trainings, found, RANGES, "small-0", 5, 6)
    table = pd.read_csv("reports/search/small.csv")
    assert table["state"].tolist() == ["complete"] * 4 + ["pruned", "fail"]
    assert table["trained_epochs"].tolist()[:5] == [5, 5, 5, 5, 4]
    assert table.loc[5, "reason"] == "error: it diverged."
    assert study.best(found, BLOCK, RANGES, 2) == {
        "trial 3": {"learning_rate": 0.2, "widths": [8]},
        "trial 1": {"learning_rate": 0.3, "widths": [8]},
    }


@pytest.mark.usefixtures("empty")
def test_trainings_that_fail():
    found, _ = study.open_study("small", BLOCK, RANGES, {})
    with pytest.raises(InputError, match="all 4 trials failed"):
        search.run_trials(Trainings(lambda values: None), found, RANGES, "small-0", 5, 9)
    tried = {"trial 1": {"learning_rate": 0.1}, "trial 2": {"learning_rate": 0.2}, "block": {"learning_rate": 0.3}}
    trainings = Trainings(lambda values: None if "0.1 seeds=[1]" in values else 0.5)
    compared = search.run_finalists(trainings, "small", tried, [1, 2])  # whatever fails once is left out
    assert compared.to_dict("index") == {name: {"seed_1": 0.5, "seed_2": 0.5} for name in ("trial 2", "block")}
    with pytest.raises(InputError, match="too many trainings failed"):
        search.run_finalists(Trainings(lambda values: None if "0.3" in values else 0.5), "small", tried, [1, 2])


def test_the_interval_is_that_of_dunnetts_table(recwarn):
    generator = np.random.default_rng(1)
    accuracies = pd.DataFrame({name: generator.normal(0.94, 0.001, 5) for name in ("block", "a", "b", "c")}).T
    compared = finalists.compare(accuracies, "block", 0.95)
    half = 2.59 * np.sqrt(accuracies.var(axis=1).mean() * 2 / 5)  # two-sided, three treatments, 16 degrees of freedom
    others = compared.drop(index="block")
    for low, high in (("advantage_low", "advantage"), ("advantage", "advantage_high")):
        assert np.allclose(others[high] - others[low], half, rtol=0.01)
    assert compared.loc["a", "advantage"] == pytest.approx(np.mean(accuracies.loc["a"] - accuracies.loc["block"]))
    assert compared["val_accuracy"].is_monotonic_decreasing
    for advantage, low, said in ((-0.2, -0.3, "keep the block"), (0.2, -0.1, ": not sig"), (0.2, 0.1, ": sig")):
        best = pd.Series({"advantage": advantage, "advantage_low": low, "advantage_high": 0.3}, name="trial 7")
        assert said in finalists.verdict(best)
    for one, varies in ((0.9, False), (0.8, True)):
        same = finalists.compare(pd.DataFrame([[0.9, 0.9], [0.9, one]], index=["block", "a"]), "block", 0.95)
        assert np.isfinite(same.loc["a", "advantage_low"]) == varies
    assert not recwarn  # SciPy warns where the accuracies of a configuration are equal


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_and_prints_what_to_type(workspace):
    stage = workspace / "stages" / "train.py"
    refusal = 'import os\n\nassert "parallel" not in __file__ or not os.path.exists("data/prepared/test.npy")\n'
    stage.write_text(stage.read_text().replace("\nimport", f"\n{refusal}import", 1))
    commit(workspace, "Refuse test data")
    options = {"cwd": workspace, "env": ENVIRONMENT, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *SEARCH[1:], "--jobs", "1"], **options) as process:
        next(line for line in process.stdout if line.startswith("trial 0: "))
        process.kill()
    wait_until(lambda: processes_in(workspace) == [], 60)
    printed = run(workspace, *SEARCH, "--trials", "2", "--seeds", "2")
    assert "1 of 2 trials have ended" in printed
    assert not re.search("warning", printed, re.IGNORECASE)
    folder = workspace / "reports" / "search"
    table = pd.read_csv(folder / "small.csv")
    assert table["state"].tolist() == ["complete", "complete"]
    assert table.loc[0, ["learning_rate", "warmup", "widths"]].tolist() == [0.14, 0.2, "[16, 32]"]  # the block is first
    assert set(pd.read_csv(folder / "small-finalists.csv")["configuration"]) == {"block", "trial 1"}
    assert len(list(folder.glob("small-*.png"))) == 3
    assert "Running stage" not in run(workspace, *shlex.split(printed.splitlines()[-1]))
    edit(workspace, lambda content: content["models"]["small"].update(momentum=0.5, learning_rate=0.2))
    printed = run(workspace, *SEARCH, "--trials", "1", succeeds=False)
    assert re.search(r"a new search of small begins.*: momentum\.$", printed, re.MULTILINE)
    (workspace / study.STORE).write_text("damaged")
    assert "Type `rm -r .dvc/tmp/search`" in run(workspace, *SEARCH, succeeds=False)


def test_a_model_without_ranges_is_told(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["search", "no_model"])
    with pytest.raises(InputError, match=r"no_model has no ranges, but .* into section `search` of params\.yaml"):
        search.arguments()
