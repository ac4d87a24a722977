"""Whatever bytes a file holds: a reader takes them or raises `InputError`. Hypothesis makes them up."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages import check
from stages.base.errors import InputError
from stages.data.idx import read_idx
from stages.data.image_file import read_photo
from stages.inference.photo import convert
from tests.conftest import ROOT
from tests.test_photo import FORMATS, shirt

settings.register_profile(
    "tests", max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("tests")

IMAGES = struct.pack(">4I", 2051, 2, 28, 28) + bytes(range(196)) * 8
IDX = [IMAGES, struct.pack(">2I", 2049, 3) + b"\0\1\2", gzip.compress(IMAGES), gzip.compress(IMAGES) + b"\0"]
PHOTOS = [write(shirt(size=(210, 250)).resize((42, 50))) for write in FORMATS.values()]
PARAMETERS = [(ROOT / "params.yaml").read_bytes(), b"a: &a [1, !!int x]\nb: {<<: *a}\n"]


def damaged(examples: list[bytes]) -> st.SearchStrategy[bytes]:
    """An example, cut and with some bytes replaced; or any bytes."""

    def damage(content: bytes, cut: int, changes: list[tuple[int, int]]) -> bytes:
        changed = bytearray(content[: len(content) - cut % (len(content) + 1)])
        for place, value in changes:
            if changed:
                changed[place % len(changed)] = value
        return bytes(changed)

    changes = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=8)
    cut = st.one_of(st.just(0), st.integers(0, 2**16))
    return st.builds(damage, st.sampled_from(examples), cut, changes) | st.binary()


def taken(read):
    """What `read()` returns; None if it raises `InputError`."""
    try:
        return read()
    except InputError:
        return None


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("made up") / "file"


@given(damaged(IDX))
def test_idx_files(path, content):
    for packed in (content, gzip.compress(content, 1)):
        path.write_bytes(packed)
        for axes in (3, 1):
            array = taken(lambda axes=axes: read_idx(path, axes))
            assert array is None or (array.dtype, array.ndim) == (np.uint8, axes)


@settings(max_examples=300)
@given(damaged(PHOTOS))
def test_photos(content):
    pixels = taken(lambda: read_photo(content))
    if pixels is not None:
        assert (pixels.dtype, max(pixels.shape) < 560) == (np.uint8, True)
        converted = taken(lambda: convert(pixels))
        assert converted is None or converted.pixels.shape == (28, 28, 1)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.datetimes(), st.binary(max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(LEAVES, inner, max_size=4), max_leaves=20
)
COMMITTED = yaml.safe_load(PARAMETERS[0])
SECTIONS = st.dictionaries(st.sampled_from([*COMMITTED, "other"]), VALUES, min_size=1, max_size=3)


@given(
    damaged(PARAMETERS)
    | SECTIONS.map(lambda sections: yaml.safe_dump(COMMITTED | sections, allow_unicode=True).encode())
)
def test_parameters(path, content):
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "PARAMETERS", path)
        found = taken(check.check)
    assert found is None or found == list(COMMITTED["models"])
