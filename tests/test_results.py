"""The committed results: on Fashion-MNIST, consistent with each other and with the README, small, and good enough."""

import json

import pytest

from stages import table
from stages.errors import InputError
from stages.table import updated
from tests.conftest import ROOT

REPORTS = ROOT / "reports"
SUMMARY = json.loads((REPORTS / "summary.json").read_text())


def test_they_are_on_fashion_mnist():
    metrics = [json.loads(path.read_text()) for path in (REPORTS / "metrics").rglob("*.json")]
    assert {entry["dataset"] for entry in [SUMMARY, *metrics]} == {"fashion-mnist"}
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


def test_the_selected_model_has_the_best_validation_accuracy():
    best = max(SUMMARY["models"], key=lambda model: SUMMARY["models"][model]["val_accuracy"])
    assert SUMMARY["selected"] == best


def test_the_models_are_as_accurate_as_promised():
    accuracy = {model: row["test_accuracy"] for model, row in SUMMARY["models"].items()}
    assert accuracy["cnn"] >= 0.91
    assert accuracy["sprint"] >= 0.938
    assert accuracy["resnet"] >= 0.945


def test_they_stay_light_in_git():
    assert sum(path.stat().st_size for path in REPORTS.rglob("*") if path.is_file()) < 6e6
