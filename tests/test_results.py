"""The committed results: on Fashion-MNIST, consistent with each other and with the documents, small, and good enough.

`make verify` runs these: what is committed is the record of one machine, and `make run` on another gives other digits.
"""

import json
import re
import statistics

import pytest

from stages.page.tables import current, over_seeds, read_rows
from stages.parameters.schema import PARAMETERS, load_yaml
from stages.table import updated
from tests.conftest import ROOT

pytestmark = pytest.mark.record
REPORTS = ROOT / "reports"
PROMISED = {"cnn": 0.92, "sprint": 0.942, "resnet": 0.95}  # test accuracies, means over seeds


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def recorded_seeds() -> dict[str, list[float]]:
    """The recorded test accuracies of each model whose parameters are those of `params.yaml`."""
    content = load_yaml(PARAMETERS)
    blocks = {name: content["defaults"] | (block or {}) for name, block in content["models"].items()}
    return over_seeds(read_rows(REPORTS / "experiments.csv"), blocks, "fashion-mnist")


def test_they_are_on_fashion_mnist_and_of_one_machine():
    metrics = [json.loads(path.read_text()) for path in (REPORTS / "metrics").rglob("*.json")]
    assert {entry["dataset"] for entry in metrics} == {"fashion-mnist"}
    machines = [
        {key: value for key, value in entry["conditions"][0].items() if key != "precision"} for entry in metrics
    ]
    assert all(machine == machines[0] for machine in machines)


def test_the_documents_show_their_tables():
    for path, text in updated().items():
        assert path.read_text() == text


@pytest.mark.parametrize(("model", "least"), PROMISED.items())
def test_the_models_are_as_accurate_as_promised(model, least):
    found = recorded_seeds().get(model, [])
    if not found:
        pytest.skip(f"{model} has parameters of which no seeds are recorded")
    assert len(found) >= 5
    assert statistics.mean(found) >= least
    assert re.search(rf"^\| {model}.* ± .* \({len(found)}\)", current(), re.MULTILINE)


def test_they_stay_light_in_git():
    assert (REPORTS / "report.html").stat().st_size <= 1.2e6
    assert sum(path.stat().st_size for path in REPORTS.rglob("*") if path.is_file()) < 6e6
