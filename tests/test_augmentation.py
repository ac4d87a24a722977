"""Properties of the random changes."""

import numpy as np
import pytest

from stages.training.augmentation import augmented, cutmix, erase, flip, shift, shrunk

IMAGES = np.random.default_rng(0).integers(1, 256, size=(40, 28, 28, 1), dtype=np.uint8)
RNG = np.random.default_rng(1)


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


def test_a_shrunk_pixel_is_the_mean_of_the_area_that_it_covers():
    halved = IMAGES.reshape(40, 14, 2, 14, 2, 1).mean(axis=(2, 4))
    assert np.abs(shrunk(IMAGES, 14) - halved).max() <= 0.5
    assert shrunk(IMAGES, 14).dtype == np.uint8
    assert np.array_equal(shrunk(IMAGES, 28), IMAGES)
    corner = np.zeros((1, 28, 28, 2), np.uint8)
    corner[0, :7, 21:, 1] = 200  # 7 of 28 are 4.25 of 17
    small = shrunk(corner, 17)[0]
    assert not small[..., 0].any()
    assert (small[:4, 13:, 1] == 200).all()
    assert (small[4, 13:, 1] == 50).all()
    assert not small[5:].any()
    assert not small[:, :12].any()


def test_changes_of_no_picture_give_none():
    none, nobody = IMAGES[:0], np.zeros(0, bool)
    assert shift(none, np.zeros((0, 2), int)).shape == flip(none, nobody).shape == none.shape
    assert np.array_equal(erase(IMAGES, np.zeros(40, bool), np.random.default_rng(0)), IMAGES)
    targets = np.eye(40, dtype=np.float32)
    for whole, part in zip((IMAGES, targets), cutmix(IMAGES, targets, np.zeros(40, bool), RNG), strict=True):
        assert np.array_equal(whole, part)


def test_erasing_covers_one_rectangle_of_each_chosen_picture():
    many = np.zeros((2000, 28, 28, 1), np.uint8)
    chosen = np.arange(2000) % 2 == 0
    erased = erase(many, chosen, np.random.default_rng(0))[..., 0] > 0  # noise is 0 once in 256 pixels
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


def test_cutmix_pastes_a_square_of_another_chosen_picture_and_mixes_the_targets_by_its_area():
    count = 2000
    many = np.broadcast_to((np.arange(count) % 250).astype(np.uint8)[:, None, None, None], (count, 28, 28, 1))
    targets = np.eye(250, dtype=np.float32)[many[:, 0, 0, 0]]  # a class for each grey
    chosen = np.arange(count) % 250 < 125
    pictures, mixed = cutmix(many, targets, chosen, np.random.default_rng(0))
    assert np.array_equal(pictures[~chosen], many[~chosen])
    assert np.array_equal(mixed[~chosen], targets[~chosen])
    shares, covered = [], np.zeros((28, 28), bool)
    for picture, target, own in zip(pictures[chosen], mixed[chosen], many[chosen, 0, 0, 0], strict=True):
        greys, counts = np.unique(picture, return_counts=True)
        assert set(greys) <= set(range(125))
        assert target[greys] == pytest.approx(counts / 784, abs=1e-6)
        assert target.sum() == pytest.approx(1)
        other = picture[..., 0] != own
        rows, columns = other.any(axis=1), other.any(axis=0)
        assert rows.sum() == columns.sum() == np.sqrt(other.sum())
        shares.append(other.mean())
        covered |= other
    assert covered.all()
    assert np.histogram(shares, bins=4, range=(0, 1))[0] == pytest.approx([250] * 4, abs=60)


def test_changes_are_a_function_of_seed_and_epoch():
    every = {"max_shift": 2, "flips": True, "erased": 0.5}
    order = np.arange(40)
    assert np.array_equal(augmented(IMAGES, order, 1, 3, **every), augmented(IMAGES, order, 1, 3, **every))
    for seed, epoch in ((1, 4), (2, 3)):
        assert not np.array_equal(
            augmented(IMAGES, order, 1, 3, **every), augmented(IMAGES, order, seed, epoch, **every)
        )


def test_two_epochs_show_every_picture_both_ways_in_whatever_order():
    shown = {True: set(), False: set()}
    for epoch in (0, 1):
        order = np.random.default_rng(epoch).permutation(40)
        images = augmented(IMAGES, order, 7, epoch, max_shift=0, flips=True, erased=0)
        for picture, index in zip(images, order, strict=True):
            shown[np.array_equal(picture, IMAGES[index])].add(index)
    assert shown[True] == shown[False] == set(range(40))
