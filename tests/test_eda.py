"""What the exploration computes."""

import numpy as np

from stages.data.publisher import CLASS_NAMES
from stages.eda import NEIGHBOURS, balance, drawn, histogram, mean_distance_to_neighbours, overlap


def test_a_class_of_few_images_is_among_those_looked_at():
    labels = np.append(np.zeros(5000, int), 1)
    chosen = drawn(labels, 100, 0)
    assert set(labels[chosen]) == {0, 1}
    assert len(chosen) <= 102
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(drawn(labels, 6000, 0), np.arange(5001))


def test_neighbours_are_counted_by_class_and_no_image_is_its_own():
    half = NEIGHBOURS // 2
    # In each place stand `half` members of class 0, `half` of class 1 and one of class 2, all of them the same point.
    labels = np.tile(np.repeat([0, 1, 2], [half, half, 1]), 30)
    places = np.repeat(np.arange(30), NEIGHBOURS + 1).astype(np.float32)
    labels, places = np.append(labels, range(3, 10)), np.append(places, np.arange(100, 800, 100))
    shares = overlap(places[:, None] * np.ones(3, np.float32), labels, np.arange(len(labels)))
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares[0, :3], [(half - 1) / NEIGHBOURS, half / NEIGHBOURS, 1 / NEIGHBOURS])
    np.testing.assert_allclose(shares[2, :3], [half / NEIGHBOURS, half / NEIGHBOURS, 0])


def test_only_those_asked_are_counted_but_all_may_be_neighbours():
    labels = np.repeat(np.arange(10), 2 * NEIGHBOURS)
    places = np.arange(len(labels), dtype=np.float32)[:, None]
    asked = np.flatnonzero(np.arange(len(labels)) % (2 * NEIGHBOURS) == 0)  # the first of each class
    shares = overlap(places, labels, asked)
    middle = NEIGHBOURS / 2 / NEIGHBOURS  # half of its neighbours stand on the other side of the border
    np.testing.assert_allclose(shares[5, 4:6], [middle, middle])
    np.testing.assert_allclose(np.diag(shares)[1:], middle)


def test_an_image_that_stands_there_too_often_is_still_left_out():
    labels = np.append(np.zeros(50, int), np.repeat(np.arange(1, 10), 20))
    places = np.append(np.zeros(50), 1000 * labels[50:] + np.tile(np.arange(20), 9)).astype(np.float32)[:, None]
    shares = overlap(places, labels, np.arange(len(labels)))
    np.testing.assert_array_equal(shares, np.eye(10))


def test_classes_grey_levels_and_distances_are_counted():
    assert balance(np.array([0, 9, 9]), CLASS_NAMES)["images"].tolist() == [1, *[0] * 8, 2]
    pixels = np.array([[0, 0], [255, 7]], np.uint8)[None, ..., None]
    assert histogram(pixels)["share"][[0, 7, 255]].tolist() == [0.5, 0.25, 0.25]
    assert histogram(pixels * np.uint8([1, 1, 0]))["blue"][0] == 1  # each colour by itself
    assert mean_distance_to_neighbours(np.array([[0.0], [1], [5]])).tolist() == [3, 2.5, 4.5]  # fewer than NEIGHBOURS
