"""The stages that train, select and evaluate, on a few images: what they write, and that no test image is there so far."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import calibrate, evaluate, folds, models, select, train
from stages.base.errors import Damaged
from stages.base.files import read_json, write_json
from stages.base.runs import FOLD_MODEL, HISTORY, METRICS, MODELS, SELECTED, SELECTION, TEMPERATURES
from stages.base.splits import PREPARED, save_split
from stages.data.checks import check
from stages.data.publisher import CLASS_NAMES
from stages.data.source import Source
from stages.parameters.prepare import Prepare
from stages.prepare import prepare
from stages.results.origin import read_origin
from stages.results.predictions import load_folds, load_predictions
from stages.trained import prediction, saving
from stages.training import fit
from tests.conftest import ROOT, block_of, dataset_of
from tests.models import plain

# `dull` and its teacher learn nothing. For the folds, it has no teacher and no patience.
PARAMETERS = """
models:
  plain: {epochs: 3, batch_size: 64, learning_rate: 0.001, epoch_fraction: 1}
  dull: {epochs: 2, batch_size: 64, learning_rate: 0.000000001, patience: 1, teachers: [1], distillation_weight: 0.5}
folds: {model: dull, epochs: 1, count: 2, seed: 0}
robustness: {images: 100, seed: 0}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, published):
    """The splits of a project in which these stages ran, and which is the current folder."""
    folder, (images, labels) = tmp_path_factory.mktemp("project"), published
    (folder / "models").mkdir()
    for name in ("plain", "dull"):
        shutil.copy(ROOT / "tests" / "models" / "plain.py", folder / "models" / f"{name}.py")
    sections = yaml.safe_load((ROOT / "params.yaml").read_text()) | yaml.safe_load(PARAMETERS)
    chosen = [*range(1000), *range(2000, 2500)]
    given = np.repeat(["train", "test"], [1000, 500])
    source = Source(images[chosen][..., None], labels[chosen], given, np.arange(1500).astype(str))
    dataset = dataset_of("fashion-mnist", duplicates="keep", class_names=list(CLASS_NAMES))
    section = Prepare(val_per_class=20, test_share=0.2, seed=0)
    parts, summary, _ = prepare(source, check(source, dataset), dataset, section)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(models, "__path__", [str(folder / "models")])
        Path("params.yaml").write_text(yaml.safe_dump(sections, sort_keys=False))
        write_json(PREPARED / "summary.json", summary)
        for stage, *arguments in (
            (train, "train@plain-0"), (train, "train@dull-0"), (folds,), (select,), (calibrate,), (evaluate, "plain")
        ):  # fmt: skip
            for name in ("train", "val", *(["test"] if stage is evaluate else [])):
                save_split(name, *parts[name])
            patch.setattr(sys, "argv", ["stage", *arguments])
            stage.main()
        yield parts
    for name in ("plain", "dull"):
        sys.modules.pop(f"stages.models.{name}", None)


def test_a_training_writes_the_model_and_what_it_predicts(project):
    images, labels = project["val"]
    predicted, model = load_predictions("val", "plain-0"), saving.load_model(MODELS / "plain-0.keras")
    assert np.array_equal(predicted["labels"], labels)
    np.testing.assert_allclose(predicted["probabilities"], prediction.classify(model, images), atol=0.02)
    metrics, history = read_json(METRICS / "val" / "plain-0.json"), pd.read_csv(HISTORY / "plain-0.csv")
    assert metrics["accuracy"] == pytest.approx((predicted["probabilities"].argmax(axis=1) == labels).mean(), abs=1e-6)
    assert metrics["training"] == [{"steps": 3 * 20, "teachers_accuracy": None, "batch_norm_momentum": 0}]
    assert metrics["network"] == [{"parameters": 785 * 10, "multiply_adds": 784 * 10, "epochs": len(history)}]
    origin = read_origin(MODELS / "plain-0.keras")
    assert (origin["dataset"], origin["model"], origin["seed"]) == ("fashion-mnist", "plain", 0)
    assert origin["parameters"] == models.read_block("plain").model_dump()


