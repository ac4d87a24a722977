"""The figure of a photo: what each step of its conversion made of it, and the class probabilities."""

import textwrap
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from stages.figures.style import NEUTRAL, RIGHT, WRONG, figure_names, most_frequent, save

CLASSES = 12  # with bars, the most probable ones
STEPS = 6  # places for images in the upper row


def save_conversion(steps: dict[str, np.ndarray], pixels: np.ndarray, result: dict, name: str, path: Path) -> None:
    """Draw a converted photo and its classification, and save it.

    Args:
        steps: Of a `Conversion`: the photo first, uint8 (H, W, 3) or (H, W).
        pixels: The input of the model, uint8 (H, W, C).
        result: `probabilities` by class, `class`, `probability` and `warnings`.
        name: The name of the photo.
        path: Of the PNG.
    """
    shown = [*list(steps.items())[:-1], ("what the model sees", pixels[..., 0] if pixels.shape[-1] == 1 else pixels)]
    figure = plt.figure(figsize=(9, 5.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.45))
    for axes in above.subplots(1, STEPS).flat:
        axes.axis("off")
    for axes, (step, image) in zip(above.axes, shown, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        half, (height, width) = max(image.shape[:2]) / 2, image.shape[:2]
        x, y = width / 2 - 0.5, height / 2 - 0.5  # the center
        axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
        axes.set_title(step, fontsize=9, loc="center")
    axes = below.subplots()
    named, every = figure_names(list(result["probabilities"])), np.array(list(result["probabilities"].values()))
    classes = most_frequent(every, CLASSES)
    values = every[classes]
    bars = axes.barh(range(len(classes)), values, color=np.where(values == values.max(), RIGHT, NEUTRAL))
    axes.set_yticks(range(len(classes)), [named[label] for label in classes])
    axes.bar_label(bars, [f"{100 * value:.1f} %" for value in values], padding=3, fontsize=9)
    axes.set_xlim(0, 1.1)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    axes.invert_yaxis()
    which = "each class" if len(classes) == len(every) else f"the {CLASSES} most probable classes"
    axes.set_title(f"Calibrated probability of {which}", fontsize=10)
    shown_name = "".join(letter if letter.isprintable() else "?" for letter in name)
    figure.suptitle(f"{shown_name}: {result['class']}, {100 * result['probability']:.1f} %", parse_math=False)
    notes = "\n".join(textwrap.fill(f"Warning: {note}.", 130) for note in result["warnings"])
    if notes:
        below.supxlabel(notes, color=WRONG, fontsize=8.5, ha="left", x=0.02)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter of the name that the font lacks is drawn as a box
        save(figure, path)
