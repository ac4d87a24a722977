"""The committed results: on Fashion-MNIST, consistent with each other and with the README, small, and good enough.

`make verify` runs these: what is committed is the record of one machine, and `make run` on another gives other digits.
"""

import json
import re
import statistics

import pandas as pd
import pytest

from stages import table
from stages.errors import InputError
from stages.parameters import read_parameters
from stages.table import current, over_seeds, updated
from tests.conftest import ROOT, run

pytestmark = pytest.mark.record
REPORTS = ROOT / "reports"


@pytest.fixture
def summary() -> dict:
    return json.loads((REPORTS / "summary.json").read_text())


def test_they_are_on_fashion_mnist(summary):
    metrics = [json.loads(path.read_text()) for path in (REPORTS / "metrics").rglob("*.json")]
    assert {entry["dataset"] for entry in [summary, *metrics]} == {"fashion-mnist"}
    assert "NOT on Fashion-MNIST" not in (REPORTS / "report.html").read_text()


def test_the_readme_shows_their_tables(monkeypatch):
    monkeypatch.chdir(ROOT)
    readme = (ROOT / "README.md").read_text()
    assert updated(readme) == readme


def test_a_table_whose_file_is_gone_names_what_makes_it(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    for name, maker in (("BENCHMARK", "`make bench`"), ("EXPERIMENTS", "`python -m stages.experiments NAME`")):
        with monkeypatch.context() as without:
            without.setattr(table, name, tmp_path / "gone")
            with pytest.raises(InputError, match=f"gone is missing.*{maker}"):
                updated((ROOT / "README.md").read_text())


def test_the_selected_model_has_the_best_validation_accuracy(summary):
    best = max(summary["models"], key=lambda model: summary["models"][model]["val_accuracy"])
    assert summary["selected"] == best


def test_the_models_are_as_accurate_as_promised():
    recorded = pd.read_csv(REPORTS / "experiments.csv", dtype={"base": str})
    blocks = {name: block.model_dump() for name, block in read_parameters("models", path=ROOT / "params.yaml").items()}
    found = over_seeds(recorded, "fashion-mnist", blocks)
    for model, least in (("cnn", 0.92), ("sprint", 0.942), ("resnet", 0.95)):
        assert len(found[model]) >= 5
        assert statistics.mean(found[model]) >= least


def test_they_fit_a_terminal():
    assert max(map(len, run(ROOT, "dvc", "metrics", "show").splitlines())) <= 120


def test_all_were_made_on_one_machine(summary):
    found = {
        json.dumps({key: value for key, value in metrics["conditions"][0].items() if key != "precision"})
        for metrics in (json.loads(path.read_text()) for path in (REPORTS / "metrics").rglob("*.json"))
    }
    assert len(found) == 1


def test_the_networks_stand_beside_five_recorded_seeds(monkeypatch):
    monkeypatch.chdir(ROOT)
    table = current()
    for model in ("cnn", "sprint", "resnet"):
        assert re.search(rf"^\| {model}.* ± .* \(5\)", table, re.MULTILINE), table


@pytest.mark.fault(
    "The report is 3 MB in every commit.",
    "1.2 MB at most.",
)
def test_they_stay_light_in_git():
    assert (REPORTS / "report.html").stat().st_size <= 1.2e6
    assert sum(path.stat().st_size for path in REPORTS.rglob("*") if path.is_file()) < 6e6
