"""The split is stratified, seeded and complete; what cannot be split is refused."""

import numpy as np
import pytest

from stages.common.errors import InputError
from stages.common.parameters import Prepare
from stages.common.splits import CLASS_NAMES
from stages.prepare import prepare, split

LABELS = np.random.default_rng(0).permutation(np.arange(600) % 10).astype(np.uint8)


def test_every_class_gives_as_many_to_validation():
    _, val = split(LABELS, 7, seed=0)
    assert np.bincount(LABELS[val]).tolist() == [7] * 10


def test_nothing_is_lost_and_nothing_is_in_both():
    train, val = split(LABELS, 7, seed=0)
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(600))


def test_the_seed_decides_the_split():
    assert np.array_equal(split(LABELS, 7, seed=1)[1], split(LABELS, 7, seed=1)[1])
    assert not np.array_equal(split(LABELS, 7, seed=1)[1], split(LABELS, 7, seed=2)[1])


@pytest.mark.parametrize("size", [0, 60, 60000])
def test_a_validation_set_of_nothing_or_everything_is_refused(size):
    with pytest.raises(InputError, match=rf"val_per_class is {size}, but class 0 .* has 60 .* from 1 to 59"):
        split(LABELS, size, seed=0)


@pytest.mark.parametrize("size", [1, 59])
def test_the_smallest_and_the_largest_validation_set_leave_something_on_both_sides(size):
    train, val = split(LABELS, size, seed=0)
    assert np.bincount(LABELS[val]).tolist() == [size] * 10
    assert np.bincount(LABELS[train]).tolist() == [60 - size] * 10


def test_parts_and_summary_agree(drawn_images):
    images, labels = drawn_images
    parts, summary = prepare(images, labels, images[:50], labels[:50], Prepare(val_per_class=5, seed=0))
    assert summary["counts"] == {"train": 950, "val": 50, "test": 50}
    assert summary["class_names"] == list(CLASS_NAMES)
    assert summary["train_pixel_mean"] == round(float(parts["train"][0].mean()), 6)
    assert summary["train_pixel_std"] == round(float(parts["train"][0].std()), 6)
    assert all(part.dtype == np.uint8 for part, _ in parts.values())
    for part, names in parts.values():  # every image kept its label
        for image, label in zip(part[:20], names[:20], strict=True):
            assert label == labels[(images == image).all(axis=(1, 2))][0]


def test_the_digest_tells_splits_apart(drawn_images):
    images, labels = drawn_images
    digests = [
        prepare(images, labels, images, labels, Prepare(val_per_class=5, seed=seed))[1]["split_sha256"]
        for seed in (0, 0, 1)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_images_without_labels_are_refused(drawn_images):
    images, labels = drawn_images
    with pytest.raises(InputError, match="1000 test images, but 999 test labels"):
        prepare(images, labels, images, labels[:-1], Prepare(val_per_class=5, seed=0))
    with pytest.raises(InputError, match="999 training images, but 1000 training labels"):
        prepare(images[:-1], labels, images, labels, Prepare(val_per_class=5, seed=0))
