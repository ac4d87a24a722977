"""The strict schema of `params.yaml`: every key, its type, its range. It has no defaults.

A model's own block is described where the model is: `stages/models/NAME.py` holds a class `Parameters`, which adds the
keys of its architecture to `ModelParameters` below. Nothing here loads TensorFlow.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from ruamel.yaml import YAML, YAMLError

from stages import models
from stages.errors import InputError


def number(kind: type, expected: str, **bounds: float) -> Any:
    """An annotated `int` or `float` within bounds; `expected` is how an error names the allowed values."""
    return Annotated[kind, Field(description=expected, **bounds)]


Seed = number(int, "a whole number from 0 to 4294967295", ge=0, lt=2**32)
Fraction = number(float, "a number from 0 up to, but not including, 1", ge=0, lt=1)
Address = Annotated[str, Field(pattern="^https?://", description="an address that begins with http:// or https://")]
EpochCount = number(int, "a whole number of epochs from 1 to 10000", ge=1, le=10000)
Width = number(int, "a whole number from 1 to 4096", ge=1, le=4096)


def none_twice(values: list) -> list:
    """The list itself. Raises `ValueError` where a value stands in it twice."""
    if len(set(values)) < len(values):
        raise ValueError
    return values


class Section(BaseModel):
    """A mapping in `params.yaml`: unknown keys, missing keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Fetch(Section):
    folders: Annotated[list[str], Field(description="a list of folders")]
    mirrors: Annotated[list[Address], Field(description="a list of addresses that begin with http:// or https://")]
    timeout_seconds: number(float, "a number of seconds above 0, at most 3600", gt=0, le=3600)
    attempts: number(int, "a whole number from 1 to 20", ge=1, le=20)


class Prepare(Section):
    val_per_class: number(int, "a whole number from 1 to 5900 (each class has 6,000 training images)", ge=1, le=5900)
    seed: Seed


class Eda(Section):
    seed: Seed
    samples_per_class: number(int, "a whole number from 1 to 30", ge=1, le=30)
    embedded_images: number(int, "a whole number from 100 to 60000", ge=100, le=60000)


class Statistics(Section):
    confidence: number(float, "a number above 0, below 1", gt=0, lt=1)
    resamples: number(int, "a whole number from 100 to 100000", ge=100, le=100000)
    bins: number(int, "a whole number from 2 to 100", ge=2, le=100)
    seed: Seed


class Audit(Section):
    model: str
    epochs: EpochCount
    folds: number(int, "a whole number from 2 to 20", ge=2, le=20)
    near: number(float, "a number from 0 to 1", ge=0, le=1)
    seed: Seed


class Robustness(Section):
    pictures: number(int, "a whole number from 100 to 10000", ge=100, le=10000)
    seed: Seed


class Report(Section):
    seed: Seed
    samples: number(int, "a whole number from 1 to 40", ge=1, le=40)


class ModelParameters(Section):
    """The keys that every model's block has: how it is trained and how it predicts."""

    epochs: EpochCount
    patience: Annotated[
        int | None, Field(ge=1, description="a whole number of epochs of at least 1, or null to never stop early")
    ]
    batch_size: number(int, "a whole number of images from 1 to 16384", ge=1, le=16384)
    optimizer: Annotated[Literal["adam", "sgd", "muon"], Field(description="adam, sgd or muon")]
    learning_rate: number(float, "a number above 0, at most 100", gt=0, le=100)
    schedule: Annotated[
        Literal["constant", "triangular", "cosine"], Field(description="constant, triangular or cosine")
    ]
    warmup: Fraction
    momentum: Fraction
    bias_factor: number(float, "a number from 1 to 1000", ge=1, le=1000)
    weight_decay: number(float, "a number from 0 to 1", ge=0, le=1)
    label_smoothing: Fraction
    teachers: Annotated[list[EpochCount], Field(max_length=20, description="a list of up to 20 numbers of epochs")]
    taught: number(float, "a number from 0 to 1, above 0 where there are teachers", ge=0, le=1)
    ema: Fraction
    epoch_size: number(float, "a number above 0, at most 1", gt=0, le=1)
    hardest: number(float, "a number from 0 to 1", ge=0, le=1)
    small_epochs: Fraction
    small_size: number(int, "a whole number of pixels from 8 to 27", ge=8, le=27)
    shift: number(int, "a whole number of pixels from 0 to 8", ge=0, le=8)
    flip: Annotated[bool, Field(description="true or false")]
    erase: number(float, "a number from 0 to 1", ge=0, le=1)
    cutmix: number(float, "a number from 0 to 1", ge=0, le=1)
    views: Annotated[
        Literal["plain", "flips", "flips_and_shifts"], Field(description="plain, flips or flips_and_shifts")
    ]
    precision: Annotated[Literal["auto", "float32", "bfloat16"], Field(description="auto, float32 or bfloat16")]

    @field_validator("taught")
    @classmethod
    def teachers_are_heard(cls, taught: float, info: ValidationInfo) -> float:
        if not taught and info.data.get("teachers"):
            raise ValueError
        return taught


class Parameters(Section):
    """The whole of `params.yaml`, but for the models' blocks, which each model's own class checks."""

    dataset: Annotated[Literal["fashion-mnist", "drawn"], Field(description="fashion-mnist or drawn")]
    fetch: Fetch
    prepare: Prepare
    eda: Eda
    seeds: Annotated[
        list[Seed],
        Field(min_length=1, description="a list of one or more whole numbers, none twice"),
        AfterValidator(none_twice),
    ]
    devices: number(int, "a whole number from 1 to 64", ge=1, le=64)
    backend: Annotated[Literal["tensorflow", "jax"], Field(description="tensorflow or jax")]
    models: Annotated[dict[str, Any], Field(min_length=1, description="a mapping with one block a model")]
    statistics: Statistics
    audit: Audit
    robustness: Robustness
    report: Report


