"""The strict schema: every fault in `params.yaml` is refused with the key, the value, what is allowed, a near name."""

import copy
import itertools
import json
import math
import re
import shutil
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from stages import models
from stages.common import parameters
from stages.common.errors import InputError
from stages.common.parameters import load_yaml, read_parameters
from tests.conftest import BLOCKS, MODELS, ROOT

COMMITTED = yaml.safe_load((ROOT / "params.yaml").read_text())
DEFAULTS = COMMITTED["defaults"]


def text(**sections: object) -> str:
    """A `params.yaml` with the models of the tests, whose blocks merge the defaults; `sections` replace others."""
    rest = {name: value for name, value in COMMITTED.items() if name not in {"defaults", "models"}}
    rest["audit"] = rest["audit"] | {"model": "small"}
    defaults = sections.pop("defaults", DEFAULTS)
    return f"defaults: &defaults {json.dumps(defaults)}\n{BLOCKS}\n{yaml.safe_dump(rest | sections)}"


GOOD = yaml.safe_load(text())


@pytest.fixture(autouse=True)
def models_of_the_tests(monkeypatch, tmp_path):
    """In the place of the project's, any of which a user may remove."""
    (tmp_path / "models").mkdir()
    for model in MODELS:
        shutil.copy(ROOT / "tests" / "models" / f"{model}.py", tmp_path / "models")
    monkeypatch.setattr(models, "__path__", [str(tmp_path / "models")])


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "params.yaml"


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


def refusal(path: Path, content: dict | str) -> str:
    """How a file is refused."""
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(InputError) as error:
        models.read_all(path)
    return str(error.value)


def test_the_committed_file_is_valid(monkeypatch):
    monkeypatch.undo()
    _, blocks = models.read_all(ROOT / "params.yaml")
    assert set(blocks) == set(models.names())


