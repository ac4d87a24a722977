"""The benchmark's arithmetic. That it runs is seen where it is run: speed has no place in a test."""

import json
import sys

import keras
import pandas as pd
import pytest

from stages import bench, models
from stages.bench import run, summarise, time_to
from stages.benchmark import ours
from stages.common.errors import InputError
from stages.training import fit
from tests.conftest import ROOT, block_of
from tests.models import plain


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


CONTENDERS = {"notebook": None, "first": ("plain", {}), "quick": ("plain", {"epochs": 1}), "gone": ("absent", {})}


def started(monkeypatch, tmp_path, *options: str) -> list[list[str]]:
    """The processes that the benchmark starts, each of which seems to succeed at once."""
    found = []
    speed = {"operations_per_second": [2e11], "images_per_second": [3000], "seconds_to_load": 3, "precision": "float32"}
    speed |= {"predicted_per_second": 10000, "milliseconds_for_one": 2.5}

    def pretend(arguments: list[str]) -> tuple[list[dict], float]:
        if arguments[0] == "-c":
            return [{"operations_per_second": 2e11}], 1.0
        found.append(arguments)
        points = [{"seconds": 10.0 * epoch, "val_accuracy": 0.9} for epoch in (1, 2)]
        return [*points, speed], 900.0

    monkeypatch.setattr(bench, "run", pretend)
    monkeypatch.setattr(bench, "REPORTS", tmp_path)
    monkeypatch.setattr(bench, "CONTENDERS", CONTENDERS)
    monkeypatch.setattr(bench, "load_summary", lambda: {"dataset": "drawn"})
    monkeypatch.setattr(bench, "read_parameters", lambda key: {"plain": {}, "another": {}})
    monkeypatch.setattr(sys, "argv", ["bench", *options])
    monkeypatch.chdir(ROOT)
    bench.main()
    return found


def test_each_repetition_trains_our_models_from_a_seed_of_its_own(monkeypatch, tmp_path):
    ours = [given for given in started(monkeypatch, tmp_path, "--repetitions", "3") if "stages.benchmark.ours" in given]
    assert [given[2] for given in ours] == ["plain"] * 6
    assert [given[4] for given in ours] == ["0", "0", "1", "1", "2", "2"]  # the first and the quick one
    assert [json.loads(given[5]) for given in ours[:2]] == [{}, {"epochs": 1}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmark.csv", "benchmark.json", "benchmark.png"]


def test_a_model_without_a_block_is_left_out(monkeypatch, tmp_path):
    found = started(monkeypatch, tmp_path, "--repetitions", "1")
    assert not [given for given in found if "absent" in given]
    measured = json.loads((tmp_path / "benchmark.json").read_text())["contenders"]
    assert list(measured) == ["notebook", "first", "quick"]


@pytest.mark.parametrize("name", [name for name, ours in bench.CONTENDERS.items() if ours])
def test_what_the_benchmark_changes_in_a_block_is_a_block_still(name):
    model, changes = bench.CONTENDERS[name]
    _, blocks = models.read_all(ROOT / "params.yaml")
    if model not in blocks:
        pytest.skip(f"no model {model} here")
    type(blocks[model])(**blocks[model].model_dump() | changes)  # which refuses what is mistyped or out of range


def test_a_number_of_repetitions_that_is_none_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(bench, "run", lambda *arguments: pytest.fail("it runs"))
    monkeypatch.setattr(sys, "argv", ["bench", "--repetitions", "0"])
    with pytest.raises(SystemExit, match="--repetitions is 0, but must be at least 1"):
        bench.main()


def test_accuracies_and_rates_are_those_of_full_size_images_alone(monkeypatch, capsys, drawn_images):
    split = drawn_images[0][:100, ..., None], drawn_images[1][:100]
    inputs = keras.Input((28, 28, 1))
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(inputs)))
    history = pd.DataFrame({"val_accuracy": [0.99, 0.98, 0.5, 0.6, 0.7]})
    seconds = pd.DataFrame({"epoch": [0, 1, 2, 3, 4, 5], "seconds": [300.0, 104.0, 101.0, 52.0, 3.0, 5.0]})
    ends = [414.0, 515.0, 567.0, 570.0, 575.0]
    trained = fit.Trained(model, history, seconds, [100.0, 100.0, 50.0, 2.0, 4.0], ends, steps=5)
    changes = {"epochs": 5, "low_resolution_fraction": 0.4, "batch_size": 10, "epoch_fraction": 1}
    monkeypatch.setattr(ours, "load_split", lambda name: split)
    monkeypatch.setattr(models, "read_block", block_of)
    monkeypatch.setattr(models, "load", {"plain": plain}.get)
    monkeypatch.setattr(fit, "train", lambda *_: trained)
    monkeypatch.setattr(sys, "argv", ["ours", "plain", "0", "0", json.dumps(changes), "2"])
    ours.main()
    *curve, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert curve == [
        {"seconds": seconds, "val_accuracy": value} for seconds, value in ((567, 0.5), (570, 0.6), (575, 0.7))
    ]
    assert last["images_per_second"] == [50, 25]  # without the first epoch of a size, in which the step is traced
    assert last["operations_per_second"] == [6 * 7840 * rate for rate in (50, 25)]
    assert last["seconds_to_load"] == 10  # without the teachers, which are epoch 0
    assert last["seconds_to_trace"] == (104 - 101) + (52 - 4)
