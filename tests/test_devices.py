"""The start of Keras, and training on several devices."""

import gc
import json
import os
import subprocess

import pytest

from stages.base.errors import InputError
from stages.trained import backend, precision
from stages.trained.precision import use_bfloat16
from stages.training.devices import several_devices
from stages.training.fit import train
from tests.conftest import ROOT, block_of, run
from tests.models import plain


def on_one_and_two_devices(model: str, **changes: object) -> dict:
    block = block_of(model, batch_size=50, epochs=5, **changes).model_dump_json()
    return json.loads(run(ROOT, "python", "-m", "tests.two_devices", model, block).splitlines()[-1])


@pytest.mark.slow
def test_two_devices_train_the_same_model_as_one_interrupted_or_not():
    """Losses decide which images an epoch shows: one that a device saw and forgot would show others."""
    gentle = {"optimizer": "sgd", "learning_rate": 0.01, "bias_factor": 4.0, "precision": "float32"}
    shown = {"epoch_fraction": 0.4, "hard_example_fraction": 0.7, "ema_momentum": 0.8}
    result = on_one_and_two_devices("plain", **gentle, **shown)
    assert result["apart"] < 1e-5 < 1e-2 < result["moved"]
    assert result["accuracy"][0] == pytest.approx(result["accuracy"][1])
    assert (result["same"], result["interruptions"]) == (True, 4 + 1)  # between epochs; at the end


@pytest.mark.slow
def test_a_model_with_every_feature_trains_on_two_devices_interrupted_or_not():
    """Batch normalization, low-resolution epochs, early stopping, hard examples, dropout, teachers."""
    result = on_one_and_two_devices("small", patience=9, teachers=[1], distillation_weight=0.5)
    assert min(result["accuracy"]) > 0.3
    assert (result["same"], result["interruptions"]) == (True, 2 + 4 + 1)  # the teacher and its probabilities


def test_a_batch_that_devices_cannot_share_is_refused(images):
    images, labels = images[0][:100, ..., None], images[1][:100]
    with pytest.raises(InputError, match="batch_size is 16, which 3 devices cannot share evenly"):
        train(plain, block_of("plain", batch_size=50), 0, images, labels, images, labels, devices=3)


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(InputError, match="devices is 9, but TensorFlow finds 1 here"), several_devices(9):
        pass


WITH, WITHOUT = "flags : avx512f avx512_bf16", "flags : avx512f"


@pytest.mark.parametrize(
    ("capabilities", "processor", "allowed", "auto"),
    [
        ([9.0, 8.0], WITHOUT, "", True),
        ([9.0, 7.5], WITH, "", False),
        ([], WITH, "", True),  # without a GPU, the processor decides
        ([], WITH, "AVX512_CORE_BF16", True),
        ([], WITH, "avx512_core", False),
        ([], WITHOUT, "", False),
        ([], None, "", False),  # not Linux
    ],
)
@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_bfloat16_is_for_machines_that_compute_in_it(
    name, capabilities, processor, allowed, auto, monkeypatch, tmp_path
):
    for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.setenv(variable, allowed if variable == name else "")
    monkeypatch.setattr(precision.on_tensorflow, "capabilities", lambda: capabilities)
    monkeypatch.setattr(precision, "Path", lambda path: tmp_path / "cpuinfo")
    if processor:
        (tmp_path / "cpuinfo").write_text(processor)
    assert [use_bfloat16(asked) for asked in ("auto", "bfloat16", "float32")] == [auto, True, False]
    if processor and not capabilities:
        monkeypatch.setenv(name, "AVX2")
        assert not use_bfloat16("auto")
        with pytest.raises(InputError, match=f"precision is bfloat16, but the environment variable {name} is AVX2"):
            use_bfloat16("bfloat16")


def test_what_was_loaded_is_spared_by_the_garbage_collector_which_goes_on_with_the_rest():
    assert gc.get_freeze_count() > 10_000
    assert gc.isenabled()


def test_keras_starts_without_a_word():
    """It starts once, and libraries that it keeps from Keras can be imported afterwards."""
    code = "import sklearn.decomposition\nfrom stages.trained.backend import start_keras\n"
    code += "for time in (1, 2): start_keras(5)\n"
    code += "import keras, matplotlib  # which was kept from Keras\n"
    code += "print(keras.backend.backend(), keras.config.floatx())\n"
    assert run(ROOT, "python", "-c", code) == "tensorflow float32\n"


def test_what_libraries_say_is_shown_only_if_they_fail(capfd):
    with backend.silent():
        os.write(2, b"no GPU\n")
    for even_on_errors in (True, False):
        with pytest.raises(subprocess.CalledProcessError), backend.silent(even_on_errors):
            subprocess.run("echo no such library >&2; false", shell=True, check=True)
    assert capfd.readouterr().err == "no such library\n"