def test_a_block_has_the_defaults_and_what_differs_from_them(path):
    path.write_text(text())
    _, blocks = models.read_all(path)
    assert blocks["small"].model_dump() == GOOD["models"]["small"]
    assert blocks["small"].momentum == 0.6
    assert blocks["small"].weight_decay == DEFAULTS["weight_decay"]


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("prepare.val_per_class", 0, "prepare.val_per_class is 0, but must be a whole number from 1 to 5900"),
        ("prepare.val_per_class", 60000, "prepare.val_per_class is 60000, but must be a whole number from 1 to 5900"),
        ("prepare.val_per_class", 1.5, "prepare.val_per_class is 1.5, but"),
        ("prepare.val_per_class", "many", "prepare.val_per_class is 'many', but"),
        ("prepare.seed", True, "prepare.seed is True, but must be a whole number from 0 to 4294967295"),
        ("models.small.dropout", 1.0, "models.small.dropout is 1.0, but must be a number from 0 up to"),
        ("models.small.dropout", float("nan"), "models.small.dropout is nan, but"),
        ("models.small.learning_rate", "fast", "models.small.learning_rate is 'fast', but must be a number above 0"),
        ("models.small.learning_rate", 0, "models.small.learning_rate is 0, but must be a number above 0"),
        (
            "models.small.patience",
            0,
            "models.small.patience is 0, but must be a whole number of epochs of at least 1, or null",
        ),
        ("models.small.optimizer", "adamw", "models.small.optimizer is 'adamw', but must be adam, sgd or muon"),
        ("models.small.widths", [32, 0], "models.small.widths.1 is 0, but must be a whole number from 1 to 4096"),
        ("models.small.float", 1, "models.small.float is unknown"),
        ("models", 3, "models is 3, but must be a mapping with one block per model"),
        ("models", {}, "models is {}, but must be a mapping with one block per model"),
        ("models.7", 1, "the key models.7 is not text"),
        ("models.small.7", 1, "the key models.small.7 is not text"),
        ("defaults.7", 1, "the key defaults.7 is not text"),
        ("models.small.widths", [], "models.small.widths is [], but must be a list of 1 to 4 filter counts"),
        ("models.small.dropuot", 0.5, "models.small.dropuot is unknown; did you mean dropout?"),
        ("models.small", None, "models.small is None, but must be a mapping"),
        ("models.smal", GOOD["models"]["small"], "models.smal has no file stages/models/smal.py; did you mean small?"),
        ("audit.model", "smll", "audit.model is 'smll', which has no block; did you mean small?"),
        (
            "models.small.teachers",
            [3],
            "models.small.distillation_weight is 0, but must be a number from 0 to 1, above 0 where there are teachers",
        ),
        ("models.small.teachers", [3] * 21, "but must be a list of up to 20 numbers of epochs"),
        ("models.ensemble", GOOD["models"]["small"], "models.ensemble has the name of the row of the ensemble"),
        (
            "models.my-net",
            GOOD["models"]["small"],
            "models.my-net is no name for a Python module: use letters, digits and _, such as my_net",
        ),
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
        ("defaults", [1], "defaults is [1], but must be a mapping"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(path, key, value, sentence):
    assert sentence in refusal(path, changed(key, value))


def ranges() -> dict[str, tuple[object, str]]:
    """The type and the description of all numbers of `params.yaml` whose range an error names."""
    kinds = {name: getattr(parameters, name) for name in ("Seed", "Fraction", "EpochCount", "Width")}
    for section in parameters.Section.__subclasses__():  # among them the block of a model
        for name, field in section.model_fields.items():
            kinds[f"{section.__name__}.{name}"] = Annotated[field.annotation, field, *field.metadata]
    found = {}
    for name, kind in kinds.items():
        description = next((note.description for note in get_args(kind)[1:] if hasattr(note, "description")), None)
        if get_args(kind)[0] in (int, float, int | None) and description:
            found[name] = kind, description
    return found


@pytest.mark.parametrize(("kind", "description"), ranges().values(), ids=ranges())
def test_the_range_that_an_error_names_is_the_range_that_is_checked(kind, description):
    whole = get_args(kind)[0] is not float
    lowest = re.search(r"(from|above|at least) (\d+)", description)
    highest = re.search(r"(?:from \d+ to|at most|(up to, but not including,|below)) (\d+)", description)
    adapter = TypeAdapter(Annotated[get_args(kind)[0], *get_args(kind)[1:]], config=ConfigDict(strict=True))

    def is_valid(value: float) -> bool:
        try:
            return adapter.validate_python(value) == value
        except ValidationError:
            return False

    low = int(lowest[2])
    assert is_valid(low) == (lowest[1] != "above")
    assert not is_valid(low - 1 if whole else math.nextafter(low, -math.inf))
    assert whole or is_valid(math.nextafter(low, math.inf))
    if highest:
        high = int(highest[2])
        assert is_valid(high) == (not highest[1])
        assert not is_valid(high + 1 if whole else math.nextafter(high, math.inf))
    else:
        assert description.endswith("or null to never stop early")


def test_the_words_that_an_error_names_are_the_words_that_are_allowed():
    fields = [field for section in parameters.Section.__subclasses__() for field in section.model_fields.values()]
    choices = {
        field.description: get_args(field.annotation) for field in fields if get_origin(field.annotation) is Literal
    }
    assert len(choices) >= 6
    for description, allowed in choices.items():
        assert re.split(", | or ", description) == list(allowed)


@pytest.mark.parametrize(
    "key", ["seeds", "prepare.seed", "models.plain.epochs", "models.small.dropout", "models.small.patience"]
)
def test_no_key_may_be_left_out(path, key):
    assert f"{key} is missing; it must be " in refusal(path, changed(key, None, delete=True))


def test_full_blocks_need_no_section_of_defaults(path):
    path.write_text(yaml.safe_dump(changed("defaults", None, delete=True)))
    _, blocks = models.read_all(path)
    assert blocks["small"].model_dump() == GOOD["models"]["small"]
    assert read_parameters("models", path=path) == GOOD["models"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"warmpu": 0.1}, "defaults.warmpu is unknown; did you mean warmup?"),
        ({"a key": 0.1}, "defaults.a key is unknown"),
        ({"weight_decay": 7}, "defaults.weight_decay is 7, but must be a number from 0 to 1"),
        ({"weight_decay": float("nan")}, "defaults.weight_decay is nan, but"),
        ({"teachers": [3, 0]}, "defaults.teachers.1 is 0, but must be a whole number of epochs"),
    ],
)
def test_a_fault_of_the_defaults_is_told_once_and_not_again_for_each_model(path, wrong, sentence):
    told = refusal(path, text(defaults=DEFAULTS | wrong).replace("NaN", ".nan"))
    assert sentence in told
    assert "models." not in told
    assert len(told.splitlines()) == 2


