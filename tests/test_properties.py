"""Whatever bytes a file holds: a reader takes them or raises `InputError`, in little time. Hypothesis makes them up."""

import gzip
import struct

import numpy as np
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.data.idx import read_images, write_idx
from tests import fuzz
from tests.conftest import ROOT

settings.register_profile(
    "tests", max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("tests")

SIZES = st.one_of(st.integers(0, 30), st.sampled_from([784, 2**16, 2**31, 2**32 - 1]))


def damaged(examples: list[bytes]) -> st.SearchStrategy[bytes]:
    """An example, cut and with some bytes replaced; or any bytes."""

    def damage(content: bytes, cut: int, changes: list[tuple[int, int]]) -> bytes:
        changed = bytearray(content[: len(content) - cut % (len(content) + 1)])
        for place, value in changes:
            if changed:
                changed[place % len(changed)] = value
        return bytes(changed)

    changes = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=8)
    return (
        st.builds(damage, st.sampled_from(examples), st.one_of(st.just(0), st.integers(0, 2**16)), changes)
        | st.binary()
    )


@given(damaged(fuzz.examples("idx")))
def test_damaged_idx_files(content):
    fuzz.idx(content)


@given(st.sampled_from([2049, 2051, 2052]), st.lists(SIZES, min_size=1, max_size=3), st.binary(max_size=900))
def test_idx_files_of_any_shape(magic, shape, data):
    fuzz.idx(struct.pack(f">{1 + len(shape)}I", magic, *shape) + data)


@given(st.integers(1, 5), st.integers(0, 255), st.binary(max_size=5))
def test_images_come_back_and_not_with_bytes_behind_them(tmp_path_factory, count, level, behind):
    path = tmp_path_factory.getbasetemp() / "images.gz"
    images = np.full((count, 28, 28), level, np.uint8)
    write_idx(path, images)
    assert (read_images(path) == images).all()
    fuzz.idx(path.read_bytes() + behind)
    fuzz.idx(gzip.decompress(path.read_bytes()) + behind)


@given(damaged(fuzz.examples("photo")))
def test_damaged_photos(content):
    fuzz.photo(content)


@given(damaged(fuzz.examples("parameters")))
def test_damaged_parameters(content):
    fuzz.parameters(content)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.datetimes(), st.binary(max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(LEAVES, inner, max_size=4), max_leaves=20
)
SECTIONS = st.sampled_from(sorted({"fetch", "seeds", "defaults", "models", "audit", "statistics", "dataset", "other"}))


@settings(max_examples=50)
@given(st.dictionaries(SECTIONS, VALUES, min_size=1, max_size=3))
def test_parameters_with_any_values(sections):
    committed = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    fuzz.parameters(yaml.safe_dump(committed | sections, allow_unicode=True).encode())


@given(
    st.sampled_from(["int", "float", "bool", "null", "timestamp", "binary", "set", "omap", "merge", "str"]), st.text()
)
def test_tags_with_any_values(tag, value):
    fuzz.parameters(f"seeds: !!{tag} {value}".encode("utf-8", "replace"))
    fuzz.parameters(f"!!{tag} {value}: 1".encode("utf-8", "replace"))
