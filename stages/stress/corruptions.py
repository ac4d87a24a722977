"""Corruptions of images, ten kinds at five strengths, for measuring robustness.

The kinds follow Mu and Gilmer, "MNIST-C: A robustness benchmark for computer vision" (2019), which Weiss and Tonella,
"Simple techniques work surprisingly well for neural network test prioritization and active learning" (2022), applied to
Fashion-MNIST. Five strengths per kind follow Hendrycks and Dietterich, "Benchmarking neural network robustness to common
corruptions and perturbations" (2019). The levels are this project's own. Accuracies are not comparable with those on the
published sets.

Images are uint8 (N, H, W, C). Levels in pixels are for images of `TUNED_SIZE`, and in proportion for others. What comes
from outside an image has the median color of its border, which is black in nearly all images of Fashion-MNIST.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from stages.data.resize import border_of
from stages.data.transforms import TUNED_SIZE

STRENGTHS = (1, 2, 3, 4, 5)
LEVELS = {  # of each kind, for strengths 1 to 5 and images of TUNED_SIZE: see `level_of`; UNITS gives their units
    "noise": (5, 10, 20, 40, 80),
    "blur": (0.5, 0.75, 1, 1.5, 2),
    "brightness": (20, 40, 60, 80, 100),
    "contrast": (80, 60, 40, 30, 20),
    "rotation": (5, 10, 20, 30, 45),
    "shear": (0.1, 0.2, 0.3, 0.45, 0.6),
    "scale": (90, 80, 70, 60, 50),
    "translation": (1, 2, 3, 4, 6),
    "occlusion": (4, 7, 10, 13, 16),
    "inversion": (20, 40, 60, 80, 100),
}
UNITS = {
    "noise": "std, grey levels",
    "blur": "std, pixels",
    "brightness": "grey levels added",
    "contrast": "% of the contrast left",
    "rotation": "degrees",
    "shear": "pixels per row",
    "scale": "% of the size",
    "translation": "pixels",
    "occlusion": "side of a square, pixels",
    "inversion": "% of the negative",
}
IN_PIXELS = ("blur", "translation", "occlusion")
BATCH = 100  # images that are transformed at a time
GREY = 128  # grey level of the square that covers a part of the image


def grey_levels(values: np.ndarray) -> np.ndarray:
    """Values rounded to integers and clipped to 0-255: uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def affine(images: np.ndarray, matrix: np.ndarray, offset: tuple[float, float] = (0, 0)) -> np.ndarray:
    """Apply an affine transform: the new image at p is the old image at `matrix` x p + `offset`, interpolated bilinearly.

    Args:
        images: uint8 (N, H, W, C).
        matrix: (2, 2). Points p are (row, column), in pixels from the center of the image.
        offset: Pixels down and to the right.
    """
    size = np.array(images.shape[1:3])
    middle = (size - 1) / 2
    starts = middle - (matrix * middle).sum(axis=1) + offset
    rows, columns = np.indices(size)
    axes = []  # the two nearest old rows, then columns, of each new pixel, with their weights
    for start, along, length in zip(starts, matrix, size, strict=True):
        place = start + along[0] * rows + along[1] * columns
        first = np.floor(place).astype(int)
        pair = ((first, 1 - place + first), (first + 1, place - first))
        axes.append([(np.clip(old + 1, 0, length + 1), weight[..., None]) for old, weight in pair])  # + 1: of the frame
    changed = np.empty_like(images)
    for start in range(0, len(images), BATCH):
        batch = slice(start, start + BATCH)
        outside = border_of(images[batch])
        framed = np.pad(images[batch] - outside, [(0, 0), (1, 1), (1, 1), (0, 0)])
        values = sum(framed[:, row, column] * down * right for row, down in axes[0] for column, right in axes[1])
        changed[batch] = values + outside + 0.5  # which is rounded down
    return changed


