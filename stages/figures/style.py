"""How every figure looks, and how it is saved."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from stages.base.files import atomic_write

# Ten colours that colour-blind readers can distinguish: Tol's "muted" scheme (Paul Tol, "Colour schemes", 2021) with a
# darker grey.
COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#666666",
)  # fmt: skip
RIGHT, WRONG, NEUTRAL = "#0072B2", "#D55E00", "#B8B8B8"  # blue and vermilion: Okabe and Ito's palette

GAP = 3  # empty pixels between the images of a mosaic

MODEL_ORDER = (0, 6, 3, 4, 8, 1, 7, 9, 2, 5)  # of `COLOURS`, so that neighbours differ most

matplotlib.rcdefaults()  # a matplotlibrc in the project's folder would change the figures
plt.rcParams.update(
    {
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#E6E6E6",
        "axes.axisbelow": True,
        "legend.frameon": False,
    }
)


def save(figure: Figure, path: Path) -> None:
    """Save as a PNG of at most 256 colours, and close."""
    figure.canvas.draw()  # `figure.savefig` would draw twice, the first time for the layout
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    plt.close(figure)
    image = image.quantize(256, dither=Image.Dither.NONE)
    with atomic_write(path) as beside:
        image.save(beside, optimize=True)


def tiled(rows: Sequence[np.ndarray], gap: int = GAP) -> np.ndarray:
    """Rows of images of one size, each (K, H, W, C), as one image with `gap` empty pixels between the images.

    Returns:
        (height, width, C), pixels 0-255; empty pixels look white: see `show_pixels`.
    """
    height, width, channels = rows[0].shape[1:]
    down, right = height + gap, width + gap
    size = len(rows) * down - gap, max(map(len, rows)) * right - gap, channels
    mosaic = np.full(size, 0.0 if channels == 1 else 255.0)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            mosaic[row * down : row * down + height, column * right : column * right + width] = image
    return mosaic


def show_pixels(axes: Axes, image: np.ndarray, **options: object) -> None:
    """Show an image, (H, W, C), pixels 0-255: grey ones from white for 0 to black, RGB in their colours."""
    pixels = image[..., 0] if image.shape[-1] == 1 else np.clip(np.rint(image), 0, 255).astype(np.uint8)
    axes.imshow(pixels, **{"cmap": "gray_r", "vmin": 0, "vmax": 255, "interpolation": "nearest"} | options)


def show_mosaic(axes: Axes, mosaic: np.ndarray, row_names: Sequence[str], column_names: Sequence[str] = ()) -> None:
    """Show an image from `tiled` with names of all its rows and columns, or of none."""
    show_pixels(axes, mosaic)
    (height, width), rows, columns = mosaic.shape[:2], len(row_names), len(column_names)
    axes.set_yticks(middles(height, rows), row_names)
    axes.set_xticks(middles(width, columns), column_names)
    axes.tick_params(length=0, labelsize=9, labelbottom=False, labeltop=True)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def middles(length: int, count: int) -> list[float]:
    """The middles of `count` images side by side on `length` pixels of a mosaic."""
    step = (length + GAP) / max(1, count)
    return [(step - GAP) / 2 + step * place for place in range(count)]


def model_colours(models: Sequence[str]) -> dict[str, str]:
    """The colour of each model, by its place in `models`: in the order of `params.yaml`, it is the same in every figure."""
    return {model: COLOURS[MODEL_ORDER[place % 10]] for place, model in enumerate(models)}


def class_colour(label: int) -> str:
    """The colour of a class, by its number; of more than ten classes, some share one."""
    return COLOURS[label % len(COLOURS)]
