"""A model that lies under the right name, but is another one, is refused, whoever put it there."""

import json
import re
import zipfile
from pathlib import Path

import pytest

from stages.base.environment import versions
from stages.base.errors import Damaged
from stages.results.origin import refuse_another_run

ORIGIN = {"model": "cnn", "seed": 0, "split_sha256": "abc", "parameters": {"rate": 0.1, "widths": [1]}}
ORIGIN |= {"versions": versions()}
GONE = object()  # a value that is left out


def refuse(path: Path, origin: dict) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("origin.json", json.dumps(origin))
    refuse_another_run(path, "cnn-0", {"rate": 0.1, "widths": (1,)}, "abc")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "mlp", "seed": 1}, "run is mlp-1, but should be cnn-0"),
        ({"split_sha256": "def"}, "split_sha256 is def, but should be abc"),
        ({"parameters": {"rate": 0.5, "widths": [1]}}, "rate is 0.5, but should be 0.1"),
        ({"parameters": ORIGIN["parameters"] | {"more": 2}}, "more is 2, but should be None"),
        ({"parameters": {"rate": 0.1}}, "widths is None, but should be [1]"),
        ({"versions": versions() | {"keras": "2.0"}}, f"keras is 2.0, but should be {versions()['keras']}"),
        ({"versions": None}, "its origin.json is no mapping of what this project writes"),
        ({"model": GONE, "seed": GONE}, "it does not say its model, seed, so it was not saved by this project"),
    ],
)
def test_a_foreign_model_is_refused(change, reason, tmp_path):
    path, changed = tmp_path / "model.keras", {key: it for key, it in (ORIGIN | change).items() if it is not GONE}
    refuse(path, ORIGIN)
    with pytest.raises(Damaged, match=re.escape(reason)):
        refuse(path, changed)