def test_the_longest_list_of_teachers_is_allowed(path):
    content = yaml.safe_load(text())
    content["models"]["small"].update(teachers=[3] * 20, distillation_weight=0.5)
    path.write_text(yaml.safe_dump(content))
    assert len(models.read_all(path)[1]["small"].teachers) == 20


def test_a_fault_in_a_block_is_told_where_the_defaults_have_another(path):
    content = yaml.safe_load(text(defaults=DEFAULTS | {"weight_decay": 7}))
    content["models"]["small"]["weight_decay"] = 8
    told = refusal(path, content)
    assert "defaults.weight_decay is 7" in told
    assert "models.small.weight_decay is 8" in told
    assert "models.plain" not in told


def test_a_model_file_without_a_block_is_refused(path):
    told = refusal(path, changed("models.plain", None, delete=True))
    assert "stages/models/plain.py has no block models.plain" in told


def test_every_fault_is_told_at_once(path):
    content = changed("models.small.dropout", 7)
    content["seed"] = 1
    content["models"]["plain"]["epochs"] = 0
    told = refusal(path, content)
    assert "models.small.dropout is 7" in told
    assert "models.plain.epochs is 0" in told
    assert "seed is unknown; did you mean seeds?" in told


def test_a_block_is_read_as_its_models_class_and_refused_alone(path, monkeypatch):
    path.write_text(yaml.safe_dump(changed("models.small.dropout", 7)))
    monkeypatch.chdir(path.parent)
    assert models.read_block("plain").model_dump() == GOOD["models"]["plain"]
    with pytest.raises(InputError, match=r"models\.small\.dropout is 7"):
        models.read_block("small")
    with pytest.raises(InputError, match=r"no block models\.smal; did you mean small\?"):
        models.read_block("smal")


@pytest.mark.parametrize("content", ["a: [1", "a: b: c", "\tseeds: 1", "", "seeds: 1\nseeds: 2", "a: 2020-99-99"])
def test_a_malformed_file_is_refused(path, content):
    path.write_text(content)
    for read in (read_parameters, models.read_all):
        with pytest.raises(InputError, match=r"params.yaml (is not valid YAML|cannot be used:\s+it holds None)"):
            read(path=path)


def test_numbers_are_read_as_dvc_reads_them(path):
    path.write_text("a: 1e-3\nb: 010")
    assert load_yaml(path) == {"a": 0.001, "b": 10}


def test_a_key_that_is_not_there_is_named(path):
    path.write_text(text())
    with pytest.raises(InputError, match=r"has no key models\.small\.patiense; did you mean patience\?"):
        read_parameters("models.small.patiense", path=path)
    assert read_parameters("models.small.patience", path=path) is None


def test_a_missing_file_says_how_to_get_it_back(path):
    with pytest.raises(InputError, match="git checkout"):
        load_yaml(path)


def test_a_part_is_read_by_its_dotted_name(path):
    path.write_text(text())
    seeds, dropout = read_parameters("seeds", "models.small.dropout", path=path)
    assert (seeds, dropout) == (GOOD["seeds"], GOOD["models"]["small"]["dropout"])


