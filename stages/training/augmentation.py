"""Random changes of training pictures, a whole epoch at a time, in NumPy.

A whole epoch of uint8 at once is cheap, and nothing of it is in the graph.
Pictures are uint8 (N, H, W, C).
"""

import numpy as np


def shift(images: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Each picture moved by its own whole number of pixels; what comes in from outside is black.

    Args:
        images: (N, H, W, C).
        offsets: (N, 2) integers: pixels down and pixels to the right, each smaller than the picture.
    """
    size, border = images.shape[1:3], np.abs(offsets).max(initial=0)
    framed = np.pad(images, [(0, 0), (border, border), (border, border), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(framed, size, axis=(1, 2))  # (N, down, right, C, H, W)
    down, right = (border - offsets).T
    return np.moveaxis(windows[np.arange(len(images)), down, right], 1, -1)


def flip(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The pictures where `chosen` (N, bool) is true, mirrored left to right; the others as they are."""
    flipped = images.copy()
    flipped[chosen] = images[chosen, :, ::-1]
    return flipped


def erase(images: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rectangle of each chosen picture, at a random place, replaced by random grey; the other pictures as they are.

    The rectangle covers 2 to 40 % of the picture (what lies outside is cut off), its height is 0.3 to 3.3 times its width.
    Source: Zhong et al., "Random Erasing Data Augmentation" (2017), whose defaults these are.

    Args:
        images: (N, H, W, C).
        chosen: (N,) bool.
    """
    erased = images.copy()
    covered = images[chosen]
    count, height, width = covered.shape[:3]
    area = rng.uniform(0.02, 0.4, count) * height * width
    aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3), count))
    inside = rectangles(area, aspect, (height, width), rng)
    erased[chosen] = np.where(inside[..., None], rng.integers(0, 256, covered.shape, dtype=images.dtype), covered)
    return erased


def cutmix(
    images: np.ndarray, targets: np.ndarray, chosen: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A square of each chosen picture replaced by what another chosen one shows there; the targets mixed in proportion.

    The square lies at a random place inside the picture, and every share of the picture from 0 to 1 is as likely.
    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features" (2019),
    where it may also lie across the border.

    Args:
        images: (N, H, W, C).
        targets: float32 (N, 10), rows sum to 1.
        chosen: (N,) bool. One that is its own partner, by chance, stays as it is.

    Returns:
        Pictures and targets of the same shapes; those that are not chosen as they are.
    """
    mixed, mixed_targets = images.copy(), targets.copy()
    places = np.flatnonzero(chosen)
    others = rng.permutation(places)
    count, (height, width) = len(places), images.shape[1:3]
    inside = rectangles(rng.random(count) * height * width, np.ones(count), (height, width), rng)
    mixed[places] = np.where(inside[..., None], images[others], images[places])
    share = inside.mean(axis=(1, 2), dtype=np.float32)[:, None]
    mixed_targets[places] = (1 - share) * targets[places] + share * targets[others]
    return mixed, mixed_targets


def rectangles(area: np.ndarray, aspect: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """True inside a rectangle at a random place, cut off where it is larger than the picture: bool (N, H, W).

    Args:
        area: Pixels, (N,).
        aspect: Height as a multiple of the width, (N,).
        size: H and W.
    """
    inside = True  # then (N, H, 1), then (N, H, W)
    for axis, length, side in ((1, size[0], np.sqrt(area * aspect)), (2, size[1], np.sqrt(area / aspect))):
        side = np.clip(np.rint(side).astype(int), 1, length)
        start = rng.integers(0, length - side + 1)
        position = np.arange(length)
        line = (position >= start[:, None]) & (position < (start + side)[:, None])  # (N, length)
        inside = inside & np.expand_dims(line, 3 - axis)
    return inside


def shrunk(images: np.ndarray, size: int) -> np.ndarray:
    """The pictures at `size` x `size` pixels, each the mean of the area of the larger picture that it covers.

    Args:
        images: uint8 (N, S, S, C), S at least `size`.
    """
    full = images.shape[1]
    areas = np.repeat(np.eye(full, dtype=np.float32), size, axis=0).reshape(size, full, full).mean(axis=1)
    means = areas @ np.moveaxis(images, -1, 1).astype(np.float32) @ areas.T  # (N, C, size, size)
    return np.moveaxis(np.rint(means).astype(np.uint8), 1, -1)


def augmented(
    images: np.ndarray, order: np.ndarray, seed: int, epoch: int, *, max_shift: int, flips: bool, erased: float
) -> np.ndarray:
    """Pictures `order` of `images`, changed: a function of `seed` and `epoch` alone.

    Flips alternate: a random half is mirrored in the even epochs, the other half in the odd ones, so that two epochs in
    a row show a picture both ways. Source: Jordan, "94 % on CIFAR-10 in 3.29 seconds" (2024).

    Args:
        images: uint8 (N, H, W, C).
        order: Indices, (M,).
        max_shift: Pictures move by up to so many pixels, along both axes.
        flips: Whether to mirror.
        erased: The share of the pictures of which a rectangle is erased.
    """
    rng = np.random.default_rng([seed, epoch, 1])
    half = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,))).random(len(images)) < 0.5
    images = images[order]
    if flips:
        images = flip(images, (half ^ (epoch % 2 == 1))[order])
    if max_shift:
        images = shift(images, rng.integers(-max_shift, max_shift + 1, size=(len(images), 2)))
    if erased:
        images = erase(images, rng.random(len(images)) < erased, rng)
    return images
