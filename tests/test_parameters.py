"""The strict schema: every fault in `params.yaml` is refused with the key, the value, what is allowed, a near name."""

import copy
import sys
import types

import pytest
import yaml

from stages import models
from stages.errors import InputError
from stages.parameters import check, load_yaml, read_parameters
from tests.conftest import ROOT

GOOD = yaml.safe_load((ROOT / "params.yaml").read_text())


def changed(key: str, value: object, delete: bool = False) -> dict:
    content = copy.deepcopy(GOOD)
    *path, last = key.split(".")
    holder = content
    for name in path:
        holder = holder[name]
    if delete:
        del holder[last]
    else:
        holder[int(last) if last.isdigit() else last] = value
    return content


def test_the_committed_file_is_valid():
    parameters = check(GOOD)
    assert set(parameters.models) == set(models.names())


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("prepare.val_per_class", 0, "prepare.val_per_class is 0, but must be a whole number from 1 to 5900"),
        ("prepare.val_per_class", 60000, "prepare.val_per_class is 60000, but must be a whole number from 1 to 5900"),
        ("prepare.val_per_class", 1.5, "prepare.val_per_class is 1.5, but"),
        ("prepare.val_per_class", "many", "prepare.val_per_class is 'many', but"),
        ("prepare.seed", True, "prepare.seed is True, but must be a whole number from 0 to 4294967295"),
        ("models.cnn.dropout", 1.0, "models.cnn.dropout is 1.0, but must be a number from 0 up to"),
        ("models.cnn.dropout", float("nan"), "models.cnn.dropout is nan, but"),
        ("models.cnn.learning_rate", "fast", "models.cnn.learning_rate is 'fast', but must be a number above 0"),
        ("models.cnn.learning_rate", 0, "models.cnn.learning_rate is 0, but must be a number above 0"),
        (
            "models.cnn.patience",
            0,
            "models.cnn.patience is 0, but must be a whole number of epochs of at least 1, or null",
        ),
        ("models.cnn.optimizer", "adamw", "models.cnn.optimizer is 'adamw', but must be adam, sgd or muon"),
        ("models.cnn.filters", [32, 0], "models.cnn.filters.1 is 0, but must be a whole number from 1 to 4096"),
        ("models.cnn.float", 1, "models.cnn.float is unknown"),
        ("models", 3, "models is 3, but must be a mapping with one block a model"),
        (
            "models.resnet.depths",
            [1, 2],
            "models.resnet.depths is [1, 2], but must be a list of whole numbers from 0 to 20, one a width",
        ),
        ("models.7", 1, "the key models.7 is not text"),
        ("models.cnn.filters", [], "models.cnn.filters is [], but must be a list of 1 to 4 filter counts"),
        ("models.cnn.dropuot", 0.5, "models.cnn.dropuot is unknown; did you mean dropout?"),
        ("models.cnn", None, "models.cnn is None, but must be a mapping"),
        ("models.cnnn", GOOD["models"]["cnn"], "models.cnnn has no file stages/models/cnnn.py; did you mean cnn?"),
        ("audit.model", "sprnt", "audit.model is 'sprnt', which has no block; did you mean sprint?"),
        (
            "models.cnn.teachers",
            [3],
            "models.cnn.taught is 0, but must be a number from 0 to 1, above 0 where there are teachers",
        ),
        ("models.ensemble", GOOD["models"]["cnn"], "models.ensemble has the name of the row of soft voting"),
        ("model", 1, "model is unknown; did you mean models?"),
        ("seeds", [], "seeds is [], but must be a list of one or more whole numbers, none twice"),
        ("seeds", [0, 0], "seeds is [0, 0], but must be a list of one or more whole numbers, none twice"),
        ("seeds", [-1], "seeds.0 is -1, but must be a whole number from 0"),
        ("seeds", 0, "seeds is 0, but must be a list of one or more"),
        ("dataset", "mnist", "dataset is 'mnist', but must be fashion-mnist or drawn"),
        (
            "fetch.mirrors",
            ["ftp://example.org"],
            "fetch.mirrors.0 is 'ftp://example.org', but must be an address",
        ),
        ("eda", [], "eda is [], but must be a mapping with the keys seed, samples_per_class, embedded_images"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(key, value, sentence):
    with pytest.raises(InputError) as error:
        check(changed(key, value))
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    "key", ["seeds", "prepare.seed", "models.sprint.epochs", "models.mlp.dropout", "models.cnn.patience"]
)
def test_nothing_has_a_default(key):
    with pytest.raises(InputError, match=f"{key} is missing; it must be "):
        check(changed(key, None, delete=True))


def test_a_model_file_without_a_block_is_refused():
    with pytest.raises(InputError, match=r"stages/models/mlp.py has no block models.mlp"):
        check(changed("models.mlp", None, delete=True))


def test_every_fault_is_told_at_once():
    content = changed("models.cnn.dropout", 7)
    content["seed"] = 1
    with pytest.raises(InputError) as error:
        check(content)
    assert "models.cnn.dropout is 7" in str(error.value)
    assert "seed is unknown; did you mean seeds?" in str(error.value)


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\tseeds: 1", "", "seeds: 1\nseeds: 2", "a: 2020-99-99"])
def test_a_malformed_file_is_refused(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"params.yaml (is not valid YAML|holds None)"):
        read_parameters("seeds", path=path)


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: 1e-3\nb: 010")
    assert load_yaml(path) == {"a": 0.001, "b": 10}


def test_a_model_file_that_does_not_work_is_named(monkeypatch):
    broken = types.ModuleType("stages.models.cnn")
    monkeypatch.setitem(sys.modules, "stages.models.cnn", broken)
    with pytest.raises(InputError, match=r"stages/models/cnn\.py has no Parameters"):
        check(GOOD)


@pytest.mark.parametrize("content", ["x = 1 / 0", "class Parameters(ModelParameters):\n    widths = [1, 2]"])
def test_a_model_file_that_fails_when_it_is_loaded_is_named(content, monkeypatch, tmp_path):
    (tmp_path / "half_done.py").write_text(f"from stages.parameters import ModelParameters\n{content}\n")
    monkeypatch.setattr(models, "__path__", [str(tmp_path)])
    with pytest.raises(
        InputError, match=r"stages/models/half_done\.py cannot be loaded: (ZeroDivision|PydanticUser)Error: "
    ):
        models.load("half_done")


def test_a_key_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"has no key models\.cnn\.viewz; did you mean views\?"):
        read_parameters("models.cnn.viewz", path=ROOT / "params.yaml")
    assert read_parameters("models.sprint.patience", path=ROOT / "params.yaml") is None


def test_a_missing_file_says_how_to_get_it_back(tmp_path):
    with pytest.raises(InputError, match="git checkout"):
        load_yaml(tmp_path / "params.yaml")


def test_a_part_is_read_by_its_dotted_name():
    seeds, dropout = read_parameters("seeds", "models.cnn.dropout", path=ROOT / "params.yaml")
    assert (seeds, dropout) == (GOOD["seeds"], GOOD["models"]["cnn"]["dropout"])
