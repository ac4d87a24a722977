"""Properties of the transforms (shift, flip, downscale) and of the random changes that are made of them."""

import numpy as np
import pytest

from stages.data.transforms import downscale, flip, shift
from stages.training.augmentation import augmented, cutmix, random_erasing

IMAGES = np.random.default_rng(0).integers(1, 256, size=(40, 28, 28, 1), dtype=np.uint8)


def test_a_flip_flipped_is_the_original():
    chosen = np.arange(40) % 3 == 0
    flipped = flip(IMAGES, chosen)
    assert np.array_equal(flip(flipped, chosen), IMAGES)
    assert np.array_equal(flipped[0], IMAGES[0][:, ::-1])
    assert np.array_equal(flipped[1], IMAGES[1])


def test_a_shift_moves_every_pixel_of_each_image_and_lets_black_in():
    offsets = np.array([(0, 0), (1, 0), (-1, 2), (3, -3)] * 10)
    for image, (down, right), moved in zip(IMAGES, offsets, shift(IMAGES, offsets), strict=True):
        expected = np.roll(image, (down, right), axis=(0, 1))
        for axis, offset in enumerate((down, right)):
            edge = [slice(None)] * 3
            edge[axis] = slice(0, offset) if offset >= 0 else slice(offset, None)
            expected[tuple(edge)] = 0
        assert np.array_equal(moved, expected)


def test_a_downscaled_pixel_is_the_mean_of_the_area_that_it_covers():
    halved = IMAGES.reshape(40, 14, 2, 14, 2, 1).mean(axis=(2, 4))
    assert np.abs(downscale(IMAGES, 14) - halved).max() <= 0.5
    assert downscale(IMAGES, 14).dtype == np.uint8
    assert np.array_equal(downscale(IMAGES, 28), IMAGES)
    corner, small = np.zeros((1, 28, 28, 2), np.uint8), np.zeros((17, 17, 2), np.uint8)
    corner[0, :7, 21:, 1] = 200  # 7 of 28 are 4.25 of 17
    small[:4, 13:, 1], small[4, 13:, 1], small[:4, 12, 1], small[4, 12, 1] = 200, 50, 50, 12
    assert np.array_equal(downscale(corner, 17)[0], small)


def test_no_images_are_changed_where_there_are_none():
    none, nobody = IMAGES[:0], np.zeros(0, bool)
    assert shift(none, np.zeros((0, 2), int)).shape == flip(none, nobody).shape == none.shape
    assert downscale(none, 14).shape == (0, 14, 14, 1)
    rng, nobody = np.random.default_rng(0), np.zeros(40, bool)
    assert np.array_equal(random_erasing(IMAGES, nobody, rng), IMAGES)
    assert np.array_equal(cutmix(IMAGES, np.eye(40, dtype=np.float32), nobody, rng)[0], IMAGES)


def test_erasing_covers_one_rectangle_of_each_chosen_image():
    many = np.zeros((2000, 28, 28, 1), np.uint8)
    chosen = np.arange(2000) % 2 == 0
    erased = random_erasing(many, chosen, np.random.default_rng(0))[..., 0] > 0  # noise is 0 once in 256 pixels
    assert not erased[~chosen].any()
    areas = []
    for changed in erased[chosen]:
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.85
        areas.append(box.size / 784)
    assert 0.01 < min(areas) < 0.03
    assert 0.35 < max(areas) < 0.43  # sides are rounded to whole pixels
    assert 0.18 < np.mean(areas) < 0.24
    assert erased[chosen].any(axis=0).all()  # every pixel is in reach


def test_cutmix_pastes_a_square_of_another_chosen_image_and_mixes_the_targets_by_its_area():
    count = 2000
    many = np.broadcast_to((np.arange(count) % 250).astype(np.uint8)[:, None, None, None], (count, 28, 28, 1))
    targets = np.eye(250, dtype=np.float32)[many[:, 0, 0, 0]]  # a class for each grey
    chosen = np.arange(count) % 250 < 125
    images, mixed = cutmix(many, targets, chosen, np.random.default_rng(0))
    assert np.array_equal(images[~chosen], many[~chosen])
    assert np.array_equal(mixed[~chosen], targets[~chosen])
    shares, covered = [], np.zeros((28, 28), bool)
    for image, target, own in zip(images[chosen], mixed[chosen], many[chosen, 0, 0, 0], strict=True):
        greys, counts = np.unique(image, return_counts=True)
        assert set(greys) <= set(range(125))
        assert np.allclose(target[greys], counts / 784, atol=1e-6)
        assert np.isclose(target.sum(), 1)
        other = image[..., 0] != own
        assert other.any(axis=1).sum() == other.any(axis=0).sum() == np.sqrt(other.sum())
        shares.append(other.mean())
        covered |= other
    assert covered.all()
    assert np.histogram(shares, bins=4, range=(0, 1))[0] == pytest.approx([250] * 4, abs=60)


def test_changes_are_a_function_of_seed_and_epoch():
    def changed(seed: int, epoch: int) -> np.ndarray:
        return augmented(IMAGES, np.arange(40), seed, epoch, random_shift=2, random_flip=True, erasing=0.5)

    assert np.array_equal(changed(1, 3), changed(1, 3))
    assert not np.array_equal(changed(1, 3), changed(1, 4))
    assert not np.array_equal(changed(1, 3), changed(2, 3))


def test_two_epochs_show_every_image_both_ways_in_whatever_order():
    shown = {True: set(), False: set()}
    for epoch in (0, 1):
        order = np.random.default_rng(epoch).permutation(40)
        images = augmented(IMAGES, order, 7, epoch, random_shift=0, random_flip=True, erasing=0)
        for image, index in zip(images, order, strict=True):
            shown[np.array_equal(image, IMAGES[index])].add(index)
    assert shown[True] == shown[False] == set(range(40))
