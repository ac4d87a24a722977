"""Schedules and optimizers do what their sources say."""

import keras
import numpy as np
import pytest

from stages.training.optimizers import SGD, Muon, WarmupThenDecay, optimizer, orthogonalised
from tests.conftest import block_of


@pytest.fixture(autouse=True)
def float32():
    """Other tests train in bfloat16."""
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("shape", ["triangular", "cosine"])
def test_the_learning_rate_climbs_to_its_peak_and_falls_to_nearly_nothing(shape):
    rates = np.array(WarmupThenDecay(peak=0.5, steps=99, warmup=0.2, shape=shape)(np.arange(99)))
    assert rates.argmax() == 19
    assert rates.max() == pytest.approx(0.5)
    assert (np.diff(rates[:20]) > 0).all()
    assert (np.diff(rates[19:]) < 0).all()
    assert 0 < rates[-1] < 0.01
    if shape == "triangular":
        np.testing.assert_allclose(np.diff(rates[20:], n=2), 0, atol=1e-6)
    else:
        assert rates[59] == pytest.approx(0.25)


def test_the_optimizer_is_that_of_the_block():
    for name, kind in (("adam", keras.optimizers.Adam), ("sgd", SGD), ("muon", Muon)):
        found = optimizer(block_of("plain", optimizer=name, ema_momentum=0.5, weight_decay=0.25), 99)
        assert type(found) is kind
        assert (found.use_ema, found.ema_momentum, found.weight_decay) == (True, 0.5, 0.25)
        assert float(found.learning_rate) == pytest.approx(0.001)


def one_step(layer: keras.layers.Layer, update: keras.optimizers.Optimizer, inputs: np.ndarray) -> np.ndarray:
    """Take one step of a layer towards 0, by the mean squared error. Returns the gradient at its outputs."""
    outputs = np.array(layer(inputs))
    model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
    model.compile(update, "mse", jit_compile=False)
    model.train_on_batch(inputs, np.zeros_like(outputs))
    return 2 * outputs / outputs.size


def test_biases_learn_so_many_times_faster():
    moved = []
    for factor in (1, 16):
        layer = keras.layers.Dense(1, kernel_initializer="ones")
        one_step(layer, SGD(0.1, bias_factor=factor), np.ones((4, 1)))
        moved.append([1 - float(layer.kernel[0, 0]), -float(layer.bias[0])])
    assert moved[1] == pytest.approx([moved[0][0], 16 * moved[0][1]])
    assert moved[0][1] > 0


def test_muon_turns_a_gradient_into_a_step_of_the_same_size_in_every_direction():
    gradient = np.random.default_rng(0).normal(size=(18, 8)) * np.logspace(0, -1, 8)
    u, _, v = np.linalg.svd(gradient, full_matrices=False)
    singular = np.diag(u.T @ np.array(orthogonalised(gradient.astype(np.float32))) @ v.T)
    assert 0.6 < singular.min() < singular.max() < 1.3
    np.testing.assert_allclose(orthogonalised(gradient.T), np.array(orthogonalised(gradient)).T, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.5, 0.0])
def test_muon_scales_convolutions_and_steps_biases_like_sgd(momentum):
    layer = keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.HeNormal(seed=0))
    images = np.random.default_rng(0).normal(size=(8, 3, 3, 2)).astype(np.float32)
    update = Muon(0.1, momentum=momentum, nesterov=True, bias_factor=3, weight_decay=0.1)
    layer.build(images.shape)
    before = layer.get_weights()[0]
    gradient = one_step(layer, update, images)
    kernel, bias = layer.get_weights()
    step = before * 2 / np.linalg.norm(before) - kernel
    singular = np.linalg.svd(step.reshape(18, 4), compute_uv=False)
    assert 0.06 < singular.min() < singular.max() < 0.13
    np.testing.assert_allclose(bias, -0.1 * 3 * (1 + momentum) * gradient.sum(axis=(0, 1, 2)), rtol=1e-3)
