"""Properties of the random changes."""

import numpy as np
import pytest

from stages.training.augmentation import augmented, cutmix, random_erasing

IMAGES = np.random.default_rng(0).integers(1, 256, size=(40, 28, 28, 1), dtype=np.uint8)
RNG = np.random.default_rng(1)


def test_images_that_are_not_chosen_stay_as_they_are():
    nobody = np.zeros(40, bool)
    assert np.array_equal(random_erasing(IMAGES, nobody, RNG), IMAGES)
    targets = np.eye(40, dtype=np.float32)
    for whole, part in zip((IMAGES, targets), cutmix(IMAGES, targets, nobody, RNG), strict=True):
        assert np.array_equal(whole, part)


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
        assert target[greys] == pytest.approx(counts / 784, abs=1e-6)
        assert target.sum() == pytest.approx(1)
        other = image[..., 0] != own
        rows, columns = other.any(axis=1), other.any(axis=0)
        assert rows.sum() == columns.sum() == np.sqrt(other.sum())
        shares.append(other.mean())
        covered |= other
    assert covered.all()
    assert np.histogram(shares, bins=4, range=(0, 1))[0] == pytest.approx([250] * 4, abs=60)


def test_changes_are_a_function_of_seed_and_epoch():
    every = {"random_shift": 2, "random_flip": True, "erasing": 0.5}
    order = np.arange(40)
    assert np.array_equal(augmented(IMAGES, order, 1, 3, **every), augmented(IMAGES, order, 1, 3, **every))
    for seed, epoch in ((1, 4), (2, 3)):
        assert not np.array_equal(
            augmented(IMAGES, order, 1, 3, **every), augmented(IMAGES, order, seed, epoch, **every)
        )


def test_two_epochs_show_every_image_both_ways_in_whatever_order():
    shown = {True: set(), False: set()}
    for epoch in (0, 1):
        order = np.random.default_rng(epoch).permutation(40)
        images = augmented(IMAGES, order, 7, epoch, random_shift=0, random_flip=True, erasing=0)
        for image, index in zip(images, order, strict=True):
            shown[np.array_equal(image, IMAGES[index])].add(index)
    assert shown[True] == shown[False] == set(range(40))
