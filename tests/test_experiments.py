"""What experiments gave is written down from git, row by row."""

import json
import subprocess

import pandas as pd
import pytest

from stages import experiments
from stages.errors import InputError
from stages.table import tried

METRICS = {"epochs": 3, "parameters": 10, "accuracy_plain": 0.8}


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def committed(folder, rate: float, seeds: list[int], val: dict[str, float], test: dict[str, float]) -> str:
    """A commit with these parameters, and these accuracies of runs; returns its hash."""
    (folder / "params.yaml").write_text(f"seeds: {seeds}\nmodels:\n  cnn:\n    learning_rate: {rate}\n")
    for split, accuracies in (("val", val), ("test", test)):
        for run, accuracy in accuracies.items():
            path = folder / "reports" / "metrics" / split / f"{run}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(METRICS | {"accuracy": accuracy}))
    timing = folder / "reports" / "timing" / "train"
    timing.mkdir(parents=True, exist_ok=True)
    for number, run in enumerate(val):
        (timing / f"{run}.csv").write_text(f"epoch,seconds\n1,20.5\n2,{10 * number}\n")
    git("add", "--all")
    git("commit", "--message", "a state")
    return git("rev-parse", "HEAD")


@pytest.fixture
def repository(monkeypatch, tmp_path):
    """A base commit, and an experiment `faster` on it that added cnn-1, whose cnn-0 came out the same, without mlp-0."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    base = committed(tmp_path, 0.003, [0], {"cnn-0": 0.9, "mlp-0": 0.85}, {"cnn-0": 0.89})
    commit = committed(tmp_path, 0.01, [0, 1], {"cnn-0": 0.9, "cnn-1": 0.94}, {})
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/faster", commit)
    git("reset", "--hard", "--quiet", base)
    return base


def test_a_row_for_every_run_of_the_models_that_were_trained(repository):
    rows = experiments.rows_of("faster")
    assert [row["run"] for row in rows] == ["cnn-0", "cnn-1"]
    assert {row["base"] for row in rows} == {repository[:7]}
    assert {row["changes"] for row in rows} == {"models.cnn.learning_rate=0.01"}
    assert [row["val_accuracy"] for row in rows] == [0.9, 0.94]
    assert [row["training_seconds"] for row in rows] == [20.5, 30.5]
    assert [row["test_accuracy"] for row in rows] == [None, None]  # those of the base are not its own


def test_test_accuracies_of_what_was_evaluated(repository, tmp_path):
    accuracies = {"cnn-0": 0.9, "cnn-1": 0.93}
    commit = committed(tmp_path, 0.003, [0, 1], accuracies, {"cnn-0": 0.89, "cnn-1": 0.91})
    git("update-ref", f"refs/exps/{repository[:2]}/{repository[2:]}/seeds", commit)
    rows = experiments.rows_of("seeds")
    assert [(row["changes"], row["run"], row["test_accuracy"]) for row in rows] == [
        ("", "cnn-0", 0.89),
        ("", "cnn-1", 0.91),
    ]


def test_rows_of_the_same_name_are_replaced_and_others_kept(repository, tmp_path):
    (tmp_path / "reports").mkdir(exist_ok=True)
    old = pd.DataFrame({"experiment": ["faster", "older"], "base": ["0000000"] * 2, "run": ["cnn-7", "mlp-0"]})
    old.to_csv(experiments.TABLE, index=False)
    experiments.keep(["faster"])
    written = pd.read_csv(experiments.TABLE, dtype={"base": str})
    assert written["experiment"].tolist() == ["older", "faster", "faster"]
    assert written["base"].tolist() == ["0000000", repository[:7], repository[:7]]


def test_an_experiment_that_is_not_there_is_a_sentence(repository):
    with pytest.raises(InputError, match="there is no experiment slower"):
        experiments.rows_of("slower")


def test_the_table_tells_mean_and_deviation_over_the_seeds(repository):
    table = tried(pd.DataFrame(experiments.rows_of("faster")))
    (line,) = table.splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    accuracies = ["92.00 ± 2.83 %", "80.00 ± 0.00 %", "-"]
    assert cells == ["cnn: learning_rate=0.01", repository[:7], "2", "3", *accuracies, "26"]
