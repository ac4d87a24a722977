"""The files of the models: their parameters are read without Keras, and what such a file lacks is named."""

import importlib
import json
import sys
from pathlib import Path

import keras
import pytest
import yaml

from stages import models
from stages.common.errors import InputError
from tests.conftest import ROOT, run

COMMANDS = ("train", "evaluate", "folds", "audit", "explain", "check")

KERAS_FIRST = """
from __future__ import annotations
import keras
from keras import layers
from typing import Annotated
from pydantic import Field, field_validator
from stages.models.block import Block
"""
LAYER = """
class Double(layers.Layer):
    def call(self, inputs):
        return 2 * inputs
"""
BUILD = """
def build(parameters, images):
    return keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), Double(), layers.Dense(10)])
"""
# With constants and functions of the file's own, above and below; one key is called as a module of Keras is.
PARAMETERS = """
LARGEST = 2 * HALF
KINDS = ["even"]
KINDS.append("any")
ALLOWED = {}
ALLOWED["odd"] = False

class Parameters(Block):
    width: Annotated[int, Field(ge=1, le=LARGEST, description=describe("width"))]
    layers: Width

    @field_validator("width")
    @classmethod
    def fits(cls, width: int) -> int:
        if is_odd(width) and not ALLOWED["odd"] or "any" not in KINDS:
            raise ValueError
        return width

def is_odd(number):
    return bool(number % TWO)

TWO = 2
"""
HELPERS = """
HALF = 8
Width = Annotated[int, Field(ge=1)]

def describe(name):
    return f"an even {name} up to {2 * HALF}"
"""
FILES = {
    "layer above": KERAS_FIRST + HELPERS + LAYER + PARAMETERS + BUILD,
    "layer below": KERAS_FIRST + HELPERS + PARAMETERS + BUILD + LAYER,
    "no future": (KERAS_FIRST + HELPERS + PARAMETERS + BUILD + LAYER).replace("from __future__ import annotations", ""),
}


def folder_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """Let the folder of the models hold these files alone."""
    for name, content in files.items():
        (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.setattr(models, "__path__", [str(tmp_path)])


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_parameters_are_read_without_keras(content, tmp_path):
    (tmp_path / "drawn_up.py").write_text(content)
    defaults = yaml.safe_load((ROOT / "params.yaml").read_text())["defaults"]
    code = f"""
import json, sys
from pydantic import ValidationError
from stages import models
models.__path__ = [{str(tmp_path)!r}]
Parameters = models.parameters_of("drawn_up")
def refused(width):
    try:
        Parameters(**json.loads({json.dumps(defaults)!r}), width=width, layers=1)
    except ValidationError:
        return True
print(json.dumps([[width for width in range(20) if not refused(width)], Parameters.model_fields["width"].description]))
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
"""
    assert json.loads(run(ROOT, "python", "-c", code)) == [list(range(2, 17, 2)), "an even width up to 16"]


def test_parameters_of_every_model_are_read_without_keras():
    code = "import sys; from stages import models; models.read_all()\n"
    code += "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    run(ROOT, "python", "-c", code)


def test_a_command_is_imported_without_keras():
    code = "import importlib, sys\n"
    for name in COMMANDS:
        code += f"importlib.import_module('stages.{name}')\n"
        code += f"assert not {{'keras', 'tensorflow', 'jax'}} & {{*sys.modules}}, 'stages.{name}'\n"
    run(ROOT, "python", "-c", code)


@pytest.mark.parametrize("name", models.names())
def test_the_parameters_read_alone_are_those_of_the_file(name):
    assert models.parameters_of(name).model_json_schema() == models.load(name).Parameters.model_json_schema()


@pytest.mark.skipif("resnet" not in models.names(), reason="no model resnet here")
def test_resnet_takes_a_depth_for_each_width(tmp_path):
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["models"]["resnet"]["depths"] = [1] * (len(content["models"]["resnet"]["widths"]) + 1)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"models\.resnet\.depths is \[1, .*\], but must be a list"):
        models.read_all(path)


@pytest.mark.parametrize("read", [models.parameters_of, models.load])
@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("import nothing_of_this_name\nclass Parameters(nothing_of_this_name.Block): ...", "ModuleNotFoundError: "),
        ("class Parameters(Blok): ...", "NameError: name 'Blok' is not defined"),
        (
            "from stages.models.block import Block\nclass Parameters(Block):\n    widths = [1, 2]",
            "PydanticUserError: ",
        ),
        ("def build(:", "SyntaxError: "),
    ],
)
def test_a_file_that_fails_when_it_is_loaded_is_named(read, content, error, monkeypatch, tmp_path):
    folder_with(tmp_path, monkeypatch, half_done=content)
    with pytest.raises(InputError, match=rf"stages/models/half_done\.py cannot be loaded: {error}"):
        read("half_done")


@pytest.mark.parametrize("read", [models.parameters_of, models.load])
@pytest.mark.parametrize(
    ("content", "lacks"),
    [
        ("def build(parameters, images): ...", "Parameters"),
        ("from stages.models.block import Block as Parameters", "build"),
    ],
)
def test_what_a_file_lacks_is_named(read, content, lacks, monkeypatch, tmp_path):
    name = f"lacks_{lacks.lower()}"
    folder_with(tmp_path, monkeypatch, **{name: content})
    with pytest.raises(InputError, match=rf"stages/models/{name}\.py has no {lacks}"):
        read(name)


def test_a_file_that_fails_hides_no_other_fault(monkeypatch, tmp_path):
    folder_with(tmp_path, monkeypatch, broken="class Parameters(Blok): ...", other="1 / 0")
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content |= {"models": {"broken": {}}, "audit": content["audit"] | {"model": "broken", "folds": 1}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError) as error:
        models.read_all(tmp_path / "params.yaml")
    for fault in ("audit.folds is 1", "broken.py cannot be loaded: NameError", "other.py has no block"):
        assert fault in str(error.value)


def test_the_classes_of_a_file_are_what_loads_its_models(monkeypatch, tmp_path):
    folder_with(tmp_path, monkeypatch, with_layer=FILES["layer below"])
    monkeypatch.delitem(sys.modules, "stages.models.with_layer", raising=False)
    importlib.invalidate_caches()
    found = models.custom_objects("with_layer")
    assert issubclass(found["Double"], keras.layers.Layer)
    assert not {"Block", "Field", "build", "layers"} & set(found)
