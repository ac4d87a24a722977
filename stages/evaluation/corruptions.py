"""Pictures corrupted on purpose, in ten ways at five strengths: how far may a picture be from those of the training?

The kinds are of those in Mu and Gilmer, "MNIST-C: A robustness benchmark for computer vision" (2019), which Weiss and
Tonella, "Simple techniques work surprisingly well for neural network test prioritization and active learning" (2022),
carried over to Fashion-MNIST; the five strengths as in Hendrycks and Dietterich, "Benchmarking neural network robustness
to common corruptions and perturbations" (2019). The measures are this project's own, so accuracies cannot be held against
those of the published sets.

Pictures are uint8 (N, 28, 28, 1), light on black. What comes in from outside is black.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

STRENGTHS = (1, 2, 3, 4, 5)
LEVELS = {  # what the strengths are of each kind
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
    "noise": "deviation, grey levels",
    "blur": "deviation, pixels",
    "brightness": "grey levels added",
    "contrast": "% of the contrast left",
    "rotation": "degrees",
    "shear": "pixels a row",
    "scale": "% of the size",
    "translation": "pixels",
    "occlusion": "side of a square, pixels",
    "inversion": "% of the negative",
}
GREY = 128  # of what stands before the clothing


def grey_levels(values: np.ndarray) -> np.ndarray:
    """Rounded to the nearest grey level, those outside 0-255 cut off: uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def affine(images: np.ndarray, matrix: np.ndarray, offset: tuple[float, float] = (0, 0)) -> np.ndarray:
    """Pictures that show at each place what lay at `matrix` x place + `offset`, between pixels by bilinear interpolation.

    Args:
        matrix: (2, 2).
        offset: Pixels down and to the right. Places are (row, column), counted from the middle of the picture.
    """
    whole = np.eye(3)  # the first axis, that of the pictures, stays as it is
    whole[1:, 1:] = matrix
    middle = np.array([0, (images.shape[1] - 1) / 2, (images.shape[2] - 1) / 2])
    start = middle - whole @ middle + (0, *offset)
    return ndimage.affine_transform(images[..., 0], whole, start, order=1, mode="grid-constant")[..., None]


def either_way(images: np.ndarray, matrices: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Each picture through one of the two matrices, (2, 2) each, by chance: see `affine`."""
    first, changed = rng.random(len(images)) < 0.5, np.empty_like(images)
    for chosen, matrix in zip((first, ~first), matrices, strict=True):
        changed[chosen] = affine(images[chosen], matrix)
    return changed


def noise(images: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of `deviation` grey levels, of its own in every pixel."""
    return grey_levels(images + deviation * rng.standard_normal(images.shape, np.float32))


def blur(images: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Each pixel the mean of its surroundings, weighted by a Gaussian of `deviation` pixels."""
    return grey_levels(
        ndimage.gaussian_filter(images, (0, deviation, deviation, 0), output=np.float32, mode="constant")
    )


def brightness(images: np.ndarray, added: float, rng: np.random.Generator) -> np.ndarray:
    """Clothing and background brighter by so many grey levels."""
    return grey_levels(images + np.float32(added))


def contrast(images: np.ndarray, left: float, rng: np.random.Generator) -> np.ndarray:
    """Each pixel's distance from the picture's mean reduced to `left` percent."""
    means = images.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
    return grey_levels(means + left / 100 * (images - means))


def rotation(images: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Turned about the middle, either way."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    anticlockwise = np.array([[cosine, sine], [-sine, cosine]])
    return either_way(images, [anticlockwise, anticlockwise.T], rng)


def shear(images: np.ndarray, slant: float, rng: np.random.Generator) -> np.ndarray:
    """Each row moved sideways by `slant` pixels more than the row above it, either way; the middle stays."""
    return either_way(images, [np.array([[1, 0], [side * slant, 1]]) for side in (-1, 1)], rng)


def scale(images: np.ndarray, percent: float, rng: np.random.Generator) -> np.ndarray:
    """Smaller: `percent` of the width and height, in the middle."""
    return affine(images, np.eye(2) * 100 / percent)


def translation(images: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Moved by so many pixels up, down, left or right."""
    towards, moved = rng.integers(4, size=len(images)), np.empty_like(images)
    for place, (down, right) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
        chosen = towards == place
        moved[chosen] = affine(images[chosen], np.eye(2), (-down * pixels, -right * pixels))
    return moved


def occlusion(images: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A grey square of `side` pixels before the clothing, at a random place inside the picture."""
    position, inside = np.arange(28), True
    for axis in (1, 2):
        start = np.floor(rng.random((len(images), 1)) * (29 - side))
        line = (position >= start) & (position < start + side)  # (N, 28)
        inside = inside & np.expand_dims(line, 3 - axis)  # (N, 28, 1), then (N, 28, 28)
    return np.where(inside[..., None], np.uint8(GREY), images)


def inversion(images: np.ndarray, percent: float, rng: np.random.Generator) -> np.ndarray:
    """Blended with the negative, which is dark on white; 100 percent is the negative itself."""
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
    """The pictures, corrupted: a function of `seed`, from which every strength draws the same, so that a picture turned
    left a little is turned left farther at the next.

    Args:
        images: uint8 (N, 28, 28, 1).
        kind: One of `KINDS`.
        strength: 1 to 5, which `LEVELS` puts into `UNITS`; 0 leaves the pictures as they are.
    """
    if strength == 0:
        return images
    return KINDS[kind](images, LEVELS[kind][strength - 1], np.random.default_rng(seed))
