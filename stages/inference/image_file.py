"""Read a photo from an image file of any common format. Only NumPy and Pillow are needed."""

import io
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from stages.common.backend import silent
from stages.common.errors import InputError

WORKING_SIZE = 280  # pixels: larger photos are reduced to an edge of less than twice this, by area averaging
MOST_PIXELS = 51_000_000  # of a file, as phones take them (50 megapixels are 8160 x 6144); a test measures the memory
MOST_PIXELS_OF_WEBP = 20_000_000  # which takes more memory per pixel
MOST_BYTES = 200_000_000
# Pillow decodes these in Python, not in C: a million pixels take seconds, as do so many bytes of comments or line ends.
MOST_PIXELS_IN_PYTHON = 1_000_000
MOST_BYTES_IN_PYTHON = {"bmp_rle": 10_000_000, "ppm": 10_000_000, "ppm_plain": 500_000}
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "AVIF")  # the most common ones are tried first
ONE_AT_A_TIME = threading.Lock()
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")
NEARLY_WHITE = 242  # of 255
ROTATIONS = {  # EXIF orientation -> what makes the photo upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_photo(source: Path | str | bytes) -> np.ndarray:
    """Read a photo from a file or from a file's content: upright, without transparency, not larger than needed.

    Takes PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF and PPM, of any color mode and depth; of several pages or images, the first.
    Transparent parts become white, or black if most of the visible parts would vanish on white.

    Returns:
        uint8 (H, W, 3). The longer edge has at most 559 pixels.

    Raises:
        InputError: It is not an image, or empty, truncated or damaged, or has more than 51 million pixels (WebP: 20).
    """
    content = source if isinstance(source, bytes) else read_bytes(Path(source))
    if not content:
        raise InputError("it is empty (0 bytes).")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused below, and of damaged EXIF data
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                most = MOST_PIXELS_OF_WEBP if image.format == "WEBP" else MOST_PIXELS
                if width * height > most:
                    raise InputError(
                        f"it has {width:,} x {height:,} pixels, but may have {most // 10**6} million: scale it down."
                    )
                refuse_slow(image, len(content))
                orientation = orientation_of(image)
                image.draft(None, (2 * WORKING_SIZE, 2 * WORKING_SIZE))  # JPEG: decode only as many pixels as needed
                pixels = flatten(decode(image))
        except Image.UnidentifiedImageError:
            raise InputError(what_it_is(content)) from None
        except Image.DecompressionBombError:
            raise InputError(f"it has more than {MOST_PIXELS // 10**6} million pixels: scale it down.") from None
        except InputError:
            raise
        except MemoryError:
            raise InputError("there is not enough memory to decode it: scale it down.") from None
        except Exception as error:  # of a damaged file, Pillow's decoders raise nearly anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"it is truncated or damaged ({reason}): export or copy it again.") from None
    upright = Image.fromarray(pixels)
    return np.asarray(upright.transpose(ROTATIONS[orientation]) if orientation in ROTATIONS else upright)


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises `InputError` if it cannot be read or is too large."""
    try:
        if path.exists() and not path.is_file():
            raise InputError("it is not a file with content, but a folder, a pipe or a device.")
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"it has {path.stat().st_size:,} bytes, but may have {MOST_BYTES:,}.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror or error}.") from None


def refuse_slow(image: Image.Image, size: int) -> None:
    """Raise `InputError` if Pillow decodes an image in Python, and it has many pixels or, in its file, bytes."""
    most = MOST_BYTES_IN_PYTHON.get(image.tile[0][0]) if image.tile else None
    if most and (size > most or image.width * image.height > MOST_PIXELS_IN_PYTHON):
        raise InputError(
            f"it has {image.width:,} x {image.height:,} pixels in {size:,} bytes, but a BMP with run-length encoding, or a "
            f"PPM of text or of other than 256 levels, may have 1 million in {most:,}: export it as PNG."
        )


def what_it_is(content: bytes) -> str:
    """A sentence on a file that Pillow does not know."""
    if content[4:12] in HEIC:
        return "it is a HEIC photo, as iPhones take them: export it as JPEG (Photos: File, Export)."
    if content.lstrip()[:5].lower() in (b"<?xml", b"<svg "):
        return "it is not an image of pixels, but XML or SVG: export it as PNG."
    return "it is not an image: PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF and PPM can be read."


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, if there is none or the EXIF data are damaged."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # Pillow raises nearly anything
        return 1


def decode(image: Image.Image) -> Image.Image:
    """The image in mode RGB or RGBA, 8 bits per channel, reduced to a longer edge of less than 560 pixels.

    It is reduced by a whole factor, by area averaging, and before it is converted wherever that saves memory.
    """
    if image.format == "TIFF":
        with ONE_AT_A_TIME, silent(even_on_errors=True):  # libtiff prints messages
            image.load()
    transparent = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    if image.mode.startswith("I;16"):
        image = Image.fromarray(eight_bits(np.asarray(image)))
    elif image.mode in ("1", "P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA" if transparent else "RGB")
    factor = max(image.size) // WORKING_SIZE
    if factor > 1:
        image = image.reduce((min(factor, image.width), min(factor, image.height)))
    if image.mode in ("I", "F"):
        image = Image.fromarray(grey_levels(np.asarray(image)))
    return image if image.mode in ("RGB", "RGBA") else image.convert("RGB")


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Whole numbers (H, W) as grey levels: uint8 (H, W). White is that of 8, 10, 12, 14 or 16 bits, the fewest for all."""
    needed = int(values.max()).bit_length()
    return (values >> (next(bits for bits in (8, 10, 12, 14, 16) if bits >= needed) - 8)).astype(np.uint8)


def grey_levels(values: np.ndarray) -> np.ndarray:
    """Numbers of any range (H, W), as scientific cameras write them, as grey levels: uint8 (H, W).

    Whole numbers up to 255 are grey levels; up to 65,535 they have 16 bits. Fractions up to 1 are shares of white.
    """
    tops = (1, 255, 65535) if values.dtype.kind == "f" else (255, 65535)
    values = np.nan_to_num(values.astype(np.float64), nan=0, posinf=0, neginf=0)
    top = next((top for top in tops if values.max() <= top), values.max())
    return np.clip(np.rint(values / top * 255), 0, 255).astype(np.uint8)


def flatten(image: Image.Image) -> np.ndarray:
    """An image in mode RGB or RGBA without transparency: uint8 (H, W, 3)."""
    pixels = np.asarray(image)
    if image.mode == "RGB":
        return pixels
    color, opacity = pixels[..., :3].astype(np.float64), pixels[..., 3:] / 255
    visible = pixels[..., 3] > 127
    vanishes = visible.any() and (color[visible].min(axis=1) >= NEARLY_WHITE).mean() > 0.5
    return np.rint(color * opacity + (0 if vanishes else 255) * (1 - opacity)).astype(np.uint8)
