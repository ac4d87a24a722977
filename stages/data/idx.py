"""The publisher's file format, gzipped IDX: a strict reader and a writer.

IDX is big-endian: two zero bytes, a type byte (8 = unsigned byte), the number of dimensions, one 4-byte size per dimension,
then the data. Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from stages.common.cache import remedy
from stages.common.errors import InputError

MOST_BYTES = 100_000_000  # packed, and unpacked; the publisher's largest file unpacks to 47,040,016


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
    """The array in a gzipped IDX file, uint8 with `dimensions` axes. Raises `InputError` if the file is not valid.

    No more is unpacked than the header promises, and a header may promise `MOST_BYTES`.
    """
    packed = read_packed(path)
    header = 4 + 4 * dimensions
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # of gzip
    try:
        head = unpacker.decompress(packed, header)
        if len(head) < header and unpacker.eof:
            raise InputError(f"{path} ends after {len(head)} bytes, within its header of {header}. {remedy(path)}")
        size, shape = promised(path, head, dimensions) if len(head) == header else (0, [])
        data = unpacker.decompress(unpacker.unconsumed_tail, size + 1)
    except zlib.error as error:
        raise InputError(f"{path} is not a whole gzip file ({error}). {remedy(path)}") from None
    if len(data) > size or (unpacker.eof and len(data) < size):
        more = "more than " if len(data) > size else ""
        raise InputError(
            f"{path} holds {more}{min(len(data), size)} bytes of data, but its header promises {size} "
            f"({' x '.join(map(str, shape))}). {remedy(path)}"
        )
    if not unpacker.eof or unpacker.unused_data:
        reason = "other bytes follow" if unpacker.eof else "its end is missing"
        raise InputError(f"{path} is not a whole gzip file ({reason}). {remedy(path)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_packed(path: Path) -> bytes:
    """The content of a file. Raises `InputError` if there is no file, or it has more than `MOST_BYTES`."""
    if not path.exists():
        raise InputError(f"{path} is missing. Type `dvc repro fetch`.")
    if not path.is_file():
        raise InputError(
            f"{path} is not a file with content, but a folder, a pipe or a device. Move it away, then type `dvc repro`."
        )
    if (size := path.stat().st_size) > MOST_BYTES:
        raise InputError(f"{path} has {size:,} bytes, but may have {MOST_BYTES:,}. {remedy(path)}")
    return path.read_bytes()


def promised(path: Path, head: bytes, dimensions: int) -> tuple[int, list[int]]:
    """The number of bytes of data that a header promises, and their shape. Raises `InputError` if it is not valid."""
    magic, *shape = struct.unpack(f">{1 + dimensions}I", head)
    expected = 0x0800 + dimensions
    if magic != expected:
        other = {0x0801: " (that of a labels file)", 0x0803: " (that of an images file)"}.get(magic, "")
        raise InputError(
            f"{path} begins with the magic number {magic}{other}, but {expected} is expected. {remedy(path)}"
        )
    size = math.prod(shape)
    if not 0 < size <= MOST_BYTES:
        raise InputError(
            f"{path} promises {size:,} bytes of data ({' x '.join(map(str, shape))}), but may hold 1 to {MOST_BYTES:,}. "
            f"{remedy(path)}"
        )
    return size, shape


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write unsigned bytes as a gzipped IDX file; the same array gives the same bytes."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), compresslevel=6, mtime=0))
