"""Properties of the transforms: shift, flip, downscale."""

import numpy as np
import pytest

from stages.data.transforms import downscale, flip, shift

IMAGES = np.random.default_rng(0).integers(1, 256, size=(40, 28, 28, 1), dtype=np.uint8)


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


def test_a_shift_of_an_image_with_an_empty_border_keeps_its_mass():
    framed = IMAGES.copy()
    framed[:, [0, 1, -2, -1]] = 0
    framed[:, :, [0, 1, -2, -1]] = 0
    offsets = np.random.default_rng(1).integers(-2, 3, size=(40, 2))
    assert np.array_equal(shift(framed, offsets).sum(axis=(1, 2, 3)), framed.sum(axis=(1, 2, 3)))


def test_a_downscaled_pixel_is_the_mean_of_the_area_that_it_covers():
    halved = IMAGES.reshape(40, 14, 2, 14, 2, 1).mean(axis=(2, 4))
    assert np.abs(downscale(IMAGES, 14) - halved).max() <= 0.5
    assert downscale(IMAGES, 14).dtype == np.uint8
    assert np.array_equal(downscale(IMAGES, 28), IMAGES)
    corner = np.zeros((1, 28, 28, 2), np.uint8)
    corner[0, :7, 21:, 1] = 200  # 7 of 28 are 4.25 of 17
    small = downscale(corner, 17)[0]
    assert not small[..., 0].any()
    assert (small[:4, 13:, 1] == 200).all()
    assert (small[4, 13:, 1] == 50).all()
    assert not small[5:].any()
    assert not small[:, :12].any()


def test_no_images_give_none():
    none, nobody = IMAGES[:0], np.zeros(0, bool)
    assert shift(none, np.zeros((0, 2), int)).shape == flip(none, nobody).shape == none.shape
    assert downscale(none, 14).shape == (0, 14, 14, 1)
