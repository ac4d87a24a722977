"""Pictures that are no clothing (out of distribution), drawn by the project itself: how sure of them is a model?

Each kind is a function of a count and of random numbers, and gives uint8 (count, 28, 28, 1), light on black.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SCALE = 4  # strokes are drawn at 112x112, then reduced to 28x28


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> list[tuple[float, float]]:
    """Points on an ellipse around (x, y) with these half-axes; degrees run clockwise from the right."""
    angles = np.deg2rad(np.linspace(start, end, 13))
    return list(zip(x + width * np.cos(angles), y + height * np.sin(angles), strict=True))


# The strokes of the digits 0-9 as points (x, y): x to the right, y down, -1 to 1 from top to bottom.
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
    """A digit as if written by hand, 20 pixels high and in the middle as in MNIST: uint8 (28, 28).

    Width, slant, turn, shape, the pen's thickness of 2 to 3 pixels and its shade vary.
    """
    canvas = Image.new("L", (28 * SCALE, 28 * SCALE))
    pen = ImageDraw.Draw(canvas)
    thickness, shade = rng.uniform(2, 3) * SCALE, int(rng.integers(200, 256))
    width, slant, turn = rng.normal(1, 0.12), rng.normal(0.15, 0.15), rng.normal(0, 0.1)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[width, -slant], [0, 1]]
    bends = rng.normal(0, 0.06, (2, 2))  # how far points move, in waves along x and y
    strokes = [np.array(stroke) for stroke in DIGITS[digit]]
    strokes = [(stroke + np.sin(3 * stroke[:, ::-1]) @ bends) @ matrix.T for stroke in strokes]
    every = np.concatenate(strokes)
    middle, reach = (every.max(axis=0) + every.min(axis=0)) / 2, np.ptp(every, axis=0).max() / 2
    length = 10 * SCALE - thickness / 2  # from the middle to the pen's own middle at the top
    for stroke in strokes:
        points = [tuple(point) for point in 14 * SCALE + (stroke - middle) / reach * length]
        pen.line(points, fill=shade, width=round(thickness), joint="curve")
        for x, y in (points[0], points[-1]):
            half = thickness / 2
            pen.ellipse([x - half, y - half, x + half, y + half], fill=shade)
    blurred = canvas.filter(ImageFilter.GaussianBlur(0.4 * SCALE))
    return np.asarray(blurred.resize((28, 28), Image.Resampling.BOX))


def strokes(count: int, rng: np.random.Generator) -> np.ndarray:
    """Random digits: light, thin strokes, like those of MNIST."""
    return np.stack([draw_digit(digit, rng) for digit in rng.integers(10, size=count)])[..., None]


def noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """Every pixel a random grey, all equally likely."""
    return rng.integers(256, size=(count, 28, 28, 1), dtype=np.uint8)


def blank(count: int, rng: np.random.Generator) -> np.ndarray:
    """Each of one grey throughout, from black to white in equal steps; nothing is random."""
    greys = np.rint(np.linspace(0, 255, count)).astype(np.uint8)
    return np.tile(greys[:, None, None, None], (1, 28, 28, 1))


INPUTS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "strokes": strokes,
    "noise": noise,
    "blank": blank,
}


def draw_unfamiliar(name: str, count: int, seed: int) -> np.ndarray:
    """`count` pictures of one of `INPUTS`, uint8 (count, 28, 28, 1): a function of `seed`."""
    return INPUTS[name](count, np.random.default_rng(seed))


def detection(familiar: np.ndarray, unfamiliar: np.ndarray) -> dict[str, float]:
    """How well the highest probability tells the two apart: familiar pictures should have the higher ones.

    Source: Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples in neural
    networks" (2017).

    Args:
        familiar: Highest probabilities of test pictures, (N,); unfamiliar: of unfamiliar ones, (M,).

    Returns:
        `auroc`: the chance that a familiar picture has the higher one of a pair, ties half: 1 is perfect, 0.5 no better
        than guessing, below that the unfamiliar ones have the higher ones; `fpr_at_95`: the share of unfamiliar pictures
        that pass the highest threshold which at least 95 % of the familiar ones pass.
    """
    from sklearn.metrics import roc_auc_score  # here: the report draws pictures alone, and loading it takes its time

    known = np.repeat([1, 0], [len(familiar), len(unfamiliar)])
    threshold = np.sort(familiar)[len(familiar) // 20]
    return {
        "auroc": float(roc_auc_score(known, np.concatenate([familiar, unfamiliar]))),
        "fpr_at_95": float((unfamiliar >= threshold).mean()),
    }
