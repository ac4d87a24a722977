"""How every figure looks, and how it is saved."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from stages.dataset import notice
from stages.files import written_whole

# Ten colours that stay apart for colour-blind readers: Tol's "muted" scheme (Paul Tol, "Colour schemes", 2021), its pale
# grey darkened.
COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#666666",
)  # fmt: skip
RIGHT, WRONG, NEUTRAL = "#0072B2", "#D55E00", "#B8B8B8"  # blue and vermilion: Okabe and Ito's palette

matplotlib.rcdefaults()  # a matplotlibrc in the project's folder would count
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


def save(figure: Figure, path: Path, dataset: str) -> None:
    """Save as a PNG of at most 256 colours and close; names the data if it is not Fashion-MNIST."""
    if notice(dataset):
        figure.supxlabel(notice(dataset), color=WRONG, fontsize=8)
    figure.canvas.draw()  # once; `figure.savefig` would draw it a first time only to lay it out
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    plt.close(figure)
    picture = picture.quantize(256, dither=Image.Dither.NONE)
    with written_whole(path) as beside:
        picture.save(beside, optimize=True)


def tiled(rows: Sequence[np.ndarray], gap: int = 3) -> np.ndarray:
    """Rows of 28x28 pictures, each (K, 28, 28, 1), as one picture with `gap` empty pixels between them."""
    size = 28 + gap
    mosaic = np.zeros((len(rows) * size - gap, max(map(len, rows)) * size - gap))
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            mosaic[row * size : row * size + 28, column * size : column * size + 28] = picture[..., 0]
    return mosaic


def show_mosaic(
    axes: Axes, mosaic: np.ndarray, row_names: Sequence[str], column_names: Sequence[str] = (), gap: int = 3
) -> None:
    """A picture from `tiled`, pixels 0-255, as dark clothing on white, with names beside its rows and above its columns."""
    axes.imshow(mosaic, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axes.set_yticks([14 + (28 + gap) * row for row in range(len(row_names))], row_names)
    axes.set_xticks([14 + (28 + gap) * column for column in range(len(column_names))], column_names)
    axes.tick_params(length=0, labelsize=9, labelbottom=False, labeltop=True)
    axes.grid(False)
    axes.spines[:].set_visible(False)
