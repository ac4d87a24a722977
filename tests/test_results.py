"""The committed results: on Fashion-MNIST, consistent with each other and with the documents, small, and good enough.

`make verify` runs these: what is committed is the record of one machine, and `make run` on another gives other digits.
"""

import json
import re
import statistics

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.common.errors import InputError
from stages.common.parameters import read_parameters
from stages.inference import convert, read_photo
from stages.inference.classifier import Classifier
from stages.page import documents
from stages.page.documents import updated
from stages.page.tables import current, over_seeds
from tests.conftest import ROOT, run
from tests.test_photo import encoded

pytestmark = pytest.mark.record
REPORTS = ROOT / "reports"
PROMISED = {"cnn": 0.92, "sprint": 0.942, "resnet": 0.95}  # test accuracies, means over seeds


@pytest.fixture
def summary() -> dict:
    return json.loads((REPORTS / "summary.json").read_text())


def test_they_are_on_fashion_mnist(summary):
    metrics = [json.loads(path.read_text()) for path in (REPORTS / "metrics").rglob("*.json")]
    assert {entry["dataset"] for entry in [summary, *metrics]} == {"fashion-mnist"}
    assert "NOT on Fashion-MNIST" not in (REPORTS / "report.html").read_text()


def test_the_documents_show_their_tables(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path, text in updated().items():
        assert path.read_text() == text


def test_a_table_whose_file_is_gone_names_what_makes_it(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    for name, maker in (("BENCHMARK", "`make bench`"), ("EXPERIMENTS", "`python -m stages.experiments NAME`")):
        with monkeypatch.context() as without:
            without.setattr(documents, name, tmp_path / "gone")
            with pytest.raises(InputError, match=f"gone is missing.*{maker}"):
                updated()


def test_the_selected_model_has_the_best_validation_accuracy(summary):
    best = max(summary["models"], key=lambda model: summary["models"][model]["val_accuracy"])
    assert summary["selected"] == best


@pytest.mark.parametrize(("model", "least"), PROMISED.items())
def test_the_models_are_as_accurate_as_promised(model, least):
    blocks = read_parameters("models", path=ROOT / "params.yaml")
    if model not in blocks:
        pytest.skip(f"no model {model} here")
    recorded = pd.read_csv(REPORTS / "experiments.csv", dtype={"base": str})
    found = over_seeds(recorded, "fashion-mnist", blocks)
    if model not in found:
        pytest.skip(f"{model} has parameters of which no five seeds are recorded")
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
    table, blocks = current(), read_parameters("models")
    recorded = over_seeds(pd.read_csv(REPORTS / "experiments.csv", dtype={"base": str}), "fashion-mnist", blocks)
    for model in set(PROMISED) & set(recorded):
        assert re.search(rf"^\| {model}.* ± .* \(5\)", table, re.MULTILINE), table


@pytest.mark.skipif(not (ROOT / "data/exported/model-tta.onnx").exists(), reason="no exported model here")
def test_photos_of_validation_images_are_classified_nearly_as_well():
    with np.load(ROOT / "data/prepared/val.npz") as arrays:
        images, labels = arrays["images"][::8], arrays["labels"][::8]
    photos = []
    for image in images:
        large = Image.fromarray(255 - image).resize((280, 280), Image.Resampling.NEAREST)
        framed = Image.new("L", (360, 360), 255)
        framed.paste(large, (40, 40))
        photos.append(convert(read_photo(encoded(framed, "JPEG", quality=85))).pixels)
    classifier = Classifier(ROOT / "data/exported/model-tta.onnx")
    original, converted = (
        (classifier.probabilities(given).argmax(axis=1) == labels).mean() for given in (images, np.stack(photos))
    )
    assert converted >= original - 0.015


@pytest.mark.skipif(not (ROOT / "data/exported/model-tta.onnx").exists(), reason="no exported model here")
def test_the_readme_shows_what_predict_prints():
    shown = re.findall(r"^# (tests/photos/.* % \(then .*\))$", (ROOT / "README.md").read_text(), re.MULTILINE)
    printed = run(ROOT, "python", "-m", "stages.predict", "tests/photos")
    assert shown
    assert set(shown) <= set(printed.splitlines())


@pytest.mark.fault(
    "The report is 3 MB in every commit.",
    "1.2 MB at most.",
)
def test_they_stay_light_in_git():
    assert (REPORTS / "report.html").stat().st_size <= 1.2e6
    assert sum(path.stat().st_size for path in REPORTS.rglob("*") if path.is_file()) < 6e6
