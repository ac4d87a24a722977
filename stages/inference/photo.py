"""A photo of clothing as an input of a model, made by the steps by which Zalando made the images of Fashion-MNIST.

The steps: trim the background, scale the longer edge to 28 pixels, sharpen, center, grey, negate. They need only NumPy and
Pillow. Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms" (2017), section 2. Zalando's photos are on white. Here, any plain background becomes the black of Fashion-MNIST.
"""

from dataclasses import dataclass

import numpy as np

from stages.base.errors import InputError
from stages.base.runs import FASHION_MNIST
from stages.data.publisher import SIZE
from stages.data.resize import GREY, center, fitted, grey, scale

TOLERANCE = 0.05 * 255  # grey levels of a channel: what is so near to the background's color belongs to it
MIN_PLAIN_SHARE = 0.8  # of the border's pixels: if so many have the background's color, it is plain
LIGHT_FITS = 4  # how often a plane is fitted to the light
DARKEST_LIGHT = 32  # grey levels: a darker background is not corrected, since a ratio would amplify its noise
MAX_DUST_SHARE = 0.005  # of all that differs from the background: less, apart from the rest, is no clothing
BACKGROUNDS = ("auto", "light", "dark")
# The paper sharpens with a Gaussian of radius and standard deviation 1. Here as ImageMagick's `-sharpen 1x1` computes it:
# the 3x3 Gaussian, negated; its center is replaced by twice the Gaussian's sum; then divided by the new sum.
GAUSSIAN = np.exp(-np.add.outer(np.arange(-1, 2) ** 2, np.arange(-1, 2) ** 2) / 2)
SHARPEN = -GAUSSIAN
SHARPEN[1, 1] = 2 * GAUSSIAN.sum()
SHARPEN /= SHARPEN.sum()


@dataclass(frozen=True)
class Background:
    """The background of a photo.

    Attributes:
        color: float64 (3,), 0 to 255.
        is_light: Whether the clothing is darker than it.
        share: The share of the border that has its color, 0 to 1.
    """

    color: np.ndarray
    is_light: bool
    share: float


@dataclass(frozen=True)
class Conversion:
    """A photo, converted.

    Attributes:
        pixels: The input of a model: uint8 (H, W, C); of `convert`, (28, 28, 1), bright on dark.
        steps: The photo and what each step made of it, by name, in order: uint8 (H, W, 3) or (H, W).
        warnings: Sentences about what may be wrong with the photo; mostly none.
    """

    pixels: np.ndarray
    steps: dict[str, np.ndarray]
    warnings: list[str]


def convert(photo: np.ndarray, background: str = "auto") -> Conversion:
    """Make a photo an input of a model.

    A photo of 28x28 pixels is taken for an image that was converted before: it is only made grey and, if its background is
    light, negated.

    Args:
        photo: uint8 (H, W, 3): see `stages.data.image_file.read_photo`.
        background: `"light"` (the clothing is darker), `"dark"` (it is brighter) or `"auto"`: found from the border.

    Raises:
        InputError: The photo has only one color, or is no such array, or `background` is another word.
    """
    photo = np.asarray(photo)
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
        raise InputError(
            f"a photo must be an array, uint8 (H, W, 3), as from read_photo, but is {photo.dtype} {photo.shape}."
        )
    if background not in BACKGROUNDS:
        raise InputError(f"background is {background!r}, but must be one of {', '.join(BACKGROUNDS)}.")
    if photo.shape[:2] == (SIZE, SIZE):
        is_light = find_background(photo, background).is_light
        negated = negate(grey(photo), 255.0 if is_light else 0.0, is_light)
        return Conversion(negated[..., None], {"photo": photo, "grey and negated": negated}, [])
    evened = even_light(photo)
    found = find_background(evened, background)
    steps = {"photo": photo}
    steps["trimmed"] = trim(evened, found.color)
    steps["scaled"] = scale(steps["trimmed"], SIZE)
    steps["sharpened"] = sharpen(steps["scaled"])
    steps["centered"] = center(steps["sharpened"], found.color, SIZE)
    steps["grey and negated"] = negate(grey(steps["centered"]), float(found.color @ GREY), found.is_light)
    warning = (
        f"its background is not plain: only {100 * found.share:.0f} % of its border has one color, of "
        f"{100 * MIN_PLAIN_SHARE:.0f} % needed; photograph the clothing alone, on one color"
    )
    return Conversion(steps["grey and negated"][..., None], steps, [warning] if found.share < MIN_PLAIN_SHARE else [])


def prepared(photo: np.ndarray, dataset: str, shape: tuple[int, int, int], background: str = "auto") -> Conversion:
    """Make a photo an input of a model, as the images were made that it was trained on.

    Args:
        photo: uint8 (H, W, 3): see `stages.data.image_file.read_photo`.
        dataset: The name of the data: photos are converted only for Fashion-MNIST, and scaled for others, as by `prepare`.
        shape: Height, width and channels of an input.
        background: As in `convert`; `"auto"` for other data than Fashion-MNIST, else raises `InputError`.
    """
    if dataset == FASHION_MNIST:
        return convert(photo, background)
    if background != "auto":
        raise InputError(f"only photos of clothing are negated by their background; for {dataset}, leave it at auto.")
    pixels = fitted(photo, shape[0], shape[2])
    return Conversion(pixels, {"photo": photo, "scaled": pixels.squeeze()}, [])


