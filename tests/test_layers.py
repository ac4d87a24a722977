"""The project's own layers compute what they claim."""

import keras
import numpy as np
import pytest

from stages.common.errors import InputError
from stages.layers import on_tensorflow
from stages.layers.fast import BatchNormalization, Conv2D
from stages.layers.initializers import Dirac
from stages.layers.whitening import pixel_statistics, whitening_kernel, whitening_stem
from stages.trained.precision import use_bfloat16

INPUTS = np.random.default_rng(0).normal(2, 3, size=(8, 5, 6, 4)).astype(np.float32)


def can_compute_in_bfloat16() -> bool:
    """Whether no environment variable keeps oneDNN from it."""
    try:
        return use_bfloat16("bfloat16")
    except InputError:
        return False


@pytest.fixture(autouse=True)
def float32():
    """Other tests train in bfloat16."""
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("scale", [True, False])
def test_fused_batch_normalization_has_the_numbers_of_kerass(scale):
    ours = BatchNormalization(momentum=0.6, scale=scale)
    theirs = keras.layers.BatchNormalization(momentum=0.6, scale=scale)
    for _ in range(3):
        np.testing.assert_allclose(ours(INPUTS, training=True), theirs(INPUTS, training=True), atol=1e-5)
    for mine, reference in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours(INPUTS, training=False), theirs(INPUTS, training=False), atol=1e-5)


def test_fused_batch_normalization_has_the_gradient_of_kerass():
    import tensorflow as tf

    gradients = []
    for layer in (BatchNormalization(), keras.layers.BatchNormalization()):
        inputs = tf.constant(INPUTS)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(layer(inputs, training=True) ** 3)
        gradients.append(tape.gradient(loss, inputs))
    np.testing.assert_allclose(*gradients, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "kernel", "ours"),
    [((8, 5, 6, 4), 3, True), ((3, 8, 8, 2), (5, 1), True), ((2, 9, 9, 3), 3, False), ((2, 6, 6, 3), 2, False)],
)
def test_convolution_has_the_numbers_and_gradients_of_kerass(shape, kernel, ours, monkeypatch):
    import tensorflow as tf

    used = []
    convolution = on_tensorflow.convolution
    monkeypatch.setattr(on_tensorflow, "convolution", lambda *given: used.append(True) or convolution(*given))
    inputs = tf.constant(np.random.default_rng(1).normal(size=shape).astype(np.float32))
    found = []
    for kind in (Conv2D, keras.layers.Conv2D):
        layer = kind(7, kernel, padding="same", kernel_initializer=keras.initializers.HeNormal(seed=3))
        layer.build(shape)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            loss = tf.reduce_sum(outputs**3)
        found.append([outputs, *tape.gradient(loss, [inputs, layer.kernel.value, layer.bias.value])])
    assert bool(used) is ours
    for mine, reference in zip(*found, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(
    not can_compute_in_bfloat16(), reason="an environment variable keeps oneDNN from computing in bfloat16"
)
def test_batch_normalization_computes_in_bfloat16_and_keeps_float32_statistics():
    layer = BatchNormalization(dtype="mixed_bfloat16")
    outputs = layer(INPUTS, training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in layer.weights} == {"float32"}
    assert abs(float(keras.ops.mean(keras.ops.cast(outputs, "float32")))) < 0.02


def test_a_dirac_convolution_passes_its_channels_on():
    layer = keras.layers.Conv2D(7, 3, padding="same", use_bias=False, kernel_initializer=Dirac(seed=0))
    outputs = np.array(layer(INPUTS))
    np.testing.assert_allclose(outputs[..., :4], INPUTS, atol=1e-5)
    assert np.abs(outputs[..., 4:]).mean() > 0.1  # the others are random, not zero


def test_mean_and_standard_deviation_are_numpys():
    images = np.random.default_rng(0).integers(0, 256, size=(50, 28, 28, 1), dtype=np.uint8) // 3
    assert pixel_statistics(images) == pytest.approx((images.mean(), images.std()), rel=1e-12)


def test_whitened_patches_are_uncorrelated_with_variance_one():
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(200, 28, 28, 1)).cumsum(axis=1).cumsum(axis=2).astype(np.float32)
    smooth /= smooth.std()
    kernel = whitening_kernel(smooth, epsilon=0)
    assert kernel.shape == (2, 2, 1, 8)
    outputs = np.array(keras.ops.conv(smooth, kernel)).reshape(-1, 8)[:, :4]
    np.testing.assert_allclose(outputs.T @ outputs / len(outputs), np.eye(4), atol=0.02)
    np.testing.assert_array_equal(kernel[..., :4], -kernel[..., 4:])


def test_whitening_with_stride_2_takes_every_other_patch():
    images = np.random.default_rng(0).integers(0, 256, size=(50, 28, 28, 1), dtype=np.uint8)
    inputs = keras.Input((28, 28, 1))
    every = keras.Model(inputs, whitening_stem(inputs, images)).predict(images, verbose=0)
    sparse = keras.Model(inputs, whitening_stem(inputs, images, stride=2)).predict(images, verbose=0)
    assert every.shape == (50, 27, 27, 8)
    np.testing.assert_allclose(sparse, every[:, ::2, ::2], rtol=1e-5, atol=1e-5)
