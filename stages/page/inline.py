"""Images and figures as data URLs, so that the page needs no other file."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

COLUMNS = 50  # images per row of the sheet
COLOURS = 64  # of each figure on the page; the files in `reports/figures` have more
NEARLY_WHITE = 250  # levels from here on
PHOTO_QUALITY = 50  # of WebP, 0 to 100: of a figure of photos
MAX_HUE_ERROR = 2  # levels, of the differences between red, green and blue
SHEET_QUALITY = {1: 25, 3: 75}  # of WebP, of the images of the page, by channels: it stores colors in less detail


def as_webp(image: Image.Image, **options: object) -> str:
    """An image as a WebP data URL."""
    buffer = io.BytesIO()
    image.save(buffer, format="webp", **options)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def inline(path: Path, in_colour: bool = False) -> str:
    """The PNG file of a figure as a data URL: `COLOURS` colours without loss or, of what needs more for photos, lossy."""
    with Image.open(path) as figure:
        every = figure.convert("RGB")
    few = every.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).convert("RGB")
    few = few.point(lambda level: 255 if level >= NEARLY_WHITE else level)  # the page is white
    if in_colour:
        apart = np.asarray(every, np.int16) - np.asarray(few, np.int16)
        if np.ptp(apart, axis=-1).mean() > MAX_HUE_ERROR:
            return as_webp(every, quality=PHOTO_QUALITY, method=4)
    return as_webp(few, lossless=True, quality=50)  # of the compression; more takes longer, for 1 % of the bytes


def sheet(images: np.ndarray) -> str:
    """Images (N, H, W, C) as one image with `COLUMNS` per row, as a data URL."""
    lines = -(-len(images) // COLUMNS)
    _, height, width, channels = images.shape
    padded = np.full((lines * COLUMNS, height, width, channels), 255, np.uint8)
    padded[: len(images)] = images
    pixels = padded.reshape(lines, COLUMNS, height, width, channels).swapaxes(1, 2)
    pixels = pixels.reshape(lines * height, COLUMNS * width, channels)
    shown = Image.fromarray(pixels[..., 0] if channels == 1 else pixels).convert("RGB")
    return as_webp(shown, quality=SHEET_QUALITY[channels], method=6)
