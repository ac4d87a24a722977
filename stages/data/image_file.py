"""Read a photo from an image file of any common format. Only NumPy and Pillow are needed."""

import io
import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from stages.base.errors import InputError

WORKING_SIZE = 280  # pixels: larger photos are reduced to an edge of less than twice this, by area averaging
FORMATS = (  # of Pillow's, the most common ones first; none that runs another program
    "PNG", "JPEG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000", "ICO", "ICNS", "PCX", "SGI",
    "DDS", "PSD", "QOI", "SUN", "XBM", "XPM", "MSP", "TGA",
)  # fmt: skip
PHOTO_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".webp", ".tif",
    ".tiff", ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".mpo", ".ico", ".icns", ".pcx", ".sgi", ".rgb", ".bw",
    ".dds", ".psd", ".qoi", ".ras", ".xbm", ".xpm", ".msp", ".tga", ".jpx", ".apng",
)  # fmt: skip
HEIC = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
WHITES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))  # the highest grey levels of these numbers of bits
NEARLY_WHITE = 242  # of 255
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
ORIENTATION = 0x0112  # the EXIF tag


def files_in(folder: Path) -> list[Path]:
    """The files in a folder and in those inside it, in order, but no hidden ones. Links are followed, nowhere twice."""
    found, real = [], Path(os.path.realpath(folder))
    seen = {real, *real.parents}
    for place, folders, files in os.walk(folder, followlinks=True):
        inside = {Path(os.path.realpath(Path(place, one))): one for one in sorted(folders) if one[0] != "."}
        folders[:] = [one for path, one in inside.items() if path not in seen]
        seen.update(inside)
        found += [Path(place, one) for one in sorted(files) if one[0] != "."]
    return found


def read_photo(source: Path | str | bytes, seen: Counter | None = None) -> np.ndarray:
    """Read a photo from a file or from a file's content: upright, without transparency, not larger than needed.

    Takes PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF and PPM, of any color mode and depth; of several pages or images, the first.
    Transparent parts become white, or black if most of the visible parts would vanish on white.

    Args:
        source: The file, or its content.
        seen: If given, what is said of the file is counted here: whether it is grey, transparent, turned.

    Returns:
        uint8 (H, W, 3). The longer edge has at most 559 pixels.

    Raises:
        InputError: It cannot be read, is not an image, is truncated or damaged, or has more than `Image.MAX_IMAGE_PIXELS`.
    """
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror or error}.") from None
    if not content:
        raise InputError("it is empty (0 bytes).")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF data, for example
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if seen is not None:
                    seen["grey" if image.mode in GREY_MODES else "color"] += 1
                    seen["have transparent parts, which were put on white"] += image.has_transparency_data
                    seen["have more than 8 bits: white was taken for each from its own levels"] += image.mode[0] in "IF"
                    seen["were turned upright, as their EXIF data say"] += image.getexif().get(ORIENTATION, 1) != 1
                image.draft(None, (2 * WORKING_SIZE, 2 * WORKING_SIZE))  # JPEG: decode only as many pixels as needed
                ImageOps.exif_transpose(image, in_place=True)
                return without_transparency(reduce(image))
    except Image.UnidentifiedImageError:
        if content[4:12] in HEIC:
            raise InputError(
                "it is a HEIC photo, as iPhones take them: export it as JPEG (Photos: File, Export)."
            ) from None
        raise InputError("it is not an image: PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF and PPM can be read.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels: scale it down.") from None
    except Exception as error:  # of a damaged file, Pillow's decoders raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"it is truncated or damaged ({reason}): export or copy it again.") from None


def reduce(image: Image.Image) -> Image.Image:
    """The image in mode RGB or RGBA, reduced by a whole factor to a longer edge of less than 560 pixels."""
    mode = "RGBA" if image.has_transparency_data else "RGB"
    if image.mode.startswith("I;16"):
        image = image.convert("I")
    elif image.mode in ("1", "P", "PA") or "transparency" in image.info:  # whose values cannot be averaged
        image = image.convert(mode)
    image = image.reduce(max(1, max(image.size) // WORKING_SIZE))
    if image.mode in ("I", "F"):
        image = Image.fromarray(grey_levels(np.asarray(image)))
    return image.convert(mode)


def grey_levels(values: np.ndarray) -> np.ndarray:
    """Numbers of any range (H, W) as grey levels: uint8 (H, W).

    White is 1 for fractions, and for other numbers that of 8, 10, 12, 14 or 16 bits, the fewest for all, or the largest.
    """
    whites = (1, *WHITES) if values.dtype.kind == "f" else WHITES
    white = next((white for white in whites if values.max() <= white), values.max())
    return np.clip(np.rint(values / white * 255), 0, 255).astype(np.uint8)


def without_transparency(image: Image.Image) -> np.ndarray:
    """An image in mode RGB or RGBA on white or black: uint8 (H, W, 3)."""
    pixels = np.asarray(image)
    if image.mode == "RGB":
        return pixels
    color, opacity = pixels[..., :3].astype(np.float64), pixels[..., 3:] / 255
    visible = pixels[..., 3] > 127
    vanishes = visible.any() and (color[visible].min(axis=1) >= NEARLY_WHITE).mean() > 0.5
    return np.rint(color * opacity + (0 if vanishes else 255) * (1 - opacity)).astype(np.uint8)
