"""The publisher's file format, gzipped IDX: a strict reader and a writer.

IDX is big-endian: two zero bytes, a type byte (8 = unsigned byte), the number of dimensions, one 4-byte size per dimension,
then the data. Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from stages.common.cache import remedy
from stages.common.errors import InputError


def read_images(path: Path) -> np.ndarray:
    """The images in a file, uint8 (N, 28, 28). Raises `InputError` if the file is not valid or images have another size."""
    images = read_idx(path, dimensions=3)
    if images.shape[1:] != (28, 28):
        raise InputError(
            f"{path} holds images of {images.shape[1]}x{images.shape[2]} pixels, but 28x28 are expected. {remedy(path)}"
        )
    return images


def read_labels(path: Path) -> np.ndarray:
    """The labels in a file, uint8 (N,), 0-9. Raises `InputError` if the file is not valid or a label is above 9."""
    labels = read_idx(path, dimensions=1)
    wrong = np.flatnonzero(labels > 9)
    if len(wrong):
        raise InputError(
            f"{path} holds the label {labels[wrong[0]]} (item {wrong[0]}), but labels are 0 to 9. {remedy(path)}"
        )
    return labels


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in a gzipped IDX file, uint8 with `dimensions` axes. Raises `InputError` if the file is not valid."""
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Type `dvc repro fetch`.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not a whole gzip file ({error}). {remedy(path)}") from None
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise InputError(f"{path} ends after {len(content)} bytes, within its header of {header}. {remedy(path)}")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", content[:header])
    expected = 0x0800 + dimensions
    if magic != expected:
        other = {0x0801: " (that of a labels file)", 0x0803: " (that of an images file)"}.get(magic, "")
        raise InputError(
            f"{path} begins with the magic number {magic}{other}, but {expected} is expected. {remedy(path)}"
        )
    size = int(np.prod(shape, dtype=np.int64))
    if len(content) - header != size:
        raise InputError(
            f"{path} holds {len(content) - header} bytes of data, but its header promises {size} "
            f"({' x '.join(map(str, shape))}). {remedy(path)}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write unsigned bytes as a gzipped IDX file; the same array gives the same bytes."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), compresslevel=6, mtime=0))
