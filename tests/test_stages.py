"""The stages that train, select and evaluate, on a few images: what they write, and that no test image is there so far."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import calibrate, evaluate, folds, models, select, train
from stages.base.errors import Damaged, InputError
from stages.base.files import read_json, write_json
from stages.base.runs import FOLD_MODEL, HISTORY, METRICS, MODELS, SELECTED, SELECTION, TEMPERATURES
from stages.base.splits import PREPARED
from stages.parameters.prepare import Prepare
from stages.prepare import prepare
from stages.results.origin import read_origin
from stages.results.predictions import load_folds, load_predictions
from stages.stress.corruptions import KINDS
from stages.stress.ood import INPUTS
from stages.trained import prediction, saving
from stages.training import fit
from tests.conftest import ROOT, block_of
from tests.models import plain

# `dull` and its teacher learn nothing. For the folds, it has no teacher and no patience.
DULL = {
    "epochs": 2,
    "batch_size": 64,
    "learning_rate": 1e-9,
    "teachers": [1],
    "distillation_weight": 0.5,
    "patience": 1,
}
PARAMETERS = {
    "models": {"plain": {"epochs": 3, "batch_size": 64, "learning_rate": 0.001, "epoch_fraction": 1}, "dull": DULL},
    "folds": {"model": "dull", "epochs": 1, "count": 2, "seed": 0},
    "robustness": {"images": 100, "seed": 0},
}


def ran(stage, *arguments: str) -> None:
    sys.argv[1:] = arguments
    stage.main()


@pytest.fixture(scope="module")
def project(tmp_path_factory, published):
    """A folder in which these stages ran, as the current one; what they wrote to stderr."""
    folder, (images, labels) = tmp_path_factory.mktemp("project"), published
    (folder / "models").mkdir()
    for name in PARAMETERS["models"]:
        shutil.copy(ROOT / "tests" / "models" / "plain.py", folder / "models" / f"{name}.py")
    parts, summary = prepare(
        images[:1000], labels[:1000], images[2000:], labels[2000:], Prepare(val_per_class=20, seed=0)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["stage"])
        patch.setattr(models, "__path__", [str(folder / "models")])
        content = yaml.safe_load((ROOT / "params.yaml").read_text()) | PARAMETERS
        Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        write_json(PREPARED / "summary.json", {"dataset": "fashion-mnist"} | summary)
        for name in ("train", "val"):
            np.savez(PREPARED / f"{name}.npz", images=parts[name][0], labels=parts[name][1])
        for run in ("train@plain-0", "train@dull-0"):
            ran(train, run)
        for stage in (folds, select, calibrate):
            ran(stage)
        np.savez(PREPARED / "test.npz", images=parts["test"][0], labels=parts["test"][1])
        ran(evaluate, "plain", "--seed", "0")
        yield parts
    for name in ("plain", "dull"):
        sys.modules.pop(f"stages.models.{name}", None)


def test_a_training_writes_the_model_and_what_it_predicts(project):
    images, labels = project["val"]
    predicted, model = load_predictions("val", "plain-0"), saving.load_model(MODELS / "plain-0.keras")
    assert np.array_equal(predicted["labels"], labels)
    np.testing.assert_allclose(predicted["probabilities"], prediction.classify(model, images[..., None]), atol=0.02)
    metrics, history = read_json(METRICS / "val" / "plain-0.json"), pd.read_csv(HISTORY / "plain-0.csv")
    assert metrics["accuracy"] == (predicted["probabilities"].argmax(axis=1) == labels).mean() > 0.4
    assert metrics["training"] == [{"steps": 3 * 12, "teachers_accuracy": None, "batch_norm_momentum": 0}]
    assert metrics["network"][0]["epochs"] == len(history) == 3
    assert metrics["network"][0]["multiply_adds"] == 784 * 10
    origin = read_origin(MODELS / "plain-0.keras")
    assert (origin["dataset"], origin["model"], origin["seed"]) == ("fashion-mnist", "plain", 0)
    assert origin["parameters"] == models.read_block("plain").model_dump()


def test_the_best_model_is_selected_and_doubtful_ones_are_named(project, capsys):
    select.main()
    captured, selection = capsys.readouterr(), read_json(SELECTION)
    assert selection["selected"] == "plain"
    assert selection["run"] == "plain-0"
    assert selection["best_runs"] == {"plain": "plain-0", "dull": "dull-0"}
    assert [place["model"] for place in selection["ranking"]] == ["plain", "dull"]
    assert captured.out.startswith("selected plain-0: plain has the highest validation accuracy")
    (doubtful,), warnings = selection["warnings"], selection["warnings"]["dull-0"]
    assert doubtful == "dull-0"
    assert "its teachers classify " in "\n".join(warnings)
    assert captured.err.splitlines() == [f"warning: dull-0: {sentence}." for sentence in warnings]
    assert SELECTED.read_bytes() == (MODELS / "plain-0.keras").read_bytes()


def test_a_model_of_another_run_is_not_selected(project, monkeypatch, tmp_path):
    shutil.copytree(".", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    shutil.copy(MODELS / "dull-0.keras", MODELS / "plain-0.keras")
    with pytest.raises(Damaged, match=r"plain-0\.keras cannot be used: it is another model, whose run is dull-0"):
        select.main()


def test_a_temperature_is_fitted_for_each_model_and_the_ensemble(project):
    temperatures = read_json(TEMPERATURES)["temperatures"]
    assert list(temperatures) == ["plain", "dull", "ensemble"]
    assert all(0.04 < temperature < 20.1 for temperature in temperatures.values())


def test_folds_judge_each_image_by_a_model_that_has_not_seen_it(project):
    arrays, origin = load_folds(), read_origin(FOLD_MODEL)
    images, labels = (np.concatenate(parts) for parts in zip(project["train"], project["val"], strict=True))
    assert np.array_equal(arrays["labels"], labels)
    assert np.bincount(arrays["fold"]).tolist() == [500, 500]
    held_out = arrays["fold"] == 0
    expected = prediction.classify(saving.load_model(FOLD_MODEL), images[held_out][..., None])
    np.testing.assert_allclose(arrays["probabilities"][held_out], expected, atol=0.02)
    assert (origin["model"], origin["without_fold"], origin["folds"]) == ("dull", 0, 2)
    assert origin["parameters"] | {"epochs": 1, "patience": None, "teachers": []} == origin["parameters"]


def test_no_image_is_predicted_by_a_model_that_was_trained_on_it(images, monkeypatch):
    images, labels = images[0][:120, ..., None], images[1][:120]
    fold, seen = folds.fold_of(labels, 3, seed=0), []

    def train(architecture, block, seed, train_images, train_labels, *watched, **others):
        assert len(train_images) == len(train_labels)
        seen.append({image.tobytes() for image in train_images})
        return SimpleNamespace(model=len(seen))

    def classify(model, images):
        assert not any(image.tobytes() in seen[model - 1] for image in images)
        return np.full((len(images), 10), model / 10)

    monkeypatch.setattr(fit, "train", train)
    monkeypatch.setattr(prediction, "classify", classify)
    probabilities, first = folds.out_of_fold(images, labels, fold, plain, block_of("plain"), 0)
    assert probabilities.dtype == np.float32
    assert probabilities[:, 0] == pytest.approx((fold + 1) / 10)
    assert first == 1  # the model that has not seen fold 0


def test_folds_are_stratified_seeded_and_refuse_a_class_that_is_too_rare():
    labels = np.repeat(np.arange(10), 9).astype(np.uint8)
    fold = folds.fold_of(labels, 3, seed=0)
    for label in range(10):
        assert np.bincount(fold[labels == label]).tolist() == [3, 3, 3]
    assert (fold == folds.fold_of(labels, 3, seed=0)).all()
    assert (fold != folds.fold_of(labels, 3, seed=1)).any()
    with pytest.raises(InputError, match=r"folds\.count is 12, but a class has only 9 images"):
        folds.fold_of(labels, 12, seed=0)


def test_an_evaluation_scores_the_test_images_as_they_are_corrupted_and_beside_others(project):
    predicted = load_predictions("test", "plain-0")
    metrics, lasting = (read_json(METRICS / split / "plain-0.json") for split in ("test", "robustness"))
    labels = project["test"][1]
    assert metrics["accuracy"] == (predicted["probabilities"].argmax(axis=1) == labels).mean() > 0.4
    per_class = pd.read_csv("reports/per_class/plain-0.csv")
    assert per_class["images"].tolist() == np.bincount(labels).tolist()
    assert pd.read_csv("reports/confusion/plain-0.csv")["images"].sum() == 500
    corrupted, ood = pd.read_csv("reports/robustness/plain-0.csv"), pd.read_csv("reports/ood/plain-0.csv")
    assert (corrupted["images"] == 100).all()
    assert len(corrupted) == 6 * len(KINDS)
    assert ood["input"].tolist() == list(INPUTS)
    assert lasting["accuracy"] < corrupted["accuracy"].max()


def test_an_evaluation_refuses_a_model_that_was_trained_otherwise(project, monkeypatch):
    before = Path("params.yaml").read_text()
    content = yaml.safe_load(before)
    content["models"]["plain"]["epochs"] = 4
    monkeypatch.setattr(sys, "argv", ["stage", "plain"])
    try:
        Path("params.yaml").write_text(json.dumps(content))
        with pytest.raises(Damaged, match="it is another model, whose epochs is 3, but should be 4"):
            evaluate.main()
    finally:
        Path("params.yaml").write_text(before)
