"""The publisher's files are verified and read strictly; the split is stratified, seeded, complete, and as recorded."""

import gzip
import hashlib
import itertools
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages import prepare
from stages.base.errors import Damaged, InputError
from stages.base.files import write_json
from stages.data.idx import read_images, read_labels
from stages.data.publisher import CLASS_NAMES, PUBLISHED, RAW, refuse_unless_published
from stages.parameters.prepare import Prepare
from tests.conftest import ROOT, write_idx

LABELS = np.random.default_rng(0).permutation(np.arange(600) % 10).astype(np.uint8)
IMAGES = np.arange(3 * 784, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)


@pytest.mark.parametrize("size", [1, 7, 59])
def test_every_class_gives_as_many_to_validation_and_nothing_is_lost_or_in_both(size):
    train, val = prepare.split(LABELS, size, seed=1)
    assert np.bincount(LABELS[val]).tolist() == [size] * 10
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(600))
    assert np.array_equal(val, prepare.split(LABELS, size, seed=1)[1])
    assert not np.array_equal(val, prepare.split(LABELS, size, seed=2)[1])


@pytest.mark.parametrize("size", [0, 60])
def test_a_validation_set_of_nothing_or_everything_is_refused(size):
    with pytest.raises(InputError, match=rf"val_per_class is {size}, but class 0 .* has 60 .* from 1 to 59"):
        prepare.split(LABELS, size, seed=0)


def test_images_keep_their_labels_and_the_summary_tells_splits_apart(images):
    images, labels = images
    made = [
        prepare.prepare(images, labels, images[:50], labels[:50], Prepare(val_per_class=5, seed=seed))
        for seed in (0, 0, 1)
    ]
    parts, summary = made[0]
    assert summary["counts"] == {"train": 950, "val": 50, "test": 50}
    assert summary["class_names"] == list(CLASS_NAMES)
    assert summary["train_pixel_mean"] == round(float(parts["train"][0].mean()), 6)
    assert summary["train_pixel_std"] == round(float(parts["train"][0].std()), 6)
    for part, names in parts.values():
        assert part.dtype == np.uint8
        for image, label in zip(part[:20], names[:20], strict=True):
            assert label == labels[(images == image).all(axis=(1, 2))][0]
    digests = [each["split_sha256"] for _, each in made]
    assert digests[0] == digests[1] != digests[2]


def test_images_without_labels_are_refused(images):
    images, labels = images
    for arrays, kind in (((images, labels[:-1]) * 2, "training"), ((images, labels, images, labels[:-1]), "test")):
        with pytest.raises(InputError, match=f"1000 {kind} images, but 999 {kind} labels"):
            prepare.prepare(*arrays, Prepare(val_per_class=5, seed=0))


def test_the_committed_files_are_the_publishers_and_make_the_split_that_dvc_recorded(tmp_path):
    recorded = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["prepare"]
    parameters = Prepare(**recorded["params"]["params.yaml"]["prepare"])
    for name in PUBLISHED:
        refuse_unless_published(name)
    readers = (read_images, read_labels, read_images, read_labels)
    arrays = [reader(RAW / name) for reader, name in zip(readers, PUBLISHED, strict=True)]
    parts, summary = prepare.prepare(*arrays, parameters)
    val = 10 * parameters.val_per_class
    assert summary["counts"] == {"train": 60000 - val, "val": val, "test": 10000}
    for images, labels in parts.values():
        assert len(images) == len(labels)
        assert (np.bincount(labels) == len(labels) // 10).all()
    # The summary, which tells the split: the headers of the .npz files depend on the version of Python.
    write_json(tmp_path / "summary.json", {"dataset": "fashion-mnist"} | summary)
    (digest,) = (out["md5"] for out in recorded["outs"] if out["path"] == "data/prepared/summary.json")
    assert hashlib.md5((tmp_path / "summary.json").read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\1"), r"its SHA-256 is [0-9a-f]{64}, but"),
        (lambda path: shutil.copy(RAW / "t10k-labels-idx1-ubyte.gz", path), "it is t10k-labels-idx1-ubyte.gz under an"),
    ],
    ids=["a changed byte", "another file"],
)
def test_other_files_are_refused_before_anything_is_parsed(damage, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "read_images", None)
    monkeypatch.setattr(prepare, "read_labels", None)
    shutil.copytree(ROOT / RAW, tmp_path / RAW)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    damage(tmp_path / RAW / "train-labels-idx1-ubyte.gz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Damaged, match=rf"train-labels-idx1-ubyte\.gz cannot be used: .*{sentence}"):
        prepare.main()
    assert not Path("data/prepared").exists()


def packed(magic: int, shape: tuple[int, ...], data: bytes) -> bytes:
    return gzip.compress(struct.pack(f">{1 + len(shape)}I", magic, *shape) + data)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"not gzip at all", "not a whole gzip file"),
        (packed(2051, (3, 28, 28), IMAGES.tobytes())[:-20], "not a whole gzip file"),
        (packed(2051, (3, 28, 28), IMAGES.tobytes())[:100] + b"\0" * 50, "not a whole gzip file"),
        (gzip.compress(b"\0\0"), "ends after 2 bytes, within its header of 16"),
        (packed(2049, (784,), bytes(784)), r"magic number 2049 \(that of a labels file\), but 2051 is expected"),
        (packed(2051, (3, 28, 28), IMAGES.tobytes()[:-1]), "holds 2351 bytes of data, but its header says 2352"),
        (packed(2051, (0, 28, 28), b""), "holds 0 bytes of data, but its header says 0"),
        (packed(2051, (3, 32, 32), bytes(3 * 1024)), "32x32 pixels, but 28x28 are expected"),
    ],
    ids=itertools.count(),  # gzip's bytes hold the time
)
def test_bad_image_files_are_refused(tmp_path, content, sentence):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=f"images.gz cannot be used: .*{sentence}"):
        read_images(path)


def test_images_and_labels_come_back_and_are_not_mixed_up(tmp_path):
    write_idx(tmp_path / "images.gz", IMAGES)
    assert np.array_equal(read_images(tmp_path / "images.gz"), IMAGES)
    write_idx(tmp_path / "labels.gz", np.array([0, 9, 10], np.uint8))
    with pytest.raises(Damaged, match=r"the label 10 \(item 2\), but labels are 0 to 9"):
        read_labels(tmp_path / "labels.gz")
    with pytest.raises(Damaged, match=r"magic number 2051 \(that of an images file\), but 2049 is expected"):
        read_labels(tmp_path / "images.gz")
