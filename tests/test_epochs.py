"""Which images an epoch shows, and that their losses decide."""

import keras
import numpy as np
import pytest

from stages.data.transforms import downscale
from stages.training import on_tensorflow
from stages.training.epochs import Epochs, NextEpoch, RemembersLosses, batch_size
from tests.conftest import block_of

IMAGES = np.random.default_rng(0).integers(1, 256, size=(100, 28, 28, 1), dtype=np.uint8)
LABELS = (np.arange(100) % 10).astype(np.uint8)


@pytest.fixture(autouse=True)
def as_of_many_images(monkeypatch):
    """Batches and epochs of few images are as those of many."""
    monkeypatch.setattr("stages.training.epochs.MIN_STEPS", 1)


def epochs(seed: int = 0, **changes: object) -> Epochs:
    parameters = block_of("plain", **{"epochs": 10, "batch_size": 16} | changes)
    return Epochs(IMAGES, np.eye(10, dtype=np.float32)[LABELS], parameters, seed)


def test_batches_pair_images_with_their_labels():
    data = epochs()
    assert len(data) == 6
    seen = [data[index] for index in range(6)]
    for images, one_hot in seen:
        assert (images.shape, images.dtype) == ((16, 28, 28, 1), np.uint8)
        own = [LABELS[(image == IMAGES).all(axis=(1, 2, 3))][0] for image in images]
        assert np.array_equal(one_hot, np.eye(10)[own])
    assert len(np.unique(np.concatenate([images for images, _ in seen]), axis=0)) == 96


def test_an_epoch_is_a_function_of_seed_and_epoch_not_of_the_epochs_before():
    every = {"random_shift": 2, "cutmix": 0.5}
    straight, jumped = epochs(**every), epochs(**every)
    for epoch in (1, 2, 3):
        straight.begin(epoch)
    jumped.begin(3)
    for part, same in zip(straight[2], jumped[2], strict=True):
        assert np.array_equal(part, same)
    assert not np.array_equal(straight[2][0], epochs(seed=1, **every)[2][0])
    jumped.begin(4)
    assert not np.array_equal(straight[2][0], jumped[2][0])


@pytest.mark.parametrize(("count", "share", "small"), [(10, 0.4, 4), (10, 0.99, 9), (1, 0.99, 0), (10, 0, 0)])
def test_the_first_epochs_show_the_same_images_downscaled(count, share, small):
    every = {"epochs": count, "random_shift": 1}
    data, full = epochs(low_resolution_fraction=share, low_resolution_size=17, **every), epochs(**every)
    for epoch in range(count):
        data.begin(epoch)
        full.begin(epoch)
        expected = downscale(full[2][0], 17) if epoch < small else full[2][0]
        assert np.array_equal(data[2][0], expected)
        assert np.array_equal(data[2][1], full[2][1])


def test_images_that_were_never_shown_come_first_and_then_the_hardest():
    data = epochs(epoch_fraction=0.5, hard_example_fraction=0.75)
    assert len(data) == 3
    first = set(data.order)
    assert len(first) == 48
    data.losses[data.order] = 1
    data.begin(1)
    assert len(first & set(data.order)) <= 12  # 36 are chosen for never having been shown
    data.losses[:] = np.arange(100)
    data.begin(2)
    assert set(range(64, 100)) <= set(data.order)  # the 36 with the highest losses
    assert len(set(data.order)) == 48
    easy = [index for epoch in range(3, 40) for index in data.begin(epoch) or data.order if index < 64]
    assert len(set(easy)) == 64  # the others have their turns


def test_a_model_in_training_remembers_the_loss_of_every_image_it_was_shown():
    data = epochs(epoch_fraction=0.5, hard_example_fraction=0.5)
    inputs = keras.Input((28, 28, 1))
    logits = keras.layers.Dense(10, dtype="float32")(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs)))
    plain = keras.Model(inputs, logits)
    model = RemembersLosses(plain, data)
    model.compile(keras.optimizers.SGD(0.0), keras.losses.CategoricalCrossentropy(from_logits=True))
    shown = []
    remember = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: shown.append(data.order))
    batches, validation = data, (IMAGES, np.eye(10)[LABELS])  # which must not be taken for training
    parts = [tuple(part[start : start + 30] for part in validation) for start in range(0, 100, 30)]
    batches, validation = on_tensorflow.as_dataset(data), on_tensorflow.as_dataset(parts)
    others = {"callbacks": [remember, NextEpoch(data)], "shuffle": False, "verbose": 0}
    history = model.fit(batches, epochs=2, validation_data=validation, **others).history
    assert not np.array_equal(*shown)
    expected = keras.losses.categorical_crossentropy(np.eye(10)[LABELS], plain.predict(IMAGES, verbose=0), True)
    seen = np.concatenate(shown)
    np.testing.assert_allclose(data.losses[seen], np.array(expected)[seen], rtol=1e-4)
    assert np.isinf(np.delete(data.losses, seen)).all()
    np.testing.assert_allclose(history["val_loss"], np.mean(expected), rtol=1e-4)  # of all images, once each
    assert len(plain.weights) == 2


def test_images_with_a_part_of_another_bring_its_target_and_leave_their_losses_as_they_were():
    data = epochs(epoch_fraction=0.5, hard_example_fraction=1, cutmix=0.5)
    assert 0 < data.mixed.sum() < 48
    images, targets = (np.concatenate(parts) for parts in zip(*(data[step] for step in range(3)), strict=True))
    known = (images[:, None] == IMAGES).all(axis=(2, 3, 4)).any(axis=1)
    for whole in (targets.max(axis=1) == 1, known):
        assert whole[~data.mixed].all()
        assert not whole[data.mixed].all()
    inputs = keras.Input((28, 28, 1))
    model = RemembersLosses(keras.Model(inputs, keras.layers.Flatten()(inputs)[:, :10]), data)
    model.seen.assign(np.arange(48).reshape(3, 1, 16))
    last = NextEpoch(data)
    last.set_model(model)
    order, mixed = data.order, data.mixed
    last.on_epoch_end(0)
    assert np.array_equal(data.losses[order[~mixed]], np.arange(48)[~mixed])
    assert np.isinf(data.losses[order[mixed]]).all()


@pytest.mark.parametrize(
    ("given", "batch", "count"), [(512, 16, 100), (512, 16, 439), (512, 56, 1154), (8, 8, 100), (512, 512, 55000)]
)
def test_batches_of_few_images_are_smaller(given, batch, count):
    assert batch_size(block_of("plain", batch_size=given), count) == batch


def test_an_epoch_of_few_images_shows_each_of_them_about_equally_often(monkeypatch):
    monkeypatch.setattr("stages.training.epochs.MIN_STEPS", 14)
    for batch, steps, often in ((16, 14, {2, 3}), (40, 28, {4, 5}), (512, 56, {8, 9})):
        data = epochs(batch_size=batch, epoch_fraction=0.5, hard_example_fraction=1)
        assert (len(data), data.mines_examples) == (steps, False)
        assert set(np.bincount(data.order)) == often
        assert len(np.concatenate([data[step][0] for step in range(steps)])) == len(data.order) == 16 * steps