def even_light(photo: np.ndarray) -> np.ndarray:
    """The photo, uint8 (H, W, 3), as if its light came from all sides, if its background is plain but for the light.

    A plane is fitted to the border's levels, in each channel, and pixels are multiplied by the plane's mean over the plane:
    "flat-field correction". The photo stays as it is if its border is plain already, or if it is not near to the plane.
    """
    height, width = photo.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    edge = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns == width - 1)
    places = np.stack([np.ones((height, width)), rows / height, columns / width], axis=-1)  # (H, W, 3)
    levels = photo[edge].astype(np.float64)  # (B, 3)
    plain = np.abs(levels - np.median(levels, axis=0)).max(axis=1) <= TOLERANCE
    if plain.mean() >= MIN_PLAIN_SHARE:
        return photo
    kept = np.ones(len(levels), bool)
    for _ in range(LIGHT_FITS):  # what is far from the plane, such as clothing that touches the border, does not count
        plane, *_ = np.linalg.lstsq(places[edge][kept], levels[kept], rcond=None)
        far = np.abs(levels - places[edge] @ plane).max(axis=1)
        kept = far <= max(TOLERANCE, float(np.median(far)))
    light = places @ plane  # (H, W, 3)
    if (far <= TOLERANCE).mean() < MIN_PLAIN_SHARE or light.min() < DARKEST_LIGHT:
        return photo
    return np.clip(np.rint(photo * (light.mean(axis=(0, 1)) / light)), 0, 255).astype(np.uint8)


def find_background(photo: np.ndarray, background: str = "auto") -> Background:
    """The background: the color that most of the border's pixels are near to.

    Args:
        photo: uint8 (H, W, 3).
        background: As in `convert`. For `"light"` and `"dark"`, only the pixels of the border in that half of the grey
            levels count, if there are any.

    Raises:
        InputError: The whole photo has the background's color.
    """
    border = np.concatenate([photo[0], photo[-1], photo[1:-1, 0], photo[1:-1, -1]]).astype(np.float64)  # (B, 3)
    is_half = (border @ GREY >= 127.5) == (background == "light")
    looked_at = border[is_half] if background != "auto" and is_half.any() else border
    candidates = looked_at[:: -(-len(looked_at) // 256)]  # (C, 3), at most 256
    near = np.abs(candidates[:, None] - looked_at).max(axis=2) <= TOLERANCE  # (C, B)
    most = near[near.sum(axis=1).argmax()]
    color = np.median(looked_at[most], axis=0)
    share = float((np.abs(border - color).max(axis=1) <= TOLERANCE).mean())
    clothing = photo[differs(photo, color)]
    if not len(clothing):
        raise InputError(
            f"nothing differs enough from one color ({', '.join(f'{value:.0f}' for value in color)} in RGB): no clothing "
            "can be seen on it."
        )
    is_light = background == "light" if background != "auto" else bool((clothing @ GREY).mean() < color @ GREY)
    return Background(color, is_light, share)


def differs(photo: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Where a photo, uint8 (H, W, 3), differs from the background's color: bool (H, W)."""
    return np.abs(photo - color).max(axis=2) > TOLERANCE


def trim(photo: np.ndarray, color: np.ndarray) -> np.ndarray:
    """The smallest part of the photo, uint8 (h, w, 3), with what differs from the background: see `without_dust`."""
    clothing = without_dust(differs(photo, color))
    rows, columns = np.flatnonzero(clothing.any(axis=1)), np.flatnonzero(clothing.any(axis=0))
    return photo[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def without_dust(clothing: np.ndarray) -> np.ndarray:
    """Where there is clothing, bool (H, W), without single pixels (in photos of 112 pixels and more) and without dust.

    Dust lies apart from the rest, with empty rows or columns between them, and is less than `MAX_DUST_SHARE` of all.
    """
    if max(clothing.shape) >= 4 * SIZE:
        framed = np.pad(clothing.astype(np.uint8), 1, "edge")
        columns = framed[:-2] + framed[1:-1] + framed[2:]
        filtered = columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:] > 4  # the median of 3 x 3 pixels
        clothing = filtered if filtered.any() else clothing
    clothing = clothing.copy()
    for lines in (clothing, clothing.T):
        counts = lines.sum(axis=1)
        filled = np.flatnonzero(counts)
        for run in np.split(filled, np.flatnonzero(np.diff(filled) > 1) + 1):
            if counts[run].sum() < MAX_DUST_SHARE * counts.sum():
                lines[run] = False
    return clothing


def sharpen(photo: np.ndarray) -> np.ndarray:
    """The photo, uint8 (h, w, 3), sharpened by a Gaussian of radius and standard deviation 1."""
    height, width = photo.shape[:2]
    framed = np.pad(photo.astype(np.float64), [(1, 1), (1, 1), (0, 0)], mode="edge")
    sharp = sum(
        SHARPEN[down, right] * framed[down : down + height, right : right + width]
        for down in range(3)
        for right in range(3)
    )
    return np.clip(np.rint(sharp), 0, 255).astype(np.uint8)


def negate(levels: np.ndarray, background: float, is_light: bool) -> np.ndarray:
    """Grey levels with a black background and bright clothing.

    On white, this is the negative, and on black nothing changes. In between, the levels from the background's to the other
    end of the range are stretched to 0 to 255.

    Args:
        levels: float64 (H, W), 0 to 255.
        background: The background's grey level, 0 to 255.
        is_light: Whether the clothing is darker than the background.

    Returns:
        uint8 (H, W).
    """
    span = max(background if is_light else 255 - background, 1.0)
    distance = background - levels if is_light else levels - background
    return np.clip(np.rint(distance / span * 255), 0, 255).astype(np.uint8)
