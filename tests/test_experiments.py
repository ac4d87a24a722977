"""What experiments gave is written down, row by row, and shown in tables."""

import json

import pandas as pd
import pytest

from stages import experiments
from stages.base.errors import InputError
from stages.page.tables import fingerprint, over_seeds
from stages.table import experiments_table
from tests.conftest import run

DEFAULTS = {"learning_rate": 0.003, "epochs": 3}


def commit(block: dict, seeds: list[int], val: dict, test: dict, **defaults: float) -> dict:
    """What `dvc exp show` says of a commit with these accuracies, by run; each accuracy comes from another file."""
    params = {"seeds": seeds, "defaults": DEFAULTS | defaults, "models": {"cnn": block, "mlp": None}}
    outs = {f"data/models/{run}.keras": {"hash": str(accuracy)} for run, accuracy in val.items()}
    outs |= {f"data/predictions/test/{run}.npz": {"hash": str(accuracy)} for run, accuracy in test.items()}
    metrics = {
        f"reports/metrics/{split}/{run}.json": {"data": {"accuracy": accuracy, "accuracy_single_view": 0.8}}
        for split, accuracies in (("val", val), ("test", test))
        for run, accuracy in accuracies.items()
    }
    return {"rev": "0123456789", "params": {"params.yaml": {"data": params}}, "outs": outs, "metrics": metrics}


BASE = commit({}, [0], {"cnn-0": 0.9, "mlp-0": 0.8}, {"cnn-0": 0.89})
SEEDS = commit({"epochs": 3}, [0, 1, 2], {"cnn-0": 0.9, "cnn-1": 0.94, "mlp-0": 0.8}, {"cnn-0": 0.89})


def rows(monkeypatch, experiment: dict, *keys: str) -> list[tuple]:
    """These columns of the rows of an experiment on `BASE`, whose trainings took 21 s each."""
    lists = {"network": [{"epochs": 3, "parameters": 10}], "conditions": [{"processor": "a processor"}]}
    files = {"json": json.dumps(lists), "csv": "epoch,seconds\n1,20\n2,1\n"}
    monkeypatch.setattr(experiments, "base_and_experiment", lambda name: (BASE, experiment))
    monkeypatch.setattr(experiments, "output", lambda *command: files[command[-1].rpartition(".")[2]])
    return [tuple(row[key] for key in ("run", *keys)) for row in experiments.rows_of("name")]


def test_more_seeds_of_the_same_parameters_count_with_those_that_were_there(monkeypatch):
    assert rows(monkeypatch, SEEDS, "changes", "val_accuracy") == [("cnn-0", "", 0.9), ("cnn-1", "", 0.94)]
    assert rows(monkeypatch, SEEDS, "base", "training_seconds")[1] == ("cnn-1", "0123456", 21)
    assert rows(monkeypatch, SEEDS, "test_accuracy") == [("cnn-0", None), ("cnn-1", None)]  # it looked at no test set
    tested = commit({}, [0, 1], {"cnn-0": 0.9, "cnn-1": 0.94}, {"cnn-0": 0.89, "cnn-1": 0.91})
    assert rows(monkeypatch, tested, "test_accuracy") == [("cnn-0", 0.89), ("cnn-1", 0.91)]


@pytest.mark.parametrize(("block", "defaults"), [({"learning_rate": 0.01}, {}), ({}, {"learning_rate": 0.01})])
def test_under_other_parameters_only_what_was_trained_and_evaluated_counts(monkeypatch, block, defaults):
    faster = commit(block, [0, 1], {"cnn-0": 0.9, "cnn-1": 0.92, "mlp-0": 0.8}, {"cnn-0": 0.89}, **defaults)
    told = rows(monkeypatch, faster, "changes", "block", "test_accuracy")  # that of the base is not its own
    assert told == [("cnn-1", "models.cnn.learning_rate=0.01", fingerprint(DEFAULTS | {"learning_rate": 0.01}), None)]


def test_an_experiment_that_is_not_there_or_trained_nothing_is_a_sentence(monkeypatch):
    with pytest.raises(InputError, match="trained nothing"):
        rows(monkeypatch, commit({"epochs": 4}, [0], {"cnn-0": 0.9}, {}))
    monkeypatch.undo()
    monkeypatch.setattr(experiments, "output", lambda *command: "")
    with pytest.raises(InputError, match="there is no experiment slower"):
        experiments.rows_of("slower")


def test_the_table_tells_mean_and_standard_deviation_over_the_seeds_of_each_model(monkeypatch):
    rows(monkeypatch, SEEDS)
    table = experiments_table(pd.DataFrame(experiments.rows_of("seeds")))
    cells = [cell.strip() for cell in table.splitlines()[-1].strip("|").split("|")]
    assert table.startswith("**cnn**\n")
    assert cells == ["nothing", "0123456", "2", "3", "92.00 ± 2.83 %", "80.00 ± 0.00 %", "-", "21"]


def test_recorded_seeds_count_where_the_block_is_the_same():
    block, other = {"epochs": 3, "widths": [16]}, {"epochs": 4, "widths": [16]}
    recorded = [("changed", f"cnn-{seed}", 0.6, fingerprint(other)) for seed in range(3)]
    recorded += [("new", f"cnn-{seed}", 0.8, fingerprint(block)) for seed in range(2)]
    recorded += [("untested", f"cnn-{seed}", None, fingerprint(block)) for seed in range(3)]
    recorded += [("one", "mlp-0", 0.7, fingerprint(other))]  # a single run is no spread
    columns = ("experiment", "run", "test_accuracy", "block")
    table = [
        dict(zip(columns, (*row[:2], "" if row[2] is None else str(row[2]), row[3]), strict=True)) for row in recorded
    ]
    as_read = {"widths": [16.0], "epochs": 3.0}  # by the schema, in another order
    assert over_seeds(table, {"cnn": as_read, "mlp": other}) == {"cnn": [0.8, 0.8]}
    assert fingerprint({"random_flip": True}) != fingerprint({"random_flip": 1})


@pytest.mark.slow
def test_a_real_experiment_is_recorded_after_later_commits_too(workspace):
    run(workspace, "dvc", "exp", "run", "--name", "slower", "-S", "models.plain.learning_rate=0.002", "train@plain-0")
    accuracy = json.loads((workspace / "reports/metrics/val/plain-0.json").read_text())["accuracy"]
    run(workspace, "git", "reset", "--hard")
    run(workspace, "git", "commit", "--allow-empty", "--message", "later")
    for _ in range(2):  # its rows are replaced
        run(workspace, "python", "-m", "stages.experiments", "slower")
    rows = pd.read_csv(workspace / experiments.EXPERIMENTS).query("experiment == 'slower'")
    assert rows[["run", "changes"]].to_numpy().tolist() == [["plain-0", "models.plain.learning_rate=0.002"]]
    assert rows["val_accuracy"].tolist() == pytest.approx([accuracy])
    assert rows["test_accuracy"].isna().all()
