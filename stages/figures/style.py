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


def tiled(rows: Sequence[np.ndarray], gap: int = 3) -> np.ndarray:
    """Rows of 28x28 images, each (K, 28, 28, 1), as one image with `gap` empty pixels between the images."""
    size = 28 + gap
    mosaic = np.zeros((len(rows) * size - gap, max(map(len, rows)) * size - gap))
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            mosaic[row * size : row * size + 28, column * size : column * size + 28] = image[..., 0]
    return mosaic


def show_mosaic(
    axes: Axes, mosaic: np.ndarray, row_names: Sequence[str], column_names: Sequence[str] = (), gap: int = 3
) -> None:
    """Show an image from `tiled`, pixels 0-255, as dark clothing on white, with names of rows and columns."""
    axes.imshow(mosaic, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axes.set_yticks([14 + (28 + gap) * row for row in range(len(row_names))], row_names)
    axes.set_xticks([14 + (28 + gap) * column for column in range(len(column_names))], column_names)
    axes.tick_params(length=0, labelsize=9, labelbottom=False, labeltop=True)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def model_colours(models: Sequence[str]) -> dict[str, str]:
    """The colour of each model, by its place in `models`: in the order of `params.yaml`, it is the same in every figure."""
    return {model: COLOURS[MODEL_ORDER[place % 10]] for place, model in enumerate(models)}
