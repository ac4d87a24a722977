"""The publisher's file format, gzipped IDX: a strict reader.

IDX is big-endian: two zero bytes, a type byte (8 = unsigned byte), the number of dimensions, one 4-byte size per dimension,
then the data. Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from stages.base.errors import Damaged


def read_images(path: Path) -> np.ndarray:
    """The images in a file, uint8 (N, 28, 28). Raises `Damaged` if the file is not valid or images have another size."""
    images = read_idx(path, dimensions=3)
    if images.shape[1:] != (28, 28):
        raise Damaged(path, f"it holds images of {images.shape[1]}x{images.shape[2]} pixels, but 28x28 are expected")
    return images


def read_labels(path: Path) -> np.ndarray:
    """The labels in a file, uint8 (N,), 0-9. Raises `Damaged` if the file is not valid or a label is above 9."""
    labels = read_idx(path, dimensions=1)
    wrong = np.flatnonzero(labels > 9)
    if len(wrong):
        raise Damaged(path, f"it holds the label {labels[wrong[0]]} (item {wrong[0]}), but labels are 0 to 9")
    return labels


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in a gzipped IDX file, uint8 with `dimensions` axes. Raises `Damaged` if the file is not valid."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Damaged(path, f"it is not a whole gzip file ({error})") from None
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise Damaged(path, f"it ends after {len(content)} bytes, within its header of {header}")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", content[:header])
    expected = 0x0800 + dimensions
    if magic != expected:
        other = {0x0801: " (that of a labels file)", 0x0803: " (that of an images file)"}.get(magic, "")
        raise Damaged(path, f"it begins with the magic number {magic}{other}, but {expected} is expected")
    size, found = math.prod(shape), len(content) - header
    if found != size or not size:
        sizes = " x ".join(map(str, shape))
        raise Damaged(path, f"it holds {found} bytes of data, but its header says {size} ({sizes})")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
