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
from stages.data.checks import check, read_source
from stages.data.idx import read_idx
from stages.data.publisher import CLASS_NAMES, PUBLISHED, RAW, refuse_unless_published
from stages.parameters.prepare import Prepare
from tests.conftest import DATASET, ROOT, dataset_of, edit, labelled, write_idx

IMAGES = np.arange(3 * 784, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)


@pytest.mark.parametrize(("size", "drawn"), [(1, 1), (7, 7), (59, 10)])
def test_every_class_gives_as_many_to_validation_but_at_most_a_fifth_and_nothing_is_lost_or_in_both(size, drawn):
    given = np.repeat(["train", "test"], [500, 100])
    labels = np.tile(np.arange(10), 60)

    def parts(seed: int) -> dict[str, np.ndarray]:
        return prepare.split(*labelled(labels, given), Prepare(val_per_class=size, test_share=0.2, seed=seed))

    first = parts(1)
    assert np.bincount(labels[first["val"]]).tolist() == [drawn] * 10
    assert np.array_equal(np.sort(np.concatenate(list(first.values()))), np.arange(600))
    assert np.array_equal(first["test"], np.arange(500, 600))
    assert np.array_equal(first["val"], parts(1)["val"])
    assert not np.array_equal(first["val"], parts(2)["val"])


def test_images_keep_their_labels_and_the_summary_tells_splits_apart(images):
    images, labels = images
    dataset = dataset_of("mine")
    source = prepare.Source(
        images[..., None].copy(), labels, np.repeat(["train", "test"], [900, 100]), np.arange(1000).astype(str)
    )
    checked = check(source, dataset)
    made = [
        prepare.prepare(source, checked, dataset, Prepare(val_per_class=5, test_share=0.2, seed=seed))
        for seed in (0, 0, 1)
    ]
    parts, summary, files = made[0]
    for name, rows in files.groupby("split"):
        named = images[rows["file"].astype(int)]
        assert np.array_equal(parts[name][0][rows["image"], ..., 0], named)
    assert summary["counts"] == {"train": 850, "val": 50, "test": 100}
    assert summary["class_names"] == list("0123456789")
    assert summary["own_splits"] == ["test"]
    assert summary["train_pixel_mean"] == round(float(parts["train"][0].mean()), 6)
    assert summary["train_pixel_std"] == round(float(parts["train"][0].std()), 6)
    for part, names in parts.values():
        assert part.dtype == np.uint8
        for image, label in zip(part[:20, ..., 0], names[:20], strict=True):
            assert label == labels[(images == image).all(axis=(1, 2))][0]
    digests = [each["split_sha256"] for _, each, _ in made]
    assert digests[0] == digests[1] != digests[2]
    source.images[0, 0, 0] ^= 1
    changed = prepare.prepare(source, check(source, dataset), dataset, Prepare(val_per_class=5, test_share=0.2, seed=0))
    assert changed[1]["split_sha256"] != digests[0]


def test_the_committed_files_are_the_publishers_and_make_the_split_that_dvc_recorded(tmp_path):
    recorded = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["prepare"]
    parameters = recorded["params"]["params.yaml"]
    if parameters["dataset"]["name"] != "fashion-mnist":
        pytest.skip("the record is one of other images")
    for name in PUBLISHED:
        refuse_unless_published(name)
    dataset = dataset_of(**parameters["dataset"] | {"class_names": list(CLASS_NAMES)})
    source = read_source(dataset)
    parts, summary, _ = prepare.prepare(source, check(source, dataset), dataset, Prepare(**parameters["prepare"]))
    assert source.faults == source.notes == []
    val = 10 * parameters["prepare"]["val_per_class"]
    assert summary["counts"] == {"train": 60000 - val, "val": val, "test": 10000}
    for images, labels in parts.values():
        assert len(images) == len(labels)
        assert (np.bincount(labels) == len(labels) // 10).all()
    write_json(tmp_path / "summary.json", summary)
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
    monkeypatch.setattr(prepare, "read_source", None)
    shutil.copytree(ROOT / RAW, tmp_path / RAW)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    edit(tmp_path, lambda content: content.update(dataset=DATASET))
    damage(tmp_path / RAW / "train-labels-idx1-ubyte.gz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Damaged, match=rf"train-labels-idx1-ubyte\.gz cannot be used: .*{sentence}"):
        prepare.main()
    assert not Path("data/prepared").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"path": "others"}, "which is data/fashion-mnist alone: give others another name"),
        ({"size": 32}, "size is 32 and dataset.colors is grey, but the images of fashion-mnist are 28 pixels and grey"),
        ({"colors": "rgb"}, "colors is rgb, but .* give dataset.name another name"),
    ],
)
def test_other_data_are_never_taken_for_fashion_mnist(change, sentence, tmp_path, monkeypatch):
    shutil.copytree(ROOT / RAW, tmp_path / RAW)
    shutil.copytree(ROOT / RAW, tmp_path / "others")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    edit(tmp_path, lambda content: content.update(dataset=DATASET | change))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=sentence):
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
    ],
    ids=itertools.count(),  # gzip's bytes hold the time
)
def test_bad_image_files_are_refused(tmp_path, content, sentence):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=f"images.gz cannot be used: .*{sentence}"):
        read_idx(path, 3)


def test_images_and_labels_come_back_packed_or_not_and_are_not_mixed_up(tmp_path):
    write_idx(tmp_path / "images.gz", IMAGES)
    assert np.array_equal(read_idx(tmp_path / "images.gz", 3), IMAGES)
    (tmp_path / "images").write_bytes(gzip.decompress((tmp_path / "images.gz").read_bytes()))
    assert np.array_equal(read_idx(tmp_path / "images", 3), IMAGES)
    with pytest.raises(Damaged, match=r"magic number 2051 \(that of an images file\), but 2049 is expected"):
        read_idx(tmp_path / "images.gz", 1)
