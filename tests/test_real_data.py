"""Where the publisher's files lie on this machine: they are as pinned, and `prepare` makes of them what was committed."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages.common.files import write_json
from stages.common.parameters import Prepare, read_parameters
from stages.data.idx import read_images, read_labels
from stages.data.publisher import PUBLISHED, refuse_unless_published
from stages.prepare import prepare
from tests.conftest import ROOT

FETCH = read_parameters("fetch", path=ROOT / "params.yaml")
LOCK = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["prepare"]
PREPARE = Prepare(**LOCK["params"]["params.yaml"]["prepare"])  # those that it last ran with
FOLDERS = [ROOT / Path(folder).expanduser() for folder in [*FETCH.folders, "data/raw"]]
FOLDER = next((folder for folder in FOLDERS if all((folder / name).exists() for name in PUBLISHED)), None)
pytestmark = pytest.mark.skipif(FOLDER is None, reason="the publisher's files are not on this machine")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_files_are_the_publishers(name):
    refuse_unless_published(FOLDER / name, name)


def test_prepare_makes_the_committed_parts(tmp_path):
    train_images, train_labels, test_images, test_labels = (FOLDER / name for name in PUBLISHED)
    parts, summary = prepare(
        read_images(train_images),
        read_labels(train_labels),
        read_images(test_images),
        read_labels(test_labels),
        PREPARE,
    )
    val = 10 * PREPARE.val_per_class
    assert summary["counts"] == {"train": 60000 - val, "val": val, "test": 10000}
    for images, labels in parts.values():
        assert len(images) == len(labels)
        assert (np.bincount(labels) == len(labels) // 10).all()
    # The summary, which tells the split: the headers of the .npz files depend on the version of Python.
    write_json(tmp_path / "summary.json", {"dataset": "fashion-mnist"} | summary)
    lock = LOCK
    digests = {out["path"]: out["md5"] for out in lock["outs"]}
    digest = hashlib.md5((tmp_path / "summary.json").read_bytes()).hexdigest()
    assert digest == digests["data/prepared/summary.json"]