def either_way(images: np.ndarray, matrices: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Apply one of two matrices, each (2, 2), to each image, at random: see `affine`."""
    first, changed = rng.random(len(images)) < 0.5, np.empty_like(images)
    for chosen, matrix in zip((first, ~first), matrices, strict=True):
        changed[chosen] = affine(images[chosen], matrix)
    return changed


def noise(images: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise with a standard deviation of `std` grey levels, independent for each pixel."""
    return grey_levels(images + std * rng.standard_normal(images.shape, np.float32))


def blur(images: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    """Blur with a Gaussian filter with a standard deviation of `std` pixels."""
    outside = border_of(images)
    return grey_levels(ndimage.gaussian_filter(images - outside, (0, std, std, 0), mode="constant") + outside)


def brightness(images: np.ndarray, added: float, rng: np.random.Generator) -> np.ndarray:
    """Make every pixel brighter by `added` grey levels."""
    return grey_levels(images + np.float32(added))


def contrast(images: np.ndarray, left: float, rng: np.random.Generator) -> np.ndarray:
    """Reduce each pixel's difference from the image's mean to `left` percent."""
    means = images.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
    return grey_levels(means + left / 100 * (images - means))


def rotation(images: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Rotate about the center, to the left or right at random."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    anticlockwise = np.array([[cosine, sine], [-sine, cosine]])
    return either_way(images, [anticlockwise, anticlockwise.T], rng)


def shear(images: np.ndarray, slant: float, rng: np.random.Generator) -> np.ndarray:
    """Shift each row by `slant` pixels more than the row above it, to the left or right at random; keep the center."""
    return either_way(images, [np.array([[1, 0], [side * slant, 1]]) for side in (-1, 1)], rng)


def scale(images: np.ndarray, percent: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink to `percent` of the width and height, centered."""
    return affine(images, np.eye(2) * 100 / percent)


def translation(images: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Shift by `pixels` up, down, left or right, at random."""
    towards, moved = rng.integers(4, size=len(images)), np.empty_like(images)
    for place, (down, right) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
        chosen = towards == place
        moved[chosen] = affine(images[chosen], np.eye(2), (-down * pixels, -right * pixels))
    return moved


def occlusion(images: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Cover a square of `side` x `side` pixels with grey, at a random place inside the image."""
    inside = True
    for axis in (1, 2):
        position = np.arange(images.shape[axis])
        start = np.floor(rng.random((len(images), 1)) * (len(position) + 1 - side))
        line = (position >= start) & (position < start + side)  # (N, length)
        inside = inside & np.expand_dims(line, 3 - axis)  # (N, H, 1), then (N, H, W)
    return np.where(inside[..., None], np.uint8(GREY), images)


def inversion(images: np.ndarray, percent: float, rng: np.random.Generator) -> np.ndarray:
    """Blend with the negative image; 100 percent is the negative itself."""
    share = np.float32(percent / 100)
    return grey_levels((1 - share) * images + share * (255 - images))


KINDS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "noise": noise,
    "blur": blur,
    "brightness": brightness,
    "contrast": contrast,
    "rotation": rotation,
    "shear": shear,
    "scale": scale,
    "translation": translation,
    "occlusion": occlusion,
    "inversion": inversion,
}


def corrupt(images: np.ndarray, kind: str, strength: int, seed: int) -> np.ndarray:
    """Corrupt images. The result depends only on the arguments.

    All strengths use the same random numbers: an image that is rotated to the left is rotated farther to the left at the
    next strength.

    Args:
        images: uint8 (N, H, W, C).
        kind: One of `KINDS`.
        strength: 1 to 5, see `LEVELS` and `UNITS`; 0 returns the images as they are.
        seed: The seed of the random numbers.

    Returns:
        uint8 (N, H, W, C).
    """
    if strength == 0:
        return images
    return KINDS[kind](images, level_of(kind, strength, images.shape[1]), np.random.default_rng(seed))


def level_of(kind: str, strength: int, height: int) -> float:
    """The level of a corruption at a strength from 1 to 5, in `UNITS`, for images of this height."""
    level = LEVELS[kind][strength - 1]
    if kind not in IN_PIXELS or height == TUNED_SIZE:
        return level
    scaled = level * height / TUNED_SIZE
    return scaled if kind == "blur" else max(1, round(scaled))
