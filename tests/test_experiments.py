"""What experiments gave is written down from git, row by row."""

import json
import re
import subprocess

import pandas as pd
import pytest

from stages import experiments
from stages.common.errors import InputError
from stages.common.parameters import fingerprint
from stages.page.documents import experiments_table
from stages.page.tables import mean_and_std, over_seeds

METRICS = {"epochs": 3, "parameters": 10, "accuracy_single_view": 0.8}


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def committed(folder, rate: float, seeds: list[int], val: dict[str, float], test: dict[str, float]) -> str:
    """A commit with these parameters and accuracies, whose runs took 20.5 s and 10 more a seed; returns its hash."""
    (folder / "params.yaml").write_text(f"seeds: {seeds}\nmodels:\n  cnn:\n    learning_rate: {rate}\n")
    for split, accuracies in (("val", val), ("test", test)):
        for run, accuracy in accuracies.items():
            path = folder / "reports" / "metrics" / split / f"{run}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(METRICS | {"accuracy": accuracy}))
    timing = folder / "reports" / "timing" / "train"
    timing.mkdir(parents=True, exist_ok=True)
    for run in val:
        (timing / f"{run}.csv").write_text(f"epoch,seconds\n1,20.5\n2,{10 * int(run[-1])}\n")
    git("add", "--all")
    git("commit", "--message", "a state")
    return git("rev-parse", "HEAD")