def read_parameters(*keys: str, path: Path = Path("params.yaml")) -> Any:
    """Check the whole of `params.yaml` and return the asked parts of it.

    Args:
        keys: Dotted names such as `"prepare"` or `"models.cnn"`; a stage asks for just what `dvc.yaml` declares for it.
        path: The file to read.

    Returns:
        The value at the one key, or a list of values, one a key. Sections are frozen pydantic objects.

    Raises:
        InputError: The file is missing, is not YAML, or breaks the schema: one line an error, with the key, the value
            found, what is allowed and, for an unknown key, the nearest valid name. Or a key is asked that is not there.
    """
    checked = check(load_yaml(path), str(path))
    values = []
    for key in keys:
        value: Any = checked
        for name in key.split("."):
            inner = value if isinstance(value, dict) else dict(value)
            if name not in inner:
                raise InputError(f"{path} has no key {key}; {unknown(name, list(inner), 'keys there')}")
            value = inner[name]
        values.append(value)
    return values[0] if len(values) == 1 else values


def load_yaml(path: Path) -> Any:
    """The parsed file, read with the parser that DVC uses. Raises `InputError` where it is missing or is not YAML."""
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; `git checkout {path}` brings it back.") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}. Mend that line.") from None


def check(content: Any, where: str = "params.yaml") -> Parameters:
    """Parsed YAML as `Parameters`, its `models` as each model's own class. Raises `InputError` with every fault."""
    if not isinstance(content, dict):
        raise InputError(f"{where} holds {content!r}, but must hold the keys {', '.join(Parameters.model_fields)}.")
    faults = names_that_are_no_text(content)
    if not faults:
        parameters = validate(Parameters, content, (), faults)
        blocks = content.get("models")
        checked = validate_models(blocks, faults) if isinstance(blocks, dict) and blocks else {}
        if parameters and blocks and parameters.audit.model not in blocks:
            faults.append(
                f"audit.model is {parameters.audit.model!r}, which has no block; "
                f"{unknown(parameters.audit.model, list(blocks), 'models')}"
            )
    if faults:
        raise InputError("\n       ".join([f"{where} cannot be used:", *faults]))
    return parameters.model_copy(update={"models": checked})


def names_that_are_no_text(content: Any, path: str = "") -> list[str]:
    """A sentence for every key, at any depth, that YAML does not read as text."""
    if not isinstance(content, dict):
        return []
    faults = [
        f"the key {path}{key!r} is not text: put it in quotes, or mend it."
        for key in content
        if not isinstance(key, str)
    ]
    return faults + [
        fault for key, inner in content.items() for fault in names_that_are_no_text(inner, f"{path}{key}.")
    ]


def validate_models(blocks: dict, faults: list[str]) -> dict[str, ModelParameters]:
    """Every model's block as its own class; blocks without a file and files without a block are faults."""
    files, checked = models.names(), {}
    for name, block in blocks.items():
        if name == models.ENSEMBLE:
            faults.append(
                f"models.{name} has the name of the row of soft voting: give the block, and its file, another."
            )
        elif name in files:
            checked[name] = validate(models.load(name).Parameters, block, ("models", name), faults)
        else:
            faults.append(
                f"models.{name} has no file stages/models/{name}.py; {unknown(name, files, 'models')} "
                "Write the file, or take the block out."
            )
    faults += [
        f"stages/models/{name}.py has no block models.{name}: add one (copy another model's and adapt it), "
        "or remove the file."
        for name in files
        if name not in blocks
    ]
    return checked


def validate(section: type[Section], content: Any, path: tuple, faults: list[str]) -> Any:
    """`content` as a `section`, or None with a sentence added to `faults` for everything that is wrong with it."""
    try:
        return section.model_validate(content)
    except ValidationError as error:
        faults += [explain(section, fault, path) for fault in error.errors()]
    return None


def explain(section: type[Section], fault: Any, path: tuple) -> str:
    """One pydantic fault as a sentence."""
    names, kind, expected = fault["loc"], section, a_mapping(section)
    for name in names:
        if isinstance(name, int):  # an item of a list
            expected = next(
                (note.description for note in get_args(get_args(kind)[0])[1:] if note.description), expected
            )
        elif name in kind.model_fields:
            field = kind.model_fields[name]
            kind = field.annotation
            expected = field.description or a_mapping(kind)
    key = ".".join(map(str, [*path, *names])) or "the file"
    if fault["type"] == "extra_forbidden":
        return f"{key} is unknown; {unknown(str(names[-1]), list(kind.model_fields), 'keys')}"
    if fault["type"] == "missing":
        return f"{key} is missing; it must be {expected}."
    return f"{key} is {fault['input']!r}, but must be {expected}."


def a_mapping(kind: Any) -> str:
    """What a key without a description may hold, in words."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return f"a mapping with the keys {', '.join(kind.model_fields)}"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return words.get(kind, str(kind).replace("typing.", ""))


def unknown(name: str, valid: list[str], kind: str) -> str:
    """The end of a sentence on an unknown name: the nearest valid one, and all of them."""
    near = difflib.get_close_matches(name, valid, n=1)
    suggestion = f"did you mean {near[0]}? " if near else ""
    return f"{suggestion}{'The' if near else 'the'} {kind} are {', '.join(valid)}."
