"""IDX, the format of MNIST and of the sets made like it: a strict reader.

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


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in an IDX file, gzipped or not, uint8 with `dimensions` axes. Raises `Damaged` if the file is not valid."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
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
