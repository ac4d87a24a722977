"""The project's own layers compute what they claim."""

import keras
import numpy as np
import pytest

from stages.layers import on_tensorflow
from stages.layers.fast import BatchNormalization, Conv2D
from stages.layers.initializers import Dirac
from stages.layers.whitening import pixel_statistics, whitening_kernel, whitening_stem

INPUTS = np.random.default_rng(0).normal(2, 3, size=(8, 5, 6, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def float32():
    """Other tests train in bfloat16."""
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("scale", [True, False])
def test_fused_batch_normalization_has_the_numbers_and_gradients_of_kerass(scale):
    import tensorflow as tf

    inputs, found = tf.constant(INPUTS), []
    for kind in (BatchNormalization, keras.layers.BatchNormalization):
        layer = kind(momentum=0.6, scale=scale)
        for _ in range(2):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = layer(inputs, training=True)
                loss = tf.reduce_sum(outputs**3)
            gradient = tape.gradient(loss, inputs)
        found.append([outputs, gradient, *layer.get_weights(), layer(inputs, training=False)])
    for mine, reference in zip(*found, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-5, atol=1e-3)


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


def test_mean_and_standard_deviation_are_numpys(images):
    images = images[0][:100]
    assert pixel_statistics(images) == pytest.approx((images.mean(), images.std()), rel=1e-12)


def test_whitened_patches_are_uncorrelated_with_variance_one(images):
    scaled = ((images[0][:200, ..., None] - images[0].mean()) / images[0].std()).astype(np.float32)
    kernel = whitening_kernel(scaled, epsilon=0)
    assert kernel.shape == (2, 2, 1, 8)
    outputs = np.array(keras.ops.conv(scaled, kernel)).reshape(-1, 8)[:, :4]
    np.testing.assert_allclose(outputs.T @ outputs / len(outputs), np.eye(4), atol=0.02)
    np.testing.assert_array_equal(kernel[..., :4], -kernel[..., 4:])


def test_whitening_with_stride_2_takes_every_other_patch(images):
    images, inputs = images[0][:50, ..., None], keras.Input((28, 28, 1))
    every, sparse = (np.array(keras.Model(inputs, whitening_stem(inputs, images, n))(images)) for n in (1, 2))
    assert every.shape == (50, 27, 27, 8)
    np.testing.assert_allclose(sparse, every[:, ::2, ::2], rtol=1e-5, atol=1e-5)
