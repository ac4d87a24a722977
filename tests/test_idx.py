"""Reading the publisher's format: what is right is read, everything else is refused with a sentence."""

import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest

from stages.common.errors import InputError
from stages.data.idx import read_images, read_labels, write_idx
from stages.data.publisher import refuse_unless_published

IMAGES = np.arange(3 * 784, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([0, 9, 4], np.uint8)


def test_written_arrays_come_back(tmp_path):
    write_idx(tmp_path / "images.gz", IMAGES)
    write_idx(tmp_path / "labels.gz", LABELS)
    assert np.array_equal(read_images(tmp_path / "images.gz"), IMAGES)
    assert np.array_equal(read_labels(tmp_path / "labels.gz"), LABELS)


def test_the_same_array_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_idx(tmp_path / name, IMAGES)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def packed(magic: int, shape: tuple[int, ...], data: bytes) -> bytes:
    return gzip.compress(struct.pack(f">{1 + len(shape)}I", magic, *shape) + data)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"not gzip at all", "not a whole gzip file"),
        (packed(2051, (3, 28, 28), IMAGES.tobytes())[:-20], "not a whole gzip file"),
        (packed(2051, (3, 28, 28), IMAGES.tobytes())[:100] + b"\0" * 50, "not a whole gzip file"),
        (
            packed(2049, (3,), LABELS.tobytes()) + b"",
            r"ends after 11 bytes|magic number 2049 \(that of a labels file\)",
        ),
        (packed(2052, (3, 28, 28), IMAGES.tobytes()), "magic number 2052, but 2051 is expected"),
        (packed(2051, (3, 28, 28), IMAGES.tobytes()[:-1]), r"holds 2351 bytes of data, but its header promises 2352"),
        (
            packed(2051, (3, 28, 28), IMAGES.tobytes() + b"\0"),
            r"holds more than 2352 bytes of data, but its header promises 2352",
        ),
        (packed(2051, (3, 32, 32), bytes(3 * 1024)), "32x32 pixels, but 28x28 are expected"),
        (gzip.compress(b"\0\0"), "ends after 2 bytes, within its header"),
        (packed(2051, (3, 28, 28), IMAGES.tobytes()) + b"more", r"not a whole gzip file \(other bytes follow\)"),
        (packed(2051, (0, 28, 28), b""), "promises 0 bytes of data"),
        (packed(2051, (2**31, 2**31, 4), b""), "promises 18,446,744,073,709,551,616 bytes of data .*, but may hold 1 to"),
        (packed(2051, (2**32 - 1,) * 3, b""), "but may hold 1 to 100,000,000"),
        (b"", "not a whole gzip file"),
    ],
    ids=[
        "no gzip", "truncated", "corrupt", "labels", "magic", "short", "trailing", "dimensions", "header", "followed",
        "no items", "2**64 items", "most items", "empty",
    ],
)  # fmt: skip
def test_bad_image_files_are_refused(tmp_path, content, sentence):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as error:
        read_images(path)
    assert str(path) in str(error.value)
    assert str(error.value).endswith(f"Type `rm -f {path}`, then `dvc repro`.")


def test_images_are_not_taken_for_labels(tmp_path):
    write_idx(tmp_path / "images.gz", IMAGES)
    with pytest.raises(InputError, match=r"magic number 2051 \(that of an images file\), but 2049 is expected"):
        read_labels(tmp_path / "images.gz")


def test_label_ten_is_refused_by_place(tmp_path):
    write_idx(tmp_path / "labels.gz", np.array([1, 10], np.uint8))
    with pytest.raises(InputError, match=r"the label 10 \(item 1\), but labels are 0 to 9"):
        read_labels(tmp_path / "labels.gz")


def test_a_missing_file_says_what_to_type(tmp_path):
    with pytest.raises(InputError, match=r"is missing\. Type `dvc repro fetch`"):
        read_labels(tmp_path / "labels.gz")


@pytest.mark.fault(
    "A gzip file of a few kilobytes unpacks to gigabytes, which fill the memory.",
    "No more is unpacked than its header promises, and a header may promise 100 MB.",
)
@pytest.mark.parametrize("shape", [(3, 28, 28), (300_000, 28, 28)])
def test_no_more_is_unpacked_than_a_header_may_promise(tmp_path, shape):
    path = tmp_path / "images.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(struct.pack(">4I", 2051, *shape))
        for _ in range(16):
            file.write(bytes(2**24))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"holds more than 2352 bytes|promises 235,200,000 bytes"):
            read_images(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_what_is_no_file_with_content_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.gz")
    for path in (tmp_path / "pipe.gz", tmp_path):
        with pytest.raises(InputError, match="is not a file with content, but a folder, a pipe or a device"):
            read_labels(path)


def test_a_file_larger_than_any_that_is_right_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    with path.open("wb") as file:
        file.truncate(2**37)  # sparse: it takes no space
    with pytest.raises(InputError, match=r"has 137,438,953,472 bytes, but may have 100,000,000"):
        read_labels(path)
    with pytest.raises(InputError, match=r"it has 137,438,953,472 bytes, but the largest .* has 26,421,880"):
        refuse_unless_published(path, path.name)
