"""Strange and familiar pictures, and the regression that tells them apart."""

import keras
import numpy as np
import pytest

from stages import strangers as stage
from stages.inference import strangers
from stages.scoring.scores import auroc
from stages.trained import features, prediction, saving


def test_pictures_are_images_that_repeat_and_differ(images):
    pixels = images[0][..., None]
    made = {kind: strangers.strange(kind, pixels, "fashion-mnist", 12, 0) for kind in strangers.kinds("fashion-mnist")}
    made["familiar"] = strangers.familiar(pixels, "fashion-mnist", 12, 0)
    for kind, pictures in made.items():
        assert (pictures.shape, pictures.dtype) == ((12, 28, 28, 1), np.uint8)
        assert len(np.unique(pictures.reshape(12, -1), axis=0)) == 12, kind
        assert all(picture.max() > 60 for picture in pictures), kind  # bright on black, as clothing is
        assert np.median(pictures[:, [0, -1]][:, :, [0, -1]]) == 0, kind
    again = strangers.strange("drawings", pixels, "fashion-mnist", 12, 0)
    assert np.array_equal(made["drawings"], again)
    assert not np.array_equal(again, strangers.strange("drawings", pixels, "fashion-mnist", 12, 1))


@pytest.mark.parametrize("shape", [(8, 8, 1), (17, 17, 3), (96, 96, 3)])
def test_of_other_data_pieces_are_strange_and_images_familiar(shape):
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    assert strangers.kinds("mine") == ["pieces"]
    made = strangers.strange("pieces", images, "mine", 30, 0)
    assert (made.shape, made.dtype) == ((30, *shape), np.uint8)
    assert not any((images == picture).all(axis=(1, 2, 3)).any() for picture in made)
    kept = strangers.familiar(images, "mine", 30, 0)
    assert all((images == picture).all(axis=(1, 2, 3)).any() for picture in kept)


def test_the_regression_tells_apart_what_differs_in_a_few_places():
    rng = np.random.default_rng(0)
    familiar, strange = rng.normal(size=(400, 20)), rng.normal(size=(100, 20))
    strange[:, 3] += 3
    strange[:, 5] *= 0
    familiar[:, 5] *= 0  # an output that never changes
    weights, bias = stage.fit(familiar, strange)
    assert np.abs(weights).argmax() == 3
    assert auroc(familiar @ weights + bias, strange @ weights + bias) > 0.95
    assert (familiar @ weights + bias > 0).mean() < 0.15
    assert (strange @ weights + bias > 0).mean() > 0.85


@pytest.mark.parametrize(("count", "share", "above"), [(1000, 0.02, 20), (24, 0.02, 0), (6, 0.5, 3), (100, 0.05, 5)])
def test_no_more_than_the_share_of_false_alarms_is_above_the_threshold(count, share, above):
    scores = np.random.default_rng(0).permutation(count).astype(float)
    assert above - 1 <= (scores > stage.threshold(scores, share)).sum() <= above


def test_the_outputs_of_layers_are_their_means_and_maxima():
    saving.set_precision("float32")
    inputs = keras.Input((4, 4, 1))
    maps = keras.layers.ReLU()(keras.layers.Conv2D(3, 3)(inputs))
    flat = keras.layers.Flatten(name="flatten")(maps)
    hidden = keras.layers.Dense(2, activation="tanh")(flat)
    model = keras.Model(inputs, keras.layers.Dense(5)(hidden))
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 1), dtype=np.uint8)
    _, _, layers = prediction.in_batches(features.with_features(model), images)
    found = keras.Model(inputs, [maps, hidden]).predict_on_batch(images)
    expected = np.concatenate([found[0].mean(axis=(1, 2)), found[0].max(axis=(1, 2)), found[1]], axis=1)
    np.testing.assert_allclose(layers, expected, rtol=1e-4)
    keras.backend.clear_session()  # so that names begin anew, as in another process
    inputs = keras.Input((4, 4, 1))
    plain = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(inputs)))  # has no such layer
    plain = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten(name="concatenate")(inputs)))
    _, _, layers = prediction.in_batches(features.with_features(plain), images)
    np.testing.assert_array_equal(layers, images.reshape(7, -1))