def test_the_best_model_is_selected_doubtful_ones_are_named_and_each_gets_a_temperature(project, capsys):
    select.main()
    captured, selection = capsys.readouterr(), read_json(SELECTION)
    assert (selection["selected"], selection["run"]) == ("plain", "plain-0")
    assert selection["best_runs"] == {"plain": "plain-0", "dull": "dull-0"}
    assert captured.out.startswith("selected plain-0: plain has the highest validation accuracy")
    assert SELECTED.read_bytes() == (MODELS / "plain-0.keras").read_bytes()
    assert list(selection["warnings"]) == ["dull-0"]
    warnings = selection["warnings"]["dull-0"]
    assert any(warning.startswith("its teachers classify ") for warning in warnings)
    assert captured.err.splitlines() == [f"warning: dull-0: {warning}." for warning in warnings]
    assert list(read_json(TEMPERATURES)["temperatures"]) == ["plain", "dull", "ensemble"]


def test_a_model_of_another_run_or_another_block_is_refused(project, monkeypatch, tmp_path):
    shutil.copytree(".", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stage", "plain"])
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("epochs: 3", "epochs: 4"))
    with pytest.raises(Damaged, match=r"plain-0\.keras .* is another model, whose epochs is 3, but should be 4"):
        evaluate.main()
    shutil.copy(MODELS / "dull-0.keras", MODELS / "plain-0.keras")
    with pytest.raises(Damaged, match=r"plain-0\.keras cannot be used: it is another model, whose run is dull-0"):
        select.main()


def test_folds_are_judged_by_models_without_teachers_and_patience(project):
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

    def trained(architecture, block, seed, train_images, train_labels, *watched, **others):
        assert len(train_images) == len(train_labels)
        seen.append({image.tobytes() for image in train_images})
        return SimpleNamespace(model=len(seen))

    def classify(model, images):
        assert not any(image.tobytes() in seen[model - 1] for image in images)
        return np.full((len(images), 10), model / 10)

    monkeypatch.setattr(fit, "train", trained)
    monkeypatch.setattr(prediction, "classify", classify)
    probabilities, first = folds.out_of_fold(images, labels, fold, plain, block_of("plain"), 0)
    assert probabilities[:, 0] == pytest.approx((fold + 1) / 10)
    assert first == 1  # the model that has not seen fold 0


def test_folds_are_stratified_seeded_and_as_many_as_the_rarest_class_has_images():
    labels = np.repeat(np.arange(10), 9).astype(np.uint8)
    fold = folds.fold_of(labels, 3, seed=0)
    assert [np.bincount(fold[labels == label]).tolist() for label in range(10)] == [[3, 3, 3]] * 10
    assert (fold == folds.fold_of(labels, 3, seed=0)).all()
    assert (fold != folds.fold_of(labels, 3, seed=1)).any()
    assert np.bincount(folds.fold_of(labels, 12, seed=0)).tolist() == [10] * 9


def test_an_evaluation_scores_the_test_images_and_a_sample_of_them_corrupted(project):
    labels, saved = project["test"][1], load_predictions("test", "plain-0")
    predicted = saved["probabilities"]
    metrics, lasting = (read_json(METRICS / split / "plain-0.json") for split in ("test", "robustness"))
    assert metrics["accuracy"] == pytest.approx((predicted.argmax(axis=1) == labels).mean(), abs=1e-6)
    tables = {
        name: pd.read_csv(f"reports/{name}/plain-0.csv") for name in ("per_class", "confusion", "robustness", "ood")
    }
    assert tables["per_class"]["images"].tolist() == np.bincount(labels).tolist()
    assert tables["confusion"]["images"].sum() == 500
    assert set(tables["robustness"]["images"]) == set(tables["ood"]["images"]) == {100}
    assert lasting["accuracy"] < tables["robustness"]["accuracy"].max()
    some = np.random.default_rng(0).permutation(500)[:100]
    right = saved["single_view"][some].argmax(axis=1) == labels[some]
    assert (tables["robustness"].query("strength == 0")["accuracy"] == right.mean()).all()