@pytest.mark.fault(
    "A YAML alias that contains itself ends in a traceback; 200,000 errors are listed.", "A sentence; 30."
)
def test_circles_and_floods_in_the_file_are_told_in_few_lines(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("models: &all\n  cnn: *all\n")
    with pytest.raises(InputError, match=r"not valid YAML: an alias \(\*NAME\) stands inside the value that it names"):
        load_yaml(path)
    path.write_text("\n".join(f"unknown_{number}: 1" for number in range(1000)))
    with pytest.raises(InputError) as error:
        read_parameters(path=path)
    assert len(str(error.value).splitlines()) == 32
    assert re.search(r"and [\d,]+ more\.$", str(error.value))


def aliases(pattern: str) -> str:
    """YAML of nine lines, each of which repeats the line before nine times."""
    names = "abcdefghi"
    lines = ["a: &a {x: 1}"]
    for before, name in itertools.pairwise(names):
        lines.append(f"{name}: &{name} {pattern.format(*[f'*{before}'] * 9)}")
    return "\n".join(lines)


@pytest.mark.fault(
    "A few lines of `params.yaml` stand for a billion values, or are nested so deeply that the parser's C code crashes.",
    "A sentence, before a value is built.",
)
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (aliases("[" + "{}, " * 9 + "]"), "more than 20,000 values"),
        (aliases("{{" + ", ".join(f"k{place}: {{}}" for place in range(9)) + "}}"), "more than 20,000 values"),
        (aliases("{{<<: [" + "{}, " * 9 + "]}}"), "more than 20,000 values"),
        ("a: " + "[" * 100_000 + "]" * 100_000, "more than 50 levels"),
        ("{a: " * 100_000, "more than 50 levels"),
        ("- " * 100_000 + "x", "more than 50 levels"),
        ("\n".join(f"unknown_{number}: 1" for number in range(200_000)), "more than 1,000,000 bytes"),
        ("\n".join(f"{number:x}k: 1" for number in range(30_000)), "more than 20,000 values"),
        ("seeds: [0x" + "f" * 6000 + "]", "more than 3,000 characters in one value"),
        ("? " + "x" * 6000 + "\n: 1", "more than 3,000 characters in one value"),
    ],
    ids=[
        "lists",
        "mappings",
        "merge keys",
        "lists deep",
        "mappings deep",
        "blocks deep",
        "bytes",
        "keys",
        "digits",
        "key",
    ],
)
def test_oversized_files_are_refused_before_a_value_is_built(path, content, sentence):
    path.write_text(content)
    for read in (load_yaml, read_parameters, models.read_all):
        with pytest.raises(InputError, match=sentence):
            read(path=path)


@pytest.mark.fault(
    "A tag, bytes that are no text, or control characters in `params.yaml` end in a traceback or move the cursor.",
    "A sentence.",
)
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'seeds: !!int ""', "a tag, such as !!int, has a value of another type"),
        (b"seeds: !!bool x", "a tag, such as !!int, has a value of another type"),
        (b'seeds: !!float ""', "a tag, such as !!int, has a value of another type"),
        (b"seeds: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
        (b"\x00\x01\xff", "is not text in UTF-8: invalid start byte at byte 2"),
        ("seeds: 1".encode("utf-16"), "is not text in UTF-8"),
        (b"seeds: 1\n---\nseeds: 2", "expected a single document"),
        (b"[1]: 2", r"the key \(1,\) is not text"),
        (b"? 1\n: 2", "the key 1 is not text"),
        (b"null: 2", "the key None is not text"),
        (b"dataset: .inf", "dataset is inf, but must be"),
        (b"dataset: [" + b"x, " * 2000 + b"]", r"dataset is \['x', .{180,210}\.\.\., but must be"),
        (b'"\\e[31m\\n": 1', r"'\\x1b\[31m\\n' is unknown"),
    ],
)
def test_what_parses_badly_is_a_sentence(path, content, sentence):
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as error:
        models.read_all(path)
    assert len(str(error.value)) < 4000


def test_a_byte_order_mark_is_accepted(path):
    path.write_text(text(), encoding="utf-8-sig")
    assert models.read_all(path)
