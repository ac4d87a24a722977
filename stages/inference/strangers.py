"""Pictures of none of the classes, made by the project, to learn how such pictures differ; and familiar ones to compare.

Of any data, `pieces` of several images are strange. Of Fashion-MNIST, whose photos show clothing on white, so are images on
their side, drawings of random shapes, and characters of the font that comes with matplotlib; and familiar are, besides the
images, pictograms of them: flat, outlined, in a few grey levels. Nothing here shows an animal, food, a vehicle or a tool.
Source: Hendrycks, Mazeika and Dietterich, "Deep Anomaly Detection with Outlier Exposure" (2019).
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from stages.base.runs import FASHION_MNIST
from stages.data.resize import center, grey, scale
from stages.inference.photo import SIZE, negate, sharpen, trim

CANVAS = 112  # height and width of a picture of clothing, pixels, before it is made an image as photos are
WHITE = np.full(3, 255.0)
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
CHARACTERS = [(0x21, 0x7E), (0xC0, 0x24F), (0x391, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA), (0x2190, 0x22FF)]  # Unicode
RAW_SHARE = 0.33  # of the familiar pictures, that are images as they are


def pieces(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Four or sixteen parts of an image in another order, halves of two images, or two images over each other.

    Args:
        images: (N, H, W, C), of which two are drawn; H and W are at least 8.
        rng: The random generator.

    Returns:
        (H, W, C), of the type of the images.
    """
    first, second = images[rng.integers(len(images), size=2)]
    kind, height = rng.integers(3), len(first)
    if kind == 0:
        count = int(rng.choice([2, 4]))
        size = height // count * count
        tiles = [part for row in np.split(first[:size, :size], count) for part in np.split(row, count, axis=1)]
        order = rng.permutation(count**2)
        order = order[::-1] if (order == range(count**2)).all() else order
        rows = [np.concatenate([tiles[place] for place in line], axis=1) for line in order.reshape(count, count)]
        return np.pad(np.concatenate(rows), [(0, height - size)] * 2 + [(0, 0)], "edge")
    if kind == 1:
        half = np.arange(height) < rng.integers(height // 4, 3 * height // 4)
        return np.where(half[:, None, None] if rng.random() < 0.5 else half[None, :, None], first, np.rot90(second))
    return ((first.astype(float) + np.rot90(second, rng.integers(1, 4))) / 2).astype(first.dtype)


# --- Pictures of clothing, dark on white: float (CANVAS, CANVAS), 0 to 255 ---


def picture(image: np.ndarray) -> np.ndarray:
    """An image of Fashion-MNIST, uint8 (28, 28, 1), as a larger picture."""
    return 255 - stretched(image[..., 0], CANVAS)


def stretched(drawn: np.ndarray, size: int) -> np.ndarray:
    """A picture, (H, H), as (size, size), interpolated bilinearly from corner to corner."""
    weights = between(len(drawn), size)
    return weights @ drawn @ weights.T


@cache
def between(size: int, wanted: int) -> np.ndarray:
    """The weights of `size` places for values at `wanted` places between the first and the last, (wanted, size)."""
    places = np.linspace(0, size - 1, wanted)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0)


def shade(rng: np.random.Generator) -> int:
    """A random grey level: dark, middle or light."""
    return int(rng.integers(*[(0, 80), (60, 200), (150, 235)][rng.integers(3)]))


def warped(drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture, turned a little, wider or narrower, higher or lower."""
    turn, (tall, wide), middle = np.deg2rad(rng.normal(0, 8)), rng.uniform(0.75, 1.25, 2), (CANVAS - 1) / 2
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / [[tall], [wide]]
    return ndimage.affine_transform(drawn, matrix, middle - matrix @ [middle, middle], order=1, cval=255)


def pictogram(drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture as it is, or flat, outlined, or in a few grey levels, with or without its inner lines."""
    kind = rng.integers(6)
    inside = ndimage.gaussian_filter((drawn < 235).astype(float), rng.uniform(0.8, 3)) > 0.5
    if kind == 0 or not inside.any():
        return drawn
    flat = np.where(inside, shade(rng), 255.0)
    if kind == 1:
        return flat
    if kind < 4:
        smooth = ndimage.gaussian_filter(drawn, 2)
        slopes = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1))
        flat = np.full_like(drawn, 255) if kind == 2 else flat
        flat[inside & (slopes > rng.uniform(60, 160))] = rng.integers(90)
    else:
        smooth, count = ndimage.gaussian_filter(drawn, rng.uniform(1, 4)), rng.integers(2, 5)
        level = np.digitize(smooth, np.quantile(smooth[inside], np.linspace(0, 1, count + 1)[1:-1]))
        flat = np.where(inside, np.array([shade(rng) for _ in range(count)])[level], 255.0)
        if rng.random() < 0.4:
            flat[inside & (ndimage.sobel(level.astype(float)) != 0)] = 0
    if kind != 4 or rng.random() < 0.5:
        flat[inside & ~ndimage.binary_erosion(inside, iterations=int(rng.integers(1, 6)))] = rng.integers(90)
    return flat


def outline(rng: np.random.Generator) -> np.ndarray:
    """The points of a random shape around (0, 0), about 1 large: a polygon, a star, a rectangle, an ellipse or a blob."""
    kind, around = rng.integers(5), np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radius, flat = np.ones(60), rng.uniform(0.3, 1)
    if kind == 0:
        around, radius, flat = np.linspace(0, 2 * np.pi, rng.integers(3, 9), endpoint=False), 1, 1
    elif kind == 1:
        around = np.linspace(0, 2 * np.pi, 2 * rng.integers(3, 9), endpoint=False)
        radius, flat = np.where(np.arange(len(around)) % 2, rng.uniform(0.3, 0.8), 1), 1
    elif kind == 2:
        around, radius = np.pi * (np.arange(4) / 2 + 0.25), 1.4
    elif kind == 3:
        waves = [
            rng.normal(0, 0.35 / n) * np.cos(n * around + rng.uniform(0, 6.3)) for n in range(1, rng.integers(3, 7))
        ]
        radius, flat = 1 + sum(waves), 1
    return np.stack([radius * np.cos(around), flat * radius * np.sin(around)], axis=1)


