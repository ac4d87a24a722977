"""How every figure looks, and how it is saved."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.transforms import Bbox
from PIL import Image

from stages.base.files import atomic_write
from stages.base.runs import FASHION_MNIST

# Ten colours that colour-blind readers can distinguish: Tol's "muted" scheme (Paul Tol, "Colour schemes", 2021) with a
# darker grey.
COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#666666",
)  # fmt: skip
RIGHT, WRONG, NEUTRAL = "#0072B2", "#D55E00", "#B8B8B8"  # blue and vermilion: Okabe and Ito's palette

UNITS = 28  # in which the height of an image is counted
MAX_CLASSES = 20  # in one figure
MANY_COLOURS = 2**14  # of a figure: only photos have more
MAX_LETTERS = 20  # of a class's name in a figure; of longer ones, the beginning and the end
# Beside the font of matplotlib, those of other scripts that are installed.
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", "Arial Unicode MS")

MODEL_ORDER = (0, 6, 3, 4, 8, 1, 7, 9, 2, 5)  # of `COLOURS`, so that neighbours differ most

matplotlib.rcdefaults()  # a matplotlibrc in the project's folder would change the figures
plt.rcParams.update(
    {
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "font.family": [name for name in FONTS if name in fontManager.get_font_names()],
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
    few = image.quantize(256, dither=Image.Dither.NONE)
    if image.getcolors(MANY_COLOURS) is None:  # photos: dithered, these look as they are
        few = image.quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG)
    with atomic_write(path) as beside:
        few.save(beside)


def short(name: str, letters: int = MAX_LETTERS) -> str:
    """A name of at most so many letters, without those in the middle of a longer one. A dollar sign begins no formula."""
    name, end = name.replace(r"\$", "$"), letters // 3
    name = name if len(name) <= letters else f"{name[: letters - end - 1]}…{name[-end:]}"
    return name.replace("$", r"\$")


def figure_names(names: Sequence[str]) -> list[str]:
    """The names of the classes as figures show them: `short`, and `class 7` if the fonts lack a letter of the name."""
    known = set().union(*(get_font(findfont(font)).get_charmap() for font in plt.rcParams["font.family"]))
    spaced = [" ".join(name.split()) for name in names]
    return [short(name) if known.issuperset(map(ord, name)) else f"class {i}" for i, name in enumerate(spaced)]


def most_frequent(counts: np.ndarray, most: int = MAX_CLASSES) -> np.ndarray:
    """The `most` classes with the highest counts, or all, ascending; from the count of each class."""
    return np.sort(np.argsort(-counts, kind="stable")[:most])


def most_confused(values: np.ndarray, most: int = MAX_CLASSES) -> list[tuple[int, int]]:
    """The cells (row, column) off the diagonal with the highest positive values, (classes, classes); the highest first."""
    apart = values * ~np.eye(len(values), dtype=bool)
    order = np.argsort(-apart, axis=None, kind="stable")[: min(most, np.count_nonzero(apart > 0))]
    return [divmod(int(cell), len(values)) for cell in order]


def put_title(axes: Axes, title: str, inside: bool = False) -> None:
    """A title above the axes, `inside` them, or in as many lines as it needs above the whole figure."""
    if inside:
        axes.set_title(title)
    else:
        lines = textwrap.fill(title, int(12 * axes.figure.get_figwidth()))
        axes.figure.suptitle(lines, x=0.01, ha="left", fontsize=11)


def gap_of(size: int) -> int:
    """The empty pixels between images of a mosaic, from their height: 3 of `UNITS`."""
    return max(1, round(size * 3 / UNITS))


def tiled(rows: Sequence[np.ndarray], gap: int = 0) -> np.ndarray:
    """Rows of images of one size, each (K, H, W, C), as one image with `gap` (or `gap_of`) pixels between the images.

    Returns:
        (height, width, C), pixels 0-255; empty ones are white.
    """
    height, width, channels = rows[0].shape[1:]
    gap = gap or gap_of(height)
    down, right = height + gap, width + gap
    size = len(rows) * down - gap, max(map(len, rows)) * right - gap, channels
    mosaic = np.full(size, 255.0)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            mosaic[row * down : row * down + height, column * right : column * right + width] = image
    return mosaic


def as_shown(images: np.ndarray, dataset: str) -> np.ndarray:
    """Images as figures show them: of Fashion-MNIST, light clothing on black, the negatives; others as they are."""
    return 255 - images if dataset == FASHION_MNIST else images


def show_pixels(axes: Axes, image: np.ndarray, **options: object) -> None:
    """Show an image, (H, W, C), pixels 0-255."""
    pixels = image[..., 0] if image.shape[-1] == 1 else np.clip(np.rint(image), 0, 255).astype(np.uint8)
    options = {"interpolation": "nearest" if len(image) < 48 else "antialiased"} | options
    axes.imshow(pixels, **{"cmap": "gray", "vmin": 0, "vmax": 255} | options)


def show_mosaic(axes: Axes, rows: list[np.ndarray], row_names: Sequence[str] = (), columns: Sequence[str] = ()) -> None:
    """Show rows of images, each (K, H, W, C), with names of all rows and columns, or of none."""
    height, step = rows[0].shape[1], rows[0].shape[1] + gap_of(rows[0].shape[1])
    show_pixels(axes, tiled(rows), interpolation="nearest" if height < 48 else "antialiased")
    axes.set_yticks([height / 2 + step * place for place in range(len(row_names))], row_names)
    axes.set_xticks([height / 2 + step * place for place in range(len(columns))], columns)
    axes.tick_params(length=0, labelsize=9, labelbottom=False, labeltop=True)
    if max(map(len, columns), default=0) > 11:
        plt.setp(axes.get_xticklabels(), rotation=40, ha="left", rotation_mode="anchor")
    axes.grid(False)
    axes.spines[:].set_visible(False)


def bars(names: Sequence[str], values: Sequence[float], texts: Sequence[str], title: str, xlabel: str) -> Figure:
    """One bar per name, from the top, each with its text."""
    places, longest = range(len(names)), max(map(len, names), default=0)
    figure, axes = plt.subplots(figsize=(7 + 0.07 * max(0, longest - 12), (26 * len(names) + 80) / 100))
    axes.bar_label(axes.barh(places, values, color=RIGHT), texts, padding=3)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel(xlabel)
    axes.xaxis.get_major_locator().set_params(integer=True)
    put_title(axes, title, inside=longest < 12)
    return figure


def matrix(
    values: np.ndarray, texts: np.ndarray, dark: np.ndarray, names: Sequence[str], words: dict, **colours: object
) -> Figure:
    """A matrix of classes. Of more than `MAX_CLASSES`, bars of its highest values off the diagonal.

    Args:
        values: (classes, classes), shown as colours, with the options `colours` of `imshow`.
        texts: Of the cells, (classes, classes).
        dark: Which texts are white, (classes, classes).
        names: Of the classes.
        words: title, or the title of `bars`; xlabel, ylabel and the `label` of the values.
    """
    count = len(names)
    if count > MAX_CLASSES:
        pairs = most_confused(values)
        shown = [f"{names[row]} → {names[column]}" for row, column in pairs]
        found = [values[pair] for pair in pairs], [texts[pair] for pair in pairs]
        return bars(shown, *found, words["bars"], words["label"])
    more, fewer = max(0, count - 10), max(0, 10 - count)
    figure, axes = plt.subplots(figsize=(7.2 + 0.3 * more, 6.2 + 0.3 * more - 0.2 * fewer))
    image = axes.imshow(values, **colours)
    axes.set_xticks(range(count), names, rotation=40, ha="right")
    axes.set_yticks(range(count), names)
    axes.grid(False)
    style = {"ha": "center", "va": "center", "fontsize": np.clip(90 / count, 7, 14)}
    for row, column in np.ndindex(texts.shape):
        axes.text(column, row, texts[row, column], color="white" if dark[row, column] else "black", **style)
    axes.set(xlabel=words["xlabel"], ylabel=words["ylabel"])
    put_title(axes, words["title"], inside=count > 7 and max(map(len, names)) < 12)
    figure.colorbar(image, shrink=0.8, label=words["label"])
    return figure


def scatter_classes(
    axes: Axes, points: np.ndarray, labels: np.ndarray, names: Sequence[str], size: float, lw: float, **options: object
) -> None:
    """Points, (N, 2), in the colours of their classes, (N,), with the name of each class near their median.

    Of more than `MAX_CLASSES` classes, the ten most frequent ones have names and colours, the others are grey. Of fewer,
    all but ten are triangles. A name moves up or down until it covers no other.

    `size` is that of the names, and `lw` the width of the lines around them.
    """
    most = MAX_CLASSES if len(names) <= MAX_CLASSES else len(COLOURS)
    shown, place = most_frequent(np.bincount(labels, minlength=len(names)), most), np.full(len(names), -1)
    place[shown] = range(len(shown))
    colours = np.array([NEUTRAL if number < 0 else class_colour(number) for number in place])
    for part, marker in ((place < 0, "."), ((place >= 0) & (place < 10), "o"), (place >= 10, "^")):
        if (chosen := part[labels]).any():
            label = f"the other {part.sum()} classes" if marker == "." else None
            of_labels = list(colours[labels[chosen]])
            axes.scatter(*points[chosen].T, linewidths=0, c=of_labels, marker=marker, label=label, **options)
    if (place < 0).any():
        axes.legend(loc="best")
    axes.autoscale_view()  # for the places of the names
    taken: list[Bbox] = []
    for label in shown[np.isin(shown, labels)]:
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": colours[label], "alpha": 0.85, "lw": lw}
        middle = np.median(points[labels == label], axis=0)
        name = axes.text(*middle, names[label], ha="center", va="center", fontsize=size, bbox=box)
        first = found = name.get_window_extent().padded(2)
        step = 0
        while any(map(found.overlaps, taken)):
            step += 1
            found = first.translated(0, (-1) ** step * (step + 1) // 2 * first.height / 2)
            name.set_position(axes.transData.inverted().transform((found.min + found.max) / 2))
        taken.append(found)


def model_colours(models: Sequence[str]) -> dict[str, str]:
    """The colour of each model, by its place in `models`: in the order of `params.yaml`, it is the same in every figure."""
    return {model: COLOURS[MODEL_ORDER[place % 10]] for place, model in enumerate(models)}


def class_colour(label: int) -> str:
    """The colour of a class, by its number; of more than ten classes, some share one."""
    return COLOURS[label % len(COLOURS)]
