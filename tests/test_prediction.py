"""Predictions: of several views, in batches, in order."""

import keras
import numpy as np
import pytest

from stages.trained.prediction import classify, in_batches, predict, views_of
from tests.conftest import block_of
from tests.models import plain

IMAGES = np.random.default_rng(0).integers(256, size=(50, 28, 28, 1), dtype=np.uint8)


@pytest.mark.parametrize(("augmentation", "count"), [("none", 1), ("flip", 2), ("shift", 3), ("flip_and_shift", 6)])
def test_views_are_different_images_with_weights_that_sum_to_one(augmentation, count):
    weighted = views_of(IMAGES, augmentation)
    assert sum(weight for weight, _ in weighted) == pytest.approx(1)
    assert len({images.tobytes() for _, images in weighted}) == len(weighted) == count


def test_shifts_are_in_proportion_to_the_images_and_repeat_the_edge_of_those_in_color():
    images = np.random.default_rng(0).integers(1, 256, size=(3, 56, 56, 3), dtype=np.uint8)
    _, (_, view), _ = views_of(images, "shift")  # up-left by two pixels
    assert (view[:, :-2, :-2] == images[:, 2:, 2:]).all()
    assert (view[:, -2:, :-2] == images[:, -1:, 2:]).all()
    tiny = images[:, :8, :8, :1]
    assert all((view == tiny).all() for _, view in views_of(tiny, "shift"))


def test_probabilities_are_those_of_the_mean_logits():
    keras.config.set_dtype_policy("float32")  # other tests train in bfloat16
    model = plain.build(block_of("plain"), IMAGES, 10)
    predicted = predict(model, IMAGES, "flip")
    one, both = model.predict(IMAGES), (model.predict(IMAGES) + model.predict(IMAGES[:, :, ::-1])) / 2
    for logits, probabilities in ((both, predicted.probabilities), (one, predicted.single_view)):
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probabilities, expected, rtol=1e-4)
    assert len(predicted.seconds) == 2
    np.testing.assert_array_equal(classify(model, IMAGES), predicted.single_view)


def test_images_go_through_a_model_in_batches_and_come_out_in_order():
    count = 1500
    inputs = keras.Input((28, 28, 1))
    pixels = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, [pixels, keras.layers.GlobalMaxPooling2D()(inputs)])
    images = np.random.default_rng(0).integers(256, size=(count, 28, 28, 1), dtype=np.uint8)
    flat, highest = in_batches(model, images)
    np.testing.assert_array_equal(flat, images.reshape(count, -1))
    np.testing.assert_array_equal(highest, images.max(axis=(1, 2)))
    np.testing.assert_array_equal(in_batches(keras.Model(inputs, pixels), images), [flat])
