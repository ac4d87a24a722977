"""The strict schema: every fault in `params.yaml` is refused with the key, the value, what is allowed, a near name."""

import copy
import functools
import math
import re
import shutil
from typing import Annotated, get_args

import pytest
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from stages import check, models
from stages.base.errors import InputError
from stages.parameters import runs, schema
from stages.parameters.audit import Audit
from stages.parameters.schema import PARAMETERS, read
from stages.parameters.statistics import Confidence, Statistics
from tests.conftest import BLOCKS, MODELS, ROOT, SMALL

COMMITTED = yaml.safe_load((ROOT / PARAMETERS).read_text())
DEFAULTS = COMMITTED["defaults"]
GOOD = (
    COMMITTED | yaml.safe_load(BLOCKS) | {"search": SMALL["search"], "folds": COMMITTED["folds"] | {"model": "small"}}
)


@pytest.fixture(autouse=True)
def project(monkeypatch, tmp_path):
    """A folder with a `params.yaml` for the tests' models, in the place of the project's, which a user may remove."""
    (tmp_path / "models").mkdir()
    for model in MODELS:
        shutil.copy(ROOT / "tests" / "models" / f"{model}.py", tmp_path / "models")
    monkeypatch.setattr(models, "__path__", [str(tmp_path / "models")])
    monkeypatch.chdir(tmp_path)
    write(GOOD)


def write(content: dict | str) -> None:
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    PARAMETERS.write_text(text)


def changed(key: str, *value: object) -> dict:
    """What is right, but for the value of one key; without a value, the key is left out."""
    content = copy.deepcopy(GOOD)
    *above, last = key.split(".")
    holder = functools.reduce(dict.__getitem__, above, content)
    if value:
        holder[int(last) if last.isdigit() else last] = value[0]
    else:
        del holder[last]
    return content


def refusal(content: dict | str) -> str:
    """How a file is refused."""
    write(content)
    with pytest.raises(InputError) as error:
        check.check()
    return str(error.value)