@pytest.fixture
def repository(monkeypatch, tmp_path):
    """A base commit, and an experiment `seeds` on it, which added cnn-1 alone."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    base = committed(tmp_path, 0.003, [0], {"cnn-0": 0.9, "mlp-0": 0.85}, {"cnn-0": 0.89})
    commit = committed(tmp_path, 0.003, [0, 1], {"cnn-1": 0.94}, {})
    name(base, commit, "seeds")
    return base


def name(base: str, commit: str, experiment: str) -> None:
    """Make `commit` an experiment as DVC does, and go back to where it started from."""
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{experiment}", commit)
    git("reset", "--hard", "--quiet", base)


def told(experiment: str, *keys: str) -> list[tuple]:
    return [tuple(row[key] for key in ("run", *keys)) for row in experiments.rows_of(experiment)]


def test_more_seeds_of_the_same_parameters_count_with_those_that_were_there(repository):
    assert told("seeds", "base", "changes") == [("cnn-0", repository[:7], ""), ("cnn-1", repository[:7], "")]
    assert told("seeds", "val_accuracy", "training_seconds") == [("cnn-0", 0.9, 20.5), ("cnn-1", 0.94, 30.5)]
    assert told("seeds", "test_accuracy") == [("cnn-0", None), ("cnn-1", None)]  # it looked at no test set


def test_test_accuracies_of_what_was_evaluated(repository, tmp_path):
    name(repository, committed(tmp_path, 0.003, [0, 1], {"cnn-1": 0.93}, {"cnn-1": 0.91}), "tested")
    assert told("tested", "test_accuracy") == [("cnn-0", 0.89), ("cnn-1", 0.91)]


def test_under_other_parameters_only_what_was_trained_and_evaluated_counts(repository, tmp_path):
    base = committed(tmp_path, 0.003, [0, 1], {"cnn-1": 0.91}, {"cnn-1": 0.9})
    name(base, committed(tmp_path, 0.01, [0, 1], {"cnn-1": 0.92}, {}), "faster")
    assert told("faster", "changes", "val_accuracy") == [("cnn-1", "models.cnn.learning_rate=0.01", 0.92)]
    assert told("faster", "test_accuracy") == [("cnn-1", None)]  # that of the base is not its own
    timing = tmp_path / "reports/timing/train/cnn-0.csv"
    timing.write_text("epoch,seconds\n1,7\n")  # trained again, to the same accuracy
    name(base, committed(tmp_path, 0.02, [0, 1], {"cnn-1": 0.91}, {"cnn-1": 0.95}), "mixed")
    assert told("mixed", "val_accuracy", "test_accuracy") == [("cnn-0", 0.9, None)]


def test_a_seed_that_was_not_run_is_left_out(repository, tmp_path):
    name(repository, committed(tmp_path, 0.003, [0, 1, 2], {"cnn-2": 0.93}, {}), "two")
    assert told("two") == [("cnn-0",), ("cnn-2",)]


def test_an_experiment_that_trained_nothing_is_a_sentence(repository, tmp_path):
    name(repository, committed(tmp_path, 0.01, [0], {}, {}), "idle")
    with pytest.raises(InputError, match="idle trained nothing"):
        experiments.rows_of("idle")


def test_metrics_of_another_time_are_a_sentence(repository, tmp_path, monkeypatch):
    monkeypatch.delitem(METRICS, "accuracy_single_view")
    name(repository, committed(tmp_path, 0.01, [0], {"cnn-0": 0.8}, {}), "old")
    with pytest.raises(InputError, match="has no accuracy_single_view"):
        experiments.rows_of("old")


def test_rows_of_the_same_name_are_replaced_and_others_kept(repository, tmp_path):
    (tmp_path / "reports").mkdir(exist_ok=True)
    old = pd.DataFrame({"experiment": ["seeds", "older"], "base": ["0000000"] * 2, "run": ["cnn-7", "mlp-0"]})
    old.to_csv(experiments.EXPERIMENTS, index=False)
    experiments.keep(["seeds", "seeds"])
    written = pd.read_csv(experiments.EXPERIMENTS, dtype={"base": str})
    assert written["experiment"].tolist() == ["older", "seeds", "seeds"]
    assert written["base"].tolist() == ["0000000", repository[:7], repository[:7]]


def test_an_experiment_that_is_not_there_is_a_sentence(repository):
    with pytest.raises(InputError, match="there is no experiment slower"):
        experiments.rows_of("slower")


def test_the_table_tells_mean_and_standard_deviation_over_the_seeds(repository):
    table = experiments_table(pd.DataFrame(experiments.rows_of("seeds")).assign(epochs=[3, 4]))
    title, _, _, _, line = table.splitlines()
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    accuracies = ["92.00 ± 2.83 %", "80.00 ± 0.00 %", "-"]
    assert title == "**cnn**"
    assert cells == ["nothing", repository[:7], "2", "3.5", *accuracies, "26"]


def test_each_model_has_a_table_of_its_own(repository):
    found = pd.DataFrame(experiments.rows_of("seeds"))
    renamed = found.assign(run=found["run"].str.replace("cnn", "mlp"), changes="models.mlp.dropout=0.5")
    table = experiments_table(pd.concat([renamed, found]))
    cnn, mlp = table.split("**mlp**")
    assert "| nothing " in cnn
    assert "dropout" not in cnn
    assert "| dropout=0.5 " in mlp
    assert "| nothing " not in mlp


def recorded(*rows: tuple[str, str, float | None, dict]) -> pd.DataFrame:
    columns = ("experiment", "run", "test_accuracy", "block")
    return pd.DataFrame([(*row[:3], fingerprint(row[3])) for row in rows], columns=columns)


def test_recorded_seeds_count_where_the_block_is_the_same():
    block, other = {"epochs": 3, "learning_rate": 1, "widths": [16]}, {"epochs": 4, "learning_rate": 1, "widths": [16]}
    table = recorded(
        ("old", "cnn-0", 0.5, block), ("old", "cnn-1", 0.5, block),
        ("changed", "cnn-0", 0.6, other), ("changed", "cnn-1", 0.6, other), ("changed", "cnn-2", 0.6, other),
        ("new", "cnn-0", 0.8, block), ("new", "cnn-1", 0.9, block),
        ("untested", "cnn-0", None, block), ("untested", "cnn-1", None, block), ("untested", "cnn-2", None, block),
        ("one", "mlp-0", 0.7, other),
    )  # fmt: skip
    as_read = {"widths": [16.0], "learning_rate": 1.0, "epochs": 3}  # by the schema, in another order
    found = over_seeds(table, "fashion-mnist", {"cnn": as_read, "mlp": other, "new": {"epochs": 9}})
    assert found == {"cnn": [0.8, 0.9]}  # a single run is no spread
    assert over_seeds(table, "drawn", {"cnn": block}) == {}
    assert over_seeds(pd.DataFrame({"run": ["cnn-0"]}), "fashion-mnist", {"cnn": block}) == {}  # of an older table
    assert mean_and_std(found["cnn"]) == "85.00 ± 7.07 (2)"
    assert mean_and_std([]) == "-"


def test_a_fingerprint_tells_lists_apart_and_not_the_order_of_keys():
    one = fingerprint({"widths": [16, 32], "epochs": 3})
    assert one == fingerprint({"epochs": 3, "widths": [16.0, 32]}) != fingerprint({"epochs": 3, "widths": [16, 33]})
    assert re.fullmatch("[0-9a-f]{12}", one)


def test_true_is_not_one_in_a_fingerprint():
    assert fingerprint({"random_flip": True}) != fingerprint({"random_flip": 1})
    assert fingerprint({"ema_momentum": 0}) == fingerprint({"ema_momentum": 0.0}) != fingerprint({"ema_momentum": 0.5})
