"""Images of clothing that the project draws itself, for `make demo` and the tests. They are not Fashion-MNIST.

Each of the ten classes is a shape of polygons and ellipses with random size, shade, position and noise. A small network
learns them in seconds, but not perfectly, because some classes are alike, such as shirts and coats.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from stages.common.files import atomic_write
from stages.data.idx import write_idx
from stages.data.publisher import PUBLISHED

TRAIN_COUNT, TEST_COUNT = 2500, 500
SCALE = 4  # images are drawn at 112x112 pixels, then downscaled to 28x28


def draw_image(label: int, rng: np.random.Generator) -> np.ndarray:
    """One image of class `label` (0-9), uint8 (28, 28), light on black."""
    canvas = Image.new("L", (28 * SCALE, 28 * SCALE))
    pen = ImageDraw.Draw(canvas)
    shade = int(rng.integers(110, 250))
    faint = int(0.7 * shade)  # of collars, zips and hems
    x0, y0 = rng.normal(0, 1.2, size=2)
    width, length = rng.normal(1, 0.12, size=2)

    def point(x: float, y: float) -> tuple[float, float]:
        """Pixels of the canvas for image coordinates, -14 to 14 from the center."""
        return (14 + x0 + x * width) * SCALE, (14 + y0 + y * length) * SCALE

    def polygon(*corners: tuple[float, float], fill: int = shade) -> None:
        pen.polygon([point(x, y) for x, y in corners], fill=fill)

    def mirrored(*half: tuple[float, float], fill: int = shade) -> None:
        """A symmetric shape, given by its right half from top to bottom."""
        polygon(*half, *[(-x, y) for x, y in reversed(half)], fill=fill)

    def garment(sleeve: float, hem: float, waist: float) -> None:
        """A top with sleeves down to y = `sleeve` and a hem at y = `hem`, 2 x `waist` wide."""
        mirrored((2, -11), (6, -10), (6, -4), (waist, hem))
        for side in (-1, 1):
            polygon((side * 5, -10), (side * 8, -9), (side * 10.5, sleeve), (side * 7.5, sleeve), (side * 5.5, -5))

    sleeve = rng.normal(7, 1)
    if label == 0:  # T-shirt/top
        garment(-4 + rng.normal(0, 0.8), 11, 6)
    elif label == 1:  # trouser
        gap = rng.uniform(0.5, 1.5)
        for side in (-1, 1):
            polygon((0, -12), (side * 5, -12), (side * 6, 12), (side * (gap + 1), 12), (0, -3))
    elif label == 2:  # pullover
        garment(sleeve, 9, 6)
        mirrored((6, 8), (6, 10), fill=faint)
    elif label == 3:  # dress
        mirrored((2, -12), (4, -11), (3, -2), (rng.uniform(5, 8), 12))
    elif label == 4:  # coat
        garment(sleeve, 12, 6.5)
        mirrored((0.5, -10), (0.5, 12), fill=faint)
    elif label == 5:  # sandal
        polygon((-12, 6), (12, 4), (12, 6), (-12, 8))
        for x in rng.uniform(-9, 8, size=3):
            polygon((x, 6), (x + 2, -1), (x + 4, -1), (x + 2, 6))
    elif label == 6:  # shirt
        garment(sleeve, 11, 6)
        mirrored((2, -11), (0.5, -6), fill=faint)
        for y in range(-4, 10, 4):
            pen.ellipse([*point(-0.6, y - 0.6), *point(0.6, y + 0.6)], fill=faint)
    elif label == 7:  # sneaker
        polygon((-12, 0), (-8, -2), (0, 0), (10, 3), (12, 6), (-12, 6))
        polygon((-12, 6), (12, 6), (12, 8), (-12, 8), fill=min(255, shade + 60))
    elif label == 8:  # bag
        pen.arc([*point(-5, -11), *point(5, 3)], 180, 360, fill=shade, width=SCALE)
        polygon((-10, -4), (10, -4), (11, 9), (-11, 9))
    else:  # ankle boot
        polygon((-8, -11), (0, -11), (1, -1), (11, 3), (12, 8), (-9, 8))
        polygon((-9, 8), (12, 8), (12, 10), (-9, 10), fill=faint)

    image = np.asarray(canvas.resize((28, 28), Image.Resampling.BOX), dtype=np.float32)
    noisy = image * rng.normal(1, 0.35, size=image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` images, uint8 (count, 28, 28), and their labels, uint8 (count,); classes have equal numbers of images."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
    return np.stack([draw_image(int(label), rng) for label in labels]), labels


def write_files(folder: Path, train_count: int = TRAIN_COUNT, test_count: int = TEST_COUNT) -> None:
    """Write four files of drawn images into `folder`, with the names and the format of the publisher's files."""
    train_images, train_labels = draw(train_count, seed=1)
    test_images, test_labels = draw(test_count, seed=2)
    arrays = (train_images, train_labels, test_images, test_labels)
    for name, array in zip(PUBLISHED, arrays, strict=True):
        with atomic_write(folder / name) as beside:
            write_idx(beside, array)
