"""The benchmark's arithmetic, and that a model of ours is measured in its own process. Speed has no place in a test."""

import json
import sys
import time

import keras
import pandas as pd
import pytest

from stages import bench, models
from stages.bench import summarise
from stages.benchmark import ours
from stages.training import epochs, fit
from tests.conftest import MODELS, ROOT, block_of, run
from tests.models import plain

SPEED = {
    "operations_per_second": [2e11, 3e11], "images_per_second": [3000, 4000], "precision": "bfloat16",
    "seconds_to_load": 3,
}  # fmt: skip


def contender(*accuracies: float, step: float, **more: object) -> dict:
    curve = [{"seconds": step * count, "val_accuracy": value} for count, value in enumerate(accuracies, 1)]
    return {"curve": curve, "epoch_seconds": [step] * (len(curve) - 1), "memory": 900.0} | SPEED | more


def test_medians_and_ratios_over_the_repetitions():
    theirs = {"precision": "float32", "seconds_to_load": 6}
    measured = {
        "notebook": [contender(0.88, 0.9, 0.91, step=step, **theirs) for step in (10, 12, 20)],
        "sprint": [contender(0.911, value, step=3, seconds_to_trace=1.5) for value in (0.93, 0.94, 0.95)],
    }
    summary = summarise(measured, {"float32": 2e11, "bfloat16": 4e11})
    expected = {
        "notebook": {
            "seconds_to_91": 36, "seconds_to_94": None, "epoch_seconds": 12, "notebook_epochs": 2.5, "share_of_peak": 1.25,
            "seconds_to_trace": None,
        },
        "sprint": {
            "seconds_to_91": 3, "seconds_to_93": 6, "seconds_to_94": None, "notebook_to_91": 12, "notebook_to_93": None,
            "notebook_epochs": 0.25, "share_of_peak": 0.625, "seconds_to_trace": 1.5,
            "best_val_accuracy": [0.93, 0.94, 0.95],
        },
    }  # fmt: skip
    for name, values in expected.items():
        assert {key: summary[name][key] for key in values} == values


def test_each_repetition_trains_our_models_from_a_seed_of_its_own(monkeypatch, tmp_path):
    started = []

    def pretend(arguments: list[str]) -> tuple[list[dict], float]:
        if arguments[0] == "-c":
            return [{"operations_per_second": 2e11}], 1.0
        started.append(arguments[2:])
        return [*({"seconds": 10.0 * epoch, "val_accuracy": 0.9} for epoch in (1, 2)), SPEED], 900.0

    contenders = {"notebook": None, "first": ("plain", {}), "quick": ("plain", {"epochs": 1}), "gone": ("absent", {})}
    monkeypatch.setattr(bench, "run", pretend)
    monkeypatch.setattr(bench, "REPORTS", tmp_path)
    monkeypatch.setattr(bench, "CONTENDERS", contenders)
    monkeypatch.setattr(bench, "read", lambda key, _: {"models": {"plain": {}}, "threads": 2}[key])
    bench.compare(2)
    ours = [given for given in started if given[0] == "plain"]  # `absent` has no block
    assert [given[2] for given in ours] == ["0", "0", "1", "1"]
    assert [json.loads(given[3]) for given in ours[:2]] == [{}, {"epochs": 1}]
    measured = json.loads((tmp_path / "benchmark.json").read_text())["contenders"]
    assert list(measured) == ["notebook", "first", "quick"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmark.csv", "benchmark.json"]


def test_what_the_benchmark_changes_in_a_block_is_a_block_still(monkeypatch):
    monkeypatch.chdir(ROOT)
    for model, changes in filter(None, bench.CONTENDERS.values()):
        if model in models.names():  # else a user has removed it
            block = models.read_block(model)
            type(block)(**block.model_dump() | changes)  # which refuses what is mistyped or out of range


def test_accuracies_and_rates_are_those_of_full_size_images_alone(monkeypatch, capsys, images):
    split = images[0][:100, ..., None], images[1][:100]
    inputs = keras.Input((28, 28, 1))
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(inputs)))
    history = pd.DataFrame({"val_accuracy": [0.99, 0.98, 0.5, 0.6, 0.7]})
    seconds = pd.DataFrame({"epoch": [0, 1, 2, 3, 4, 5], "seconds": [300.0, 104.0, 101.0, 52.0, 3.0, 5.0]})
    ends = [414.0, 515.0, 567.0, 570.0, 575.0]
    trained = fit.Trained(
        model, history, seconds, [100.0, 100.0, 50.0, 2.0, 4.0], ends, steps=50, teachers_accuracy=None
    )
    changes = {"epochs": 5, "low_resolution_fraction": 0.4, "batch_size": 10, "epoch_fraction": 1}
    monkeypatch.setattr(ours, "load_split", lambda name: split)
    monkeypatch.setattr(models, "read_block", lambda name, mirror: block_of(name))
    monkeypatch.setattr(ours, "load_summary", lambda: {"mirror": True})
    monkeypatch.setattr(epochs, "batch_size", lambda block, count: block.batch_size)
    monkeypatch.setattr(models, "load", {"plain": plain}.get)
    monkeypatch.setattr(fit, "train", lambda *_: trained)
    monkeypatch.setattr(sys, "argv", ["ours", "plain", "0", "0", json.dumps(changes), "2"])
    ours.main()
    *curve, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [tuple(point.values()) for point in curve] == [(567, 0.5), (570, 0.6), (575, 0.7)]
    assert last["images_per_second"] == [50, 25]  # without the first epoch of a size, in which the step is traced
    assert last["operations_per_second"] == [6 * 7840 * rate for rate in (50, 25)]
    assert last["seconds_to_load"] == 10  # without the teachers, which are epoch 0
    assert last["seconds_to_trace"] == (104 - 101) + (52 - 4)


@pytest.mark.slow
def test_a_model_of_ours_is_measured_in_a_process_of_its_own(finished):
    command = ("python", "-m", "stages.benchmark.ours", MODELS[0], str(time.time()), "0", '{"epochs": 2}', "2")
    *epochs_of, speed = [json.loads(line) for line in run(finished, *command).splitlines() if line.startswith("{")]
    assert [sorted(one) for one in epochs_of] == [["seconds", "val_accuracy"]] * 2
    assert speed["operations_per_second"]
