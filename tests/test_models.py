"""The files of the models: they are found by name, and what such a file lacks is named."""

import importlib
import re
import sys
from pathlib import Path

import keras
import pytest
import yaml

from stages import check, models
from stages.base.errors import InputError
from tests.conftest import ROOT, run

BLOCK = "from stages.models.block import Block"
GOOD = f"{BLOCK} as Parameters\ndef build(parameters, images, classes): ...\n"
WITH_LAYER = """
from keras import layers
from stages.models.block import Block

class Parameters(Block): ...

class Double(layers.Layer): ...
def build(parameters, images, classes): ...
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function that lets the folder of the models hold the given files alone."""

    def holding(**files: str) -> None:
        for name, content in files.items():
            (tmp_path / f"{name}.py").write_text(content)
            monkeypatch.delitem(sys.modules, f"stages.models.{name}", raising=False)
        importlib.invalidate_caches()

    monkeypatch.setattr(models, "__path__", [str(tmp_path)])
    return holding


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("import nothing_of_this_name", r"half_done\.py cannot be loaded: ModuleNotFoundError: "),
        (f"{BLOCK}\nclass Parameters(Block):\n    widths = [1, 2]", ".*PydanticUserError: "),
        ("def build(:", r"half_done\.py cannot be loaded: SyntaxError: "),
        ("def build(parameters, images, classes): ...", r"half_done\.py has no Parameters"),
        (f"{BLOCK} as Parameters", r"half_done\.py has no build"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(content, error, folder):
    folder(half_done=content)
    with pytest.raises(InputError, match=f"stages/models/{error}"):
        models.load("half_done")


def test_an_unknown_name_is_told_the_nearest_one(folder):
    folder(plain=GOOD, other=GOOD)
    assert models.names() == ["other", "plain"]
    with pytest.raises(InputError, match=r"models\.plan has no file stages/models/plan\.py; did you mean plain\?"):
        models.load("plan")


def test_a_file_that_fails_hides_no_other_fault(folder, monkeypatch, tmp_path):
    folder(broken="class Parameters(Blok): ...", other="1 / 0", good=GOOD)
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["models"] = {"broken": {}, "good": {"epoch": 1}}
    content["folds"] |= {"model": "god", "count": 1}
    content["defaults"]["momentum"] = 7
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError) as error:
        check.check()
    for fault in (
        "folds.count is 1",
        "broken.py cannot be loaded: NameError",
        "other.py has no block",
        "models.good.epoch is unknown; did you mean epochs?",
        "defaults.momentum is 7",
    ):
        assert str(error.value).count(fault) == 1
    Path("params.yaml").write_text(yaml.safe_dump(content | {"folds": content["folds"] | {"count": 2}}))
    with pytest.raises(InputError, match=r"folds\.model is 'god', which has no block; did you mean good\?"):
        check.check()


def test_the_classes_of_a_file_are_what_loads_its_models(folder):
    folder(with_layer=WITH_LAYER)
    found = models.custom_objects("with_layer")
    assert issubclass(found["Double"], keras.layers.Layer)
    assert set(found) == {"Double", "Parameters"}


@pytest.mark.parametrize("command", [["stages.check"], ["stages.train", "--help"]])
def test_a_command_is_checked_without_loading_keras(command):
    """`-X importtime` prints what is imported."""
    imported = run(ROOT, "python", "-X", "importtime", "-m", *command)
    assert re.search(r"\| +stages\.models$", imported, re.MULTILINE)
    assert not re.search(r"\| +(keras\.src|tensorflow|jax)$", imported, re.MULTILINE)
