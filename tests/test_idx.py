"""Reading the publisher's format: what is right is read, everything else is refused with a sentence."""

import gzip
import struct

import numpy as np
import pytest

from stages.common.errors import InputError
from stages.data.idx import read_images, read_labels, write_idx

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
            r"holds 2353 bytes of data, but its header promises 2352",
        ),
        (packed(2051, (3, 32, 32), bytes(3 * 1024)), "32x32 pixels, but 28x28 are expected"),
        (gzip.compress(b"\0\0"), "ends after 2 bytes, within its header"),
    ],
    ids=["no gzip", "truncated", "corrupt", "labels", "magic", "short", "trailing", "dimensions", "header"],
)
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
