"""Training on several devices, and under Keras's JAX backend."""

import json

import pytest

from stages.common.errors import InputError
from stages.common.parameters import read_parameters
from stages.trained import precision
from stages.trained.precision import use_bfloat16
from stages.training.devices import several_devices
from stages.training.fit import train
from tests.conftest import ROOT, block_of, run
from tests.interrupted import OWN
from tests.models import plain


def one_and_two_devices(backend: str, model: str, *asked: str, **changes: object) -> dict:
    output = run(
        ROOT, "python", "-m", "tests.two_devices", model, json.dumps(changes), *asked, BACKEND_OF_TESTS=backend
    )
    return json.loads(output.splitlines()[-1])


@pytest.mark.parametrize(("backend", "epoch_fraction"), [("tensorflow", 1), ("tensorflow", 0.4), ("jax", 1)])
def test_two_devices_train_the_same_model_as_one(backend, epoch_fraction):
    """Where an epoch shows a part, the losses decide which: one that a device saw and forgot would show other images."""
    gentle = {"optimizer": "sgd", "learning_rate": 0.01, "bias_factor": 4.0, "precision": "float32"}
    gentle |= {
        "epoch_fraction": epoch_fraction,
        "hard_example_fraction": 0.7,
        "epochs": 2 if epoch_fraction == 1 else 5,
    }
    result = one_and_two_devices(backend, "plain", "moved", ema_momentum=0.8, **gentle)
    assert result["apart"] < 1e-5 < 1e-2 < result["moved"]
    assert result["accuracy"][0] == pytest.approx(result["accuracy"][1])


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_model_with_every_feature_trains_on_two_devices(backend):
    """Batch normalization, low-resolution epochs, hard examples, dropout: none stands in the way, nor do interruptions."""
    result = one_and_two_devices(backend, "small", "interrupted", epochs=5, teachers=[1], distillation_weight=0.5)
    assert result["finite"]
    assert min(result["accuracy"]) > 0.5
    assert set(result["interrupted"]) == {2 + 4 + 1}  # the teacher and what it says; between epochs; at the end


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "model"), [("tensorflow", "cnn"), ("jax", "cnn"), ("tensorflow", "sprint"), ("jax", "resnet")]
)
def test_the_projects_models_go_on_after_interruptions_on_two_devices(backend, model, monkeypatch):
    """With early stopping, with epochs that show a part of the images, with teachers."""
    monkeypatch.chdir(ROOT)
    if model not in read_parameters("models"):
        pytest.skip(f"params.yaml has no model {model}")
    assert min(one_and_two_devices(backend, model, "interrupted", **OWN[model])["interrupted"]) >= 2


def test_images_are_selected_by_their_losses_under_jax_too():
    run(ROOT, "python", "-m", "pytest", "-n", "0", "tests/test_epochs.py", BACKEND_OF_TESTS="jax")


def test_a_batch_that_devices_cannot_share_is_refused(drawn_images):
    images, labels = drawn_images[0][:100, ..., None], drawn_images[1][:100]
    with pytest.raises(InputError, match="batch_size is 50, which 3 devices cannot share evenly"):
        train(plain, block_of("plain", batch_size=50), 0, images, labels, images, labels, devices=3)


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(InputError, match="devices is 9, but tensorflow finds 1 here"), several_devices(9):
        pass


def test_bfloat16_is_for_machines_that_compute_in_it(monkeypatch, tmp_path):
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    assert use_bfloat16("bfloat16")
    assert not use_bfloat16("float32")
    for capabilities, expected in (([9.0, 8.0], True), ([9.0, 7.5], False)):
        monkeypatch.setattr(precision, "gpu_capabilities", lambda found=capabilities: found)
        assert use_bfloat16("auto") is expected
    monkeypatch.setattr(precision, "gpu_capabilities", list)  # none, so the processor decides
    monkeypatch.setattr(precision, "Path", lambda path: tmp_path / "cpuinfo")
    assert not use_bfloat16("auto")  # no such file: not Linux
    for flags, expected in (("flags : avx2 avx512_bf16 fma", True), ("flags : avx2 avx512f fma", False)):
        (tmp_path / "cpuinfo").write_text(flags)
        assert use_bfloat16("auto") is expected


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_what_onednn_may_not_do_is_not_asked_of_it(monkeypatch, tmp_path, name):
    for other in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setattr(precision, "gpu_capabilities", list)
    monkeypatch.setattr(precision, "Path", lambda path: tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags : avx2 avx512f avx512_bf16 fma")
    for allowed, auto, asked in (("AVX512_CORE_BF16", True, True), ("avx512_core", False, True), ("AVX2", False, None)):
        monkeypatch.setenv(name, allowed)
        assert use_bfloat16("auto") is auto
        assert not use_bfloat16("float32")
        if asked:
            assert use_bfloat16("bfloat16")
        else:
            with pytest.raises(InputError, match=f"precision is bfloat16, but the environment variable {name} is AVX2"):
                use_bfloat16("bfloat16")
