"""A short form of the soak test: `make soak` runs the long one."""

import pytest

from stages.common.progress import SECONDS
from tests import soak


@pytest.mark.fault(
    "A kill (SIGKILL) at a random moment leaves other results, an orphan or a stale file, or costs finished stages.",
    "`make run` goes on, and ends with the same hashes.",
)
def test_random_kills_change_no_hash(finished, tmp_path):
    expected = soak.hashes(finished)
    folder = soak.clean_copy(finished, tmp_path / "workspace")
    took = dict.fromkeys(("fetch", "prepare", "train@plain-0", "train@small-0", "evaluate@small-0", "report"), 4.0)
    log = (finished / "first_run.log").read_text()
    epochs = {name: soak.epochs_of(text) for name, text in soak.sections(log)}
    rows = soak.disturb(folder, 4, took, epochs, seed=1)
    assert rows
    assert not any(row["orphans"] for row in rows)
    assert max(row["epochs_repeated"] for row in rows) <= 1
    present = soak.files(finished) | {SECONDS.as_posix()}  # which `make run` writes
    names_the_commit = ("data/exported/", "reports/export.json")
    soak.check(folder, expected, present, but=names_the_commit)


def test_the_place_after_a_kill_is_found_among_epochs_of_the_same_name():
    expected = ["1/2", "2/2", "1/2", "2/2", "1/5"]
    assert soak.place_of(["2/2"], expected, 2, ended=False) == 1
    assert soak.place_of(["2/2", "1/2"], expected, 4, ended=False) == 1
    assert soak.place_of(["1/2"], expected, 2, ended=False) == 2
    assert soak.place_of(expected, expected, 4, ended=True) == 0
