"""Properties of the random changes, and of the order in which an epoch shows its pictures."""

import itertools

import numpy as np
import pytest

from stages.training.augmentation import batches, epoch_of, flip, shift

IMAGES = np.random.default_rng(0).integers(1, 256, size=(40, 28, 28, 1), dtype=np.uint8)
LABELS = (np.arange(40) % 10).astype(np.uint8)


def test_a_flip_flipped_is_the_original():
    chosen = np.arange(40) % 3 == 0
    flipped = flip(IMAGES, chosen)
    assert np.array_equal(flip(flipped, chosen), IMAGES)
    assert np.array_equal(flipped[0], IMAGES[0][:, ::-1])
    assert np.array_equal(flipped[1], IMAGES[1])


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (-1, 2), (3, -3)])
def test_a_shift_moves_every_pixel_and_lets_black_in(down, right):
    moved = shift(IMAGES, np.full((40, 2), (down, right)))
    expected = np.roll(IMAGES, (down, right), axis=(1, 2))
    for axis, offset in ((1, down), (2, right)):
        edge = [slice(None)] * 4
        edge[axis] = slice(0, offset) if offset >= 0 else slice(offset, None)
        if offset:
            expected[tuple(edge)] = 0
    assert np.array_equal(moved, expected)


def test_a_shift_of_a_picture_with_an_empty_border_keeps_its_mass():
    framed = IMAGES.copy()
    framed[:, [0, 1, -2, -1]] = 0
    framed[:, :, [0, 1, -2, -1]] = 0
    offsets = np.random.default_rng(1).integers(-2, 3, size=(40, 2))
    assert np.array_equal(shift(framed, offsets).sum(axis=(1, 2, 3)), framed.sum(axis=(1, 2, 3)))


def test_an_epoch_is_a_function_of_seed_and_epoch():
    for a, b in zip(epoch_of(IMAGES, 1, 3, 2, True), epoch_of(IMAGES, 1, 3, 2, True), strict=True):
        assert np.array_equal(a, b)
    for seed, epoch in ((1, 4), (2, 3)):
        assert not np.array_equal(epoch_of(IMAGES, 1, 3, 0, False)[1], epoch_of(IMAGES, seed, epoch, 0, False)[1])


def test_two_epochs_show_every_picture_both_ways():
    shown = {True: set(), False: set()}
    for epoch in (0, 1):
        images, order = epoch_of(IMAGES, 7, epoch, 0, True)
        for picture, index in zip(images, order, strict=True):
            shown[np.array_equal(picture, IMAGES[index])].add(index)
    assert shown[True] == shown[False] == set(range(40))


def test_batches_pair_pictures_with_their_labels_epoch_after_epoch():
    stream = batches(IMAGES, LABELS, seed=0, batch_size=16, max_shift=0, flips=False)
    first, second = (list(itertools.islice(stream, 2)) for _ in range(2))  # 40 pictures: two whole batches an epoch
    for pictures, one_hot in first + second:
        assert pictures.shape == (16, 28, 28, 1)
        assert pictures.dtype == np.uint8
        for picture, label in zip(pictures, one_hot.argmax(axis=1), strict=True):
            assert label == LABELS[(picture == IMAGES).all(axis=(1, 2, 3))][0]
        assert np.array_equal(one_hot.sum(axis=1), np.ones(16))
    seen = np.concatenate([pictures for pictures, _ in first])
    assert len(np.unique(seen, axis=0)) == 32
    assert not np.array_equal(seen, np.concatenate([pictures for pictures, _ in second]))