def test_the_committed_file_is_valid(monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    assert check.check() == list(COMMITTED["models"])


def test_images_that_are_not_there_are_told_before_anything_runs():
    write(changed("dataset.path", "nowhere"))
    assert check.check()  # as on a worker, which need not have them
    with pytest.raises(InputError, match=r"path in params\.yaml is nowhere, but nothing is there: change it"):
        check.check_all()


def test_a_block_has_the_defaults_and_what_differs_from_them():
    write(changed("models.plain", None))  # `plain:` alone: nothing differs
    assert check.check() == list(MODELS)
    assert models.read_block("plain").model_dump() == DEFAULTS
    assert models.read_block("small").model_dump() == DEFAULTS | GOOD["models"]["small"]


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("prepare.val_per_class", 0, "prepare.val_per_class is 0, but must be a whole number from 1 to 1000000"),
        ("prepare.val_per_class", "many", "prepare.val_per_class is 'many', but must be a whole number"),
        ("eda", [], "eda is [], but must be a mapping with the keys seed, samples_per_class, max_images, embedded_images"),
        ("seeds", [0, 0], "seeds is [0, 0], but must be a list of one or more whole numbers, none twice"),
        ("seeds", [-1], "seeds.0 is -1, but must be a whole number from 0"),
        ("threads", 0, "threads is 0, but must be a whole number from 1 to 256"),
        ("devices", 65, "devices is 65, but must be a whole number from 1 to 64"),
        ("defaults", [1], "defaults is [1], but must be a mapping"),
        ("models", {}, "models is {}, but must be a mapping with one block per model"),
        ("models.small", 3, "models.small is 3, but must be a mapping"),
        ("models.small.7", 1, "the key models.small.7 is not text"),
        ("7", 1, "the key 7 is not text"),
        ("defaults.7", {}, "the key defaults.7 is not text"),
        ("models.small.dropout", math.nan, "models.small.dropout is nan, but must be a number from 0 up to"),
        ("models.small.learning_rate", "fast", "models.small.learning_rate is 'fast', but must be a number above 0"),
        ("models.small.widths", [32, 0], "models.small.widths.1 is 0, but must be a whole number from 1 to 4096"),
        ("models.small.teachers", [3], "distillation_weight is 0, but must be a number from 0 to 1, above 0 where there"),
        ("models.small.dropuot", 0.5, "models.small.dropuot is unknown; did you mean dropout?"),
        ("models.smal", GOOD["models"]["small"], "models.smal has no file stages/models/smal.py; did you mean small?"),
        ("models.ensemble", {}, "models.ensemble has the name of the row of the ensemble"),
        ("models.my-net", {}, "models.my-net is no name for a Python module: use letters, digits and _, such as my_net"),
        ("search.smal", {}, "search.smal is unknown; did you mean small?"),
        ("statistics.confidence", 1, "statistics.confidence is 1, but must be a number above 0, below 1"),
        ("folds.model", "smll", "folds.model is 'smll', which has no block; did you mean small?"),
        ("folds.count", 1, "folds.count is 1, but must be a whole number from 2 to 20"),
        ("audit.near_duplicate_distance", 2, "audit.near_duplicate_distance is 2, but must be a number from 0 to 1"),
        ("robustness.images", 1, "robustness.images is 1, but must be a whole number from 100 to 10000"),
        ("explain.samples", 7, "explain.samples is 7, but must be a whole number from 1 to 6"),
        ("report.samples", 41, "report.samples is 41, but must be a whole number from 1 to 40"),
        ("model", 1, "model is unknown; did you mean models?"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_what_is_allowed(key, value, sentence):
    assert sentence in refusal(changed(key, value))


@pytest.mark.parametrize("key", ["seeds", "prepare.seed", "models.small.dropout"])
def test_no_key_may_be_left_out(key):
    assert f"{key} is missing; it must be " in refusal(changed(key))


def ranges() -> dict[str, tuple[object, str]]:
    """The type and the description of all numbers of `params.yaml` whose range an error names."""
    kinds = {name: getattr(runs, name) for name in ("Threads", "Devices")}
    kinds |= {name: getattr(schema, name) for name in ("Seed", "Fraction", "EpochCount", "Width")}
    for section in schema.Section.__subclasses__():  # among them the block of a model
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
    lowest = re.search(r"(from|above|at least) ([\d.]*\d)", description)
    highest = re.search(r"(?:from [\d.]+ to|at most|(up to, but not including,|below)) ([\d.]*\d)", description)
    adapter = TypeAdapter(Annotated[get_args(kind)[0], *get_args(kind)[1:]], config=ConfigDict(strict=True))

    def is_valid(value: float) -> bool:
        try:
            return adapter.validate_python(value) == value
        except ValidationError:
            return False

    low = float(lowest[2]) if "." in lowest[2] else int(lowest[2])
    assert is_valid(low) == (lowest[1] != "above")
    assert not is_valid(low - 1 if whole else math.nextafter(low, -math.inf))
    assert whole or is_valid(math.nextafter(low, math.inf))
    if highest:
        high = float(highest[2]) if "." in highest[2] else int(highest[2])
        assert is_valid(high) == (not highest[1])
        assert not is_valid(high + 1 if whole else math.nextafter(high, math.inf))
    else:
        assert description.endswith("or null to never stop early")


def test_nothing_is_mirrored_where_a_mirror_image_shows_another_class():
    block = models.read_block("small", mirror=False)
    assert (block.random_flip, block.test_time_augmentation) == (False, "shift")
    assert block.model_dump() == models.read_block("small").model_dump() | {
        "random_flip": False, "test_time_augmentation": "shift",
    }  # fmt: skip


def test_a_fault_of_the_defaults_is_told_once_and_not_again_for_each_model():
    content = changed("defaults", DEFAULTS | {"weight_decay": 7, "warmpu": 1})
    content["models"]["small"]["weight_decay"] = 8
    told = refusal(content)
    assert told.count("defaults.weight_decay is 7") == 1
    assert "defaults.warmpu is unknown; did you mean warmup?" in told
    assert [line for line in told.splitlines() if "models." in line] == [
        "       models.small.weight_decay is 8, but must be a number from 0 to 1."
    ]


def test_a_model_file_without_a_block_is_refused():
    assert "stages/models/plain.py has no block models.plain" in refusal(changed("models.plain"))


def test_faults_are_told_at_once_and_of_a_flood_the_first():
    content = changed("models.small.dropout", 7)
    content["models"]["plain"]["epochs"] = 0
    told = refusal(content | {f"unknown_{number}": 1 for number in range(1000)})
    assert "unknown_0 is unknown" in told
    assert re.search(r"and [\d,]+ more\.$", told)
    assert len(told.splitlines()) == 32
    told = refusal(content | {"seed": 1})
    assert all(part in told for part in ("models.small.dropout is 7", "models.plain.epochs is 0", "seed is unknown"))


def test_a_stage_reads_one_key_or_block_and_its_fault_alone():
    write(changed("audit.near_duplicate_distance", 7) | {"models": changed("models.small.dropout", 7)["models"]})
    assert read("statistics", Statistics).model_dump() == GOOD["statistics"]
    assert read("statistics.confidence", Confidence) == GOOD["statistics"]["confidence"]
    with pytest.raises(InputError, match=r"audit\.near_duplicate_distance is 7, but must be a number from 0 to 1"):
        read("audit", Audit)
    with pytest.raises(InputError, match=r"params\.yaml has no key statistics\.confidense"):
        read("statistics.confidense", Confidence)
    assert models.read_block("plain").model_dump() == DEFAULTS | GOOD["models"]["plain"]
    with pytest.raises(InputError, match=r"models\.small\.dropout is 7"):
        models.read_block("small")
    with pytest.raises(InputError, match=r"no block models\.smal; did you mean small\?"):
        models.read_block("smal")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: [1", "params.yaml is not valid YAML"),
        (b"seeds: 1\nseeds: 2", "params.yaml is not valid YAML"),
        (b"\x00\x01\xff", r"params\.yaml is not text in UTF-8: byte 2"),
        (b"", "the file is None, but must be a mapping"),
    ],
)
def test_a_malformed_file_is_refused(content, sentence):
    PARAMETERS.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        check.check()
    PARAMETERS.unlink()
    with pytest.raises(InputError, match=r"git checkout params\.yaml"):
        check.check()