def drawing(rng: np.random.Generator) -> np.ndarray:
    """Random shapes and lines over each other, often symmetrical."""
    image = Image.new("L", (CANVAS, CANVAS), 255)
    pen, largest = ImageDraw.Draw(image), rng.uniform(14, 42)
    lines, hollow, symmetrical = rng.random() < 0.45, rng.random() < 0.5, rng.random() < 0.45
    style = {"outline": 0, "width": int(rng.integers(1, 6))} if lines else {}
    for number in range(rng.integers(1, 9)):
        size = largest if number == 0 else rng.uniform(3, largest)
        middle = np.full(2, CANVAS / 2) if number == 0 else rng.uniform(14, 98, 2)
        turn = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else rng.choice([0, np.pi / 2])
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points, fill = outline(rng) @ matrix.T * size + middle, 255 if lines and hollow else shade(rng)
        for mirrored in range(1 + (symmetrical and number > 0)):
            pen.polygon([(CANVAS - x if mirrored else x, y) for x, y in points], fill=fill, **style)
    for _ in range(rng.integers(5)):
        pen.line(list(rng.uniform(10, 102, 4)), fill=shade(rng), width=int(rng.integers(1, 8)))
    return np.asarray(image, float)


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font that comes with matplotlib."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / name, size)


def characters(rng: np.random.Generator) -> np.ndarray:
    """One to three large letters, digits or signs, one over the other."""
    image = Image.new("L", (CANVAS, CANVAS), 255)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        first, last = CHARACTERS[rng.integers(len(CHARACTERS))]
        place, style = CANVAS / 2 + rng.normal(0, 12, 2), {"stroke_width": int(rng.choice([0, 0, 2, 4]))}
        written = font(FONTS[rng.integers(2)], int(rng.choice([30, 50, 70, 90])))
        character = chr(rng.integers(first, last + 1))
        pen.text(tuple(place), character, shade(rng), written, "mm", stroke_fill=shade(rng), **style)
    return np.asarray(image.rotate(rng.normal(0, 25), fillcolor=255), float)


def as_image(drawn: np.ndarray) -> np.ndarray | None:
    """A picture as an image, uint8 (28, 28, 1), by the steps for photos of clothing; None if it is empty."""
    levels = np.clip(drawn, 0, 255).astype(np.uint8)
    if levels.min() > 200:
        return None
    photo = scale(trim(levels[..., None], WHITE[:1])[..., 0], SIZE)[..., None].repeat(3, axis=2)
    return negate(grey(center(sharpen(photo), WHITE, SIZE)), 255.0, True)[..., None]


CLOTHING_KINDS = ("drawings", "characters", "pieces", "turned")


def stranger(kind: str, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A strange picture of one of `CLOTHING_KINDS`, of images of Fashion-MNIST where it needs some."""
    if kind == "drawings":
        return drawing(rng)
    if kind == "characters":
        return characters(rng)
    first, second = images[rng.integers(len(images), size=2)]
    if kind == "pieces":
        return pieces(np.stack([picture(first), picture(second)])[..., None], rng)[..., 0]
    return warped(np.rot90(picture(first), rng.integers(1, 4)), rng)


def kinds(dataset: str) -> list[str]:
    """The kinds of strange pictures that are made for data of this name."""
    return list(CLOTHING_KINDS) if dataset == FASHION_MNIST else ["pieces"]


def strange(kind: str, images: np.ndarray, dataset: str, count: int, seed: int) -> np.ndarray:
    """`count` strange pictures of one of `kinds`, from images (N, H, W, C) of the data: uint8 (count, H, W, C)."""
    rng = np.random.default_rng([seed, len(kind)])
    if dataset != FASHION_MNIST:
        return np.stack([pieces(images, rng) for _ in range(count)])
    return several(count, lambda: stranger(kind, images, rng), 0.4, rng)


def familiar(images: np.ndarray, dataset: str, count: int, seed: int) -> np.ndarray:
    """`count` familiar pictures, made of images (N, H, W, C) of the data: uint8 (count, H, W, C)."""
    rng = np.random.default_rng([seed, 0])
    raw = count if dataset != FASHION_MNIST else round(RAW_SHARE * count)
    kept = images[rng.integers(len(images), size=raw)]
    if raw == count:
        return kept
    return np.concatenate([kept, pictograms(images, count - raw, seed)])


def pictograms(images: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` pictograms of images of Fashion-MNIST: uint8 (count, 28, 28, 1)."""
    rng = np.random.default_rng([seed, 1])

    def make() -> np.ndarray:
        drawn = picture(images[rng.integers(len(images))])[:, :: rng.choice([-1, 1])]
        return warped(stretched(np.pad(drawn, 14, constant_values=255), CANVAS), rng)

    return several(count, make, 1, rng)


def several(count: int, make: Callable[[], np.ndarray], share: float, rng: np.random.Generator) -> np.ndarray:
    """`count` images of pictures that `make` draws, a `share` of them as pictograms."""
    found: list[np.ndarray] = []
    while len(found) < count:
        drawn = make()
        made = as_image(pictogram(drawn, rng) if rng.random() < share else drawn)
        found += [] if made is None else [made]
    return np.stack(found)
