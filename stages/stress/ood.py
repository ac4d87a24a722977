"""Out-of-distribution (OOD) inputs: images of none of the classes, drawn by the project; and their detection.

Each kind of input is a function of a count, the shape of an image and a random generator; it returns uint8
(count, H, W, C), light on black.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from stages.data.transforms import TUNED_SIZE
from stages.scoring.scores import auroc

SCALE = 4  # digits are drawn so many times larger, then downscaled


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> list[tuple[float, float]]:
    """Points on an ellipse around (x, y) with half-axes `width` and `height`; degrees count clockwise from the right."""
    angles = np.deg2rad(np.linspace(start, end, 13))
    return list(zip(x + width * np.cos(angles), y + height * np.sin(angles), strict=True))


# The strokes of the digits 0-9 as points (x, y): x to the right, y down, from -1 at the top to 1 at the bottom.
DIGITS = [
    [arc(0, 0, 0.6, 1, -90, 270)],
    [[(-0.3, -0.6), (0.05, -1), (0.05, 1)]],
    [[*arc(0, -0.45, 0.55, 0.55, 190, 385), (-0.6, 1), (0.6, 1)]],
    [[*arc(0, -0.5, 0.5, 0.5, 200, 450), *arc(0, 0.5, 0.6, 0.5, -90, 160)]],
    [[(0.25, 1), (0.25, -1), (-0.6, 0.35), (0.65, 0.35)]],
    [[(0.5, -1), (-0.4, -1), (-0.45, -0.15), *arc(0, 0.4, 0.55, 0.6, 240, 500)]],
    [[(0.35, -1), (-0.25, -0.5), *arc(0, 0.45, 0.55, 0.55, 180, 540)]],
    [[(-0.55, -1), (0.55, -1), (-0.15, 1)]],
    [arc(0, -0.5, 0.45, 0.5, 90, 450), arc(0, 0.5, 0.55, 0.5, -90, 270)],
    [[*arc(0, -0.45, 0.5, 0.55, 0, 360), (0.35, 1)]],
]


def draw_digit(digit: int, rng: np.random.Generator) -> np.ndarray:
    """A digit that looks handwritten, 20 pixels high and centered as in MNIST: uint8 (`TUNED_SIZE`, `TUNED_SIZE`).

    Width, slant, rotation, shape, the thickness of the pen (2 to 3 pixels) and its grey level are random.
    """
    canvas = Image.new("L", (TUNED_SIZE * SCALE, TUNED_SIZE * SCALE))
    pen = ImageDraw.Draw(canvas)
    thickness, shade = rng.uniform(2, 3) * SCALE, int(rng.integers(200, 256))
    width, slant, turn = rng.normal(1, 0.12), rng.normal(0.15, 0.15), rng.normal(0, 0.1)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[width, -slant], [0, 1]]
    bends = rng.normal(0, 0.06, (2, 2))  # amplitudes of the waves that bend the strokes, along x and y
    strokes = [np.array(stroke) for stroke in DIGITS[digit]]
    strokes = [(stroke + np.sin(3 * stroke[:, ::-1]) @ bends) @ matrix.T for stroke in strokes]
    every = np.concatenate(strokes)
    middle, reach = (every.max(axis=0) + every.min(axis=0)) / 2, np.ptp(every, axis=0).max() / 2
    length = 10 * SCALE - thickness / 2  # from the center of the image to the center of the pen at the top
    for stroke in strokes:
        points = [tuple(point) for point in 14 * SCALE + (stroke - middle) / reach * length]
        pen.line(points, fill=shade, width=round(thickness), joint="curve")
        for x, y in (points[0], points[-1]):
            half = thickness / 2
            pen.ellipse([x - half, y - half, x + half, y + half], fill=shade)
    blurred = canvas.filter(ImageFilter.GaussianBlur(0.4 * SCALE))
    return np.asarray(blurred.resize((TUNED_SIZE, TUNED_SIZE), Image.Resampling.BOX))


def strokes(count: int, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Random handwritten digits: light, thin strokes, similar to MNIST."""
    height, width, channels = shape
    drawn = [draw_digit(digit, rng) for digit in rng.integers(10, size=count)]
    if (height, width) != (TUNED_SIZE, TUNED_SIZE):
        drawn = [np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC)) for one in drawn]
    return np.stack([np.stack(drawn)] * channels, axis=-1)


def noise(count: int, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Uniform noise: a random grey level for each pixel."""
    return rng.integers(256, size=(count, *shape), dtype=np.uint8)


def blank(count: int, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Images of one grey level each, from black to white in equal steps; `rng` is not used."""
    greys = np.rint(np.linspace(0, 255, count)).astype(np.uint8)
    return np.tile(greys[:, None, None, None], (1, *shape))


INPUTS: dict[str, Callable[[int, tuple[int, int, int], np.random.Generator], np.ndarray]] = {
    "strokes": strokes,
    "noise": noise,
    "blank": blank,
}


def draw_ood(name: str, count: int, shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """`count` images of the kind `name`, one of `INPUTS`, and of this shape: uint8 (count, H, W, C)."""
    return INPUTS[name](count, shape, np.random.default_rng(seed))


def detection(familiar: np.ndarray, ood: np.ndarray) -> dict[str, float]:
    """How well the confidence (highest probability) separates test images from OOD inputs.

    Source: Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples in neural
    networks" (2017).

    Args:
        familiar: Confidence in test images, (N,).
        ood: Confidence in OOD inputs, (M,).

    Returns:
        `auroc`: the probability that the confidence in a random test image is higher than in a random OOD input, where ties
        count half. 1 is perfect, 0.5 is chance; below 0.5 the confidence in OOD inputs is higher. `fpr_at_95`: the share of
        OOD inputs above the highest threshold that at least 95 % of the test images reach.
    """
    threshold = np.sort(familiar)[len(familiar) // 20]
    return {
        "auroc": auroc(ood, familiar),
        "fpr_at_95": float((ood >= threshold).mean()),
    }
