"""Images and figures as data URLs, so that the page needs no other file."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

COLUMNS = 50  # images per row of the sheet
COLOURS = 32  # of each figure on the page; the files in `reports/figures` have more
SHEET_QUALITY = 25  # of WebP, 0 to 100; the root mean square error within an article is 10 of 255 grey levels


def as_webp(image: Image.Image, **options: object) -> str:
    """An image as a WebP data URL."""
    buffer = io.BytesIO()
    image.save(buffer, format="webp", **options)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def inline(path: Path) -> str:
    """The PNG file of a figure as a data URL: compressed without loss, but reduced to `COLOURS` colours."""
    with Image.open(path) as figure:
        few = figure.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        return as_webp(few.convert("RGB"), lossless=True, quality=100)


def sheet(images: np.ndarray) -> str:
    """Images (N, 28, 28, 1) as one image with `COLUMNS` per row, dark clothing on white, as a data URL."""
    lines = -(-len(images) // COLUMNS)
    padded = np.zeros((lines * COLUMNS, 28, 28), np.uint8)
    padded[: len(images)] = images[..., 0]
    pixels = padded.reshape(lines, COLUMNS, 28, 28).transpose(0, 2, 1, 3).reshape(lines * 28, COLUMNS * 28)
    return as_webp(Image.fromarray(255 - pixels).convert("RGB"), quality=SHEET_QUALITY, method=6)
