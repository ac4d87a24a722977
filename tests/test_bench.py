"""The benchmark's arithmetic. That it runs is seen where it is run: speed has no place in a test."""

import json
import sys

import keras
import pandas as pd
import pytest

from stages import bench
from stages.bench import run, summarise, time_to
from stages.benchmark import ours
from stages.errors import InputError
from stages.parameters import read_parameters
from stages.training.fit import Trained
from tests.conftest import ROOT


def contender(*accuracies: float, step: float, **more: object) -> dict:
    curve = [{"seconds": step * count, "val_accuracy": value} for count, value in enumerate(accuracies, 1)]
    return {"curve": curve, "epoch_seconds": [step] * (len(curve) - 1), "memory": 900.0} | more


def test_the_time_to_an_accuracy_is_that_of_the_first_epoch_that_reaches_it():
    curve = contender(0.9, 0.92, 0.91, 0.94, step=10)["curve"]
    assert [time_to(aim, curve) for aim in (0.91, 0.93, 0.95)] == [20, 40, None]


def test_medians_and_ratios_over_the_repetitions():
    speed = {"operations_per_second": [2e11, 3e11], "images_per_second": [3000, 4000], "precision": "bfloat16"}
    speed |= {"predicted_per_second": 10000, "milliseconds_for_one": 2.5, "seconds_to_load": 3}
    ours, theirs = speed | {"seconds_to_trace": 1.5}, speed | {"precision": "float32", "seconds_to_load": 6}
    measured = {
        "notebook": [contender(0.88, 0.9, 0.91, step=step, **theirs) for step in (10, 12, 20)],
        "sprint": [contender(0.911, value, step=3, **ours) for value in (0.93, 0.94, 0.95)],
    }
    summary = summarise(measured, {"float32": 2e11, "bfloat16": 4e11})
    assert summary["notebook"]["seconds_to_91"] == 36
    assert summary["notebook"]["seconds_to_94"] is None
    assert summary["notebook"]["epoch_seconds"] == 12
    assert summary["notebook"]["notebook_epochs"] == 2.5
    assert summary["notebook"]["share_of_peak"] == 1.25
    assert summary["notebook"]["seconds_to_trace"] is None
    sprint = summary["sprint"]
    assert sprint["notebook_epochs"] == 0.25
    assert (sprint["seconds_to_91"], sprint["seconds_to_93"], sprint["seconds_to_94"]) == (3, 6, None)
    assert (sprint["notebook_to_91"], sprint["notebook_to_93"]) == (12, None)
    assert sprint["share_of_peak"] == 0.625
    assert sprint["seconds_to_trace"] == 1.5
    assert sprint["best_val_accuracy"] == [0.93, 0.94, 0.95]


def test_a_process_reports_its_json_lines_and_its_memory():
    program = "x = bytearray(64 << 20); print('chatter'); print('{\"seconds\": 1}')"
    printed, memory = run(["-c", program])
    assert printed == [{"seconds": 1}]
    assert 64 < memory < 2000


def test_a_process_that_fails_says_why():
    with pytest.raises(InputError, match="ZeroDivisionError"):
        run(["-c", "1 / 0"])


def test_each_repetition_trains_our_models_from_a_seed_of_its_own(monkeypatch, tmp_path):
    started = []
    speed = {"operations_per_second": [2e11], "images_per_second": [3000], "seconds_to_load": 3, "precision": "float32"}
    speed |= {"predicted_per_second": 10000, "milliseconds_for_one": 2.5}

    def pretend(arguments: list[str]) -> tuple[list[dict], float]:
        if arguments[0] == "-c":
            return [{"operations_per_second": 2e11}], 1.0
        started.append(arguments)
        points = [{"seconds": 10.0 * epoch, "val_accuracy": 0.9} for epoch in (1, 2)]
        return [*points, speed], 900.0

    monkeypatch.setattr(bench, "run", pretend)
    monkeypatch.setattr(bench, "REPORTS", tmp_path)
    monkeypatch.setattr(bench, "load_summary", lambda: {"dataset": "drawn"})
    monkeypatch.setattr(bench, "read_parameters", lambda key: dict.fromkeys(("cnn", "sprint", "resnet")))
    monkeypatch.setattr(sys, "argv", ["bench", "--repetitions", "3"])
    bench.main()
    ours = [arguments for arguments in started if arguments[:3] == ["-m", "stages.benchmark.ours", "sprint"]]
    assert [arguments[4] for arguments in ours] == ["0", "0", "1", "1", "2", "2"]  # sprint and dash
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmark.csv", "benchmark.json", "benchmark.png"]


def test_what_the_benchmark_changes_in_a_block_is_a_block_still():
    blocks = read_parameters("models", path=ROOT / "params.yaml")
    for model, changes in filter(None, bench.CONTENDERS.values()):
        block = blocks[model]
        type(block)(**block.model_dump() | changes)  # which refuses what is mistyped or out of range


def test_what_cannot_be_measured_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["bench", "--repetitions", "0"])
    with pytest.raises(SystemExit, match="--repetitions is 0, but must be at least 1"):
        bench.main()
    monkeypatch.setattr(sys, "argv", ["bench"])
    monkeypatch.setattr(bench, "read_parameters", lambda key: {"sprint": None})
    monkeypatch.setattr(bench, "contend", lambda *arguments: pytest.fail("it runs"))
    with pytest.raises(SystemExit, match="the benchmark trains cnn, resnet, without a block"):
        bench.main()


def test_accuracies_and_rates_are_those_of_full_size_pictures_alone(monkeypatch, capsys, drawn_pictures):
    split = drawn_pictures[0][:100, ..., None], drawn_pictures[1][:100]
    inputs = keras.Input((28, 28, 1))
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(inputs)))
    history = pd.DataFrame({"val_accuracy": [0.99, 0.98, 0.5, 0.6, 0.7]})
    seconds = pd.DataFrame({"epoch": [0, 1, 2, 3, 4, 5], "seconds": [300.0, 104.0, 101.0, 52.0, 3.0, 5.0]})
    ends = [414.0, 515.0, 567.0, 570.0, 575.0]
    trained = Trained(model, history, seconds, [100.0, 100.0, 50.0, 2.0, 4.0], ends)
    block = {"epochs": 5, "small_epochs": 0.4, "small_size": 14, "batch_size": 10, "epoch_size": 1}
    monkeypatch.setattr(ours, "load_split", lambda name: split)
    monkeypatch.setattr("stages.training.fit.train", lambda *_: trained)
    monkeypatch.setattr(sys, "argv", ["ours", "sprint", "0", "0", json.dumps(block)])
    monkeypatch.chdir(ROOT)
    ours.main()
    *curve, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert curve == [
        {"seconds": seconds, "val_accuracy": value} for seconds, value in ((567, 0.5), (570, 0.6), (575, 0.7))
    ]
    assert last["images_per_second"] == [50, 25]  # without the first epoch of a size, in which the step is traced
    assert last["operations_per_second"] == [6 * 7840 * rate for rate in (50, 25)]
    assert last["seconds_to_load"] == 10  # without the teachers, which are epoch 0
    assert last["seconds_to_trace"] == (104 - 101) + (52 - 4)
