"""The strict schema of `params.yaml`: the type and range of every key. All keys are required.

`stages/models` checks the models' blocks: each model's file adds the keys of its architecture.
"""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, NodeEvent, ScalarEvent

from stages.common.errors import InputError

MOST_FAULTS = 30  # that an error lists
MOST_SHOWN = 200  # characters of a value in an error
# The largest YAML that is read: bytes, values (those of an alias count wherever it stands), levels, characters of a value:
# Python writes no whole number of more than 4,300 digits, which a hexadecimal one of 3,500 has.
MOST_BYTES, MOST_VALUES, MOST_LEVELS, MOST_CHARACTERS = 1_000_000, 20_000, 50, 3000


def number(kind: type, expected: str, **bounds: float) -> Any:
    """An annotated `int` or `float` within bounds. Errors name the allowed values as `expected`."""
    return Annotated[kind, Field(description=expected, **bounds)]


Seed = number(int, "a whole number from 0 to 4294967295", ge=0, lt=2**32)
Fraction = number(float, "a number from 0 up to, but not including, 1", ge=0, lt=1)
Address = Annotated[str, Field(pattern="^https?://", description="an address that begins with http:// or https://")]
EpochCount = number(int, "a whole number of epochs from 1 to 10000", ge=1, le=10000)
Width = number(int, "a whole number from 1 to 4096", ge=1, le=4096)


def refuse_duplicates(values: list) -> list:
    """The list itself. Raises `ValueError` if it contains a value twice."""
    if len(set(values)) < len(values):
        raise ValueError
    return values


class Section(BaseModel):
    """A mapping in `params.yaml`. Unknown keys, missing keys and values of a wrong type are errors."""

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
    near_duplicate_distance: number(float, "a number from 0 to 1", ge=0, le=1)
    seed: Seed


class Robustness(Section):
    images: number(int, "a whole number from 100 to 10000", ge=100, le=10000)
    seed: Seed


class Report(Section):
    seed: Seed
    samples: number(int, "a whole number from 1 to 40", ge=1, le=40)


class Parameters(Section):
    """All of `params.yaml`; the models' blocks, and the ranges of their search, are dicts that are not checked."""

    dataset: Annotated[Literal["fashion-mnist", "drawn"], Field(description="fashion-mnist or drawn")]
    fetch: Fetch
    prepare: Prepare
    eda: Eda
    seeds: Annotated[
        list[Seed],
        Field(min_length=1, description="a list of one or more whole numbers, none twice"),
        AfterValidator(refuse_duplicates),
    ]
    threads: number(int, "a whole number from 1 to 256", ge=1, le=256)
    devices: number(int, "a whole number from 1 to 64", ge=1, le=64)
    backend: Annotated[Literal["tensorflow", "jax"], Field(description="tensorflow or jax")]
    defaults: Annotated[dict[str, Any], Field(description="a mapping with keys that blocks of models share")] = {}
    models: Annotated[dict[str, Any], Field(min_length=1, description="a mapping with one block per model")]
    search: Annotated[
        dict[str, Any], Field(description="a mapping with the ranges of each model that is searched")
    ] = {}
    statistics: Statistics
    audit: Audit
    robustness: Robustness
    report: Report


def read_parameters(*keys: str, path: Path = Path("params.yaml")) -> Any:
    """Check `params.yaml`, except the models' blocks, and return the values of `keys`.

    Args:
        keys: Dotted names such as `"prepare"` or `"audit.folds"`; a stage reads only keys that `dvc.yaml` declares for it.
        path: The file to read.

    Returns:
        The value of the key, or a list with one value per key. Sections are frozen pydantic objects, blocks of models
        are dicts.

    Raises:
        InputError: The file is missing, is not YAML, does not match the schema, or has no such key. The message has one
            line per error: the key, the value found, what is allowed and, for an unknown key, the nearest valid name.
    """
    checked, faults = check(load_yaml(path))
    refuse(faults, path)
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
    """The content of a YAML file, read with DVC's parser.

    Raises:
        InputError: The file is missing, is not YAML in UTF-8, or is larger than the limits above.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        refuse_oversized(content, path)
        return YAML(typ="safe").load(content.decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Type `git checkout {path}` to restore it.") from None
    except (InputError, OSError):
        raise
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not text in UTF-8: {error.reason} at byte {error.start}. Save it as UTF-8."
        ) from None
    except (YAMLError, ValueError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}. Fix that line.") from None
    except Exception as error:  # of the parser's functions for tags
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path} is not valid YAML: a tag, such as !!int, has a value of another type ({reason}). Remove the tag."
        ) from None


def refuse_oversized(content: bytes, path: Path) -> None:
    """Raise `InputError` if YAML is larger than the limits above; `ValueError` if a value contains itself, by an alias.

    The parser's events tell, before a value is built: aliases of aliases turn a few lines into a billion values, and values
    that are nested 100,000 levels deep crash the parser's C code.
    """
    values, levels, longest = 0, 0, 0
    begun, sizes = [], {}  # the anchor of each value around, and the values before it; an anchor's values
    for event in YAML(typ="safe").parse(content.decode("utf-8")) if len(content) <= MOST_BYTES else ():
        if isinstance(event, AliasEvent):
            if event.anchor in (anchor for anchor, _ in begun):
                raise ValueError("an alias (*NAME) stands inside the value that it names")
            values += sizes.get(event.anchor, 1)
        elif isinstance(event, ScalarEvent):
            values, longest, sizes[event.anchor] = values + 1, max(longest, len(event.value)), 1
        elif isinstance(event, NodeEvent):
            begun.append((event.anchor, values))
            values, levels = values + 1, max(levels, len(begun))
        elif isinstance(event, CollectionEndEvent):
            anchor, before = begun.pop()
            sizes[anchor] = values - before
        if values > MOST_VALUES or levels > MOST_LEVELS or longest > MOST_CHARACTERS:
            break
    for found, most, what in (
        (len(content), MOST_BYTES, "bytes"),
        (values, MOST_VALUES, "values, those of an alias (*NAME) counted each time"),
        (levels, MOST_LEVELS, "levels of values inside values"),
        (longest, MOST_CHARACTERS, "characters in one value"),
    ):
        if found > most:
            raise InputError(f"{path} has more than {most:,} {what}. `git diff {path}` shows what changed.")


def check(content: Any) -> tuple[Parameters | None, list[str]]:
    """Check the content of `params.yaml`, except the models' blocks.

    Returns:
        The parameters, or None if they are invalid; and one sentence per error.
    """
    if not isinstance(content, dict):
        return None, [f"it holds {shown(content)}, but must hold the keys {', '.join(Parameters.model_fields)}."]
    faults = names_that_are_no_text(content)
    if faults:
        return None, faults
    parameters = validate(Parameters, content, (), faults)
    if parameters and parameters.audit.model not in parameters.models:
        faults.append(
            f"audit.model is {parameters.audit.model!r}, which has no block; "
            f"{unknown(parameters.audit.model, list(parameters.models), 'models')}"
        )
    return parameters, faults


def refuse(faults: list[str], path: Path = Path("params.yaml")) -> None:
    """Raise `InputError` with all errors, one per line, if there are any."""
    if faults:
        more = [f"and {len(faults) - MOST_FAULTS:,} more."] if len(faults) > MOST_FAULTS else []
        raise InputError("\n       ".join([f"{path} cannot be used:", *faults[:MOST_FAULTS], *more]))


def names_that_are_no_text(content: Any, path: str = "") -> list[str]:
    """One sentence for each key, at any depth, that YAML does not parse as text."""
    if not isinstance(content, dict):
        return []
    faults = [
        f"the key {path}{shown(key)} is not text: put it in quotes, or fix it."
        for key in content
        if not isinstance(key, str)
    ]
    return faults + [
        fault for key, inner in content.items() for fault in names_that_are_no_text(inner, f"{path}{key}.")
    ]


def validate(
    section: type[Section], content: Any, path: tuple, faults: list[str], known: frozenset = frozenset()
) -> Any:
    """`content` as an object of class `section`; or None, with one sentence per error added to `faults`.

    Args:
        section: A subclass of `Section`.
        content: The parsed YAML of the section.
        path: The keys above the section.
        faults: The list to which sentences are added.
        known: Keys of the section whose errors are reported already.
    """
    try:
        return section.model_validate(content)
    except ValidationError as error:
        faults += [explain(section, fault, path) for fault in error.errors() if not {*fault["loc"][:1]} & known]
    return None


def explain(section: type[Section], fault: Any, path: tuple) -> str:
    """One error of pydantic as a sentence."""
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
    if not key.isprintable():
        key = repr(key)
    if fault["type"] == "extra_forbidden":
        return f"{key} is unknown; {unknown(str(names[-1]), list(kind.model_fields), 'keys')}"
    if fault["type"] == "missing":
        return f"{key} is missing; it must be {expected}."
    return f"{key} is {shown(fault['input'])}, but must be {expected}."


def shown(value: object) -> str:
    """A value as Python writes it, without the end of a long one."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def a_mapping(kind: Any) -> str:
    """The allowed values of a key without a description, in words."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return f"a mapping with the keys {', '.join(kind.model_fields)}"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return words.get(kind, str(kind).replace("typing.", ""))


def unknown(name: str, valid: list[str], kind: str) -> str:
    """The end of a sentence on an unknown name: the nearest valid name, and all valid names."""
    near = difflib.get_close_matches(name, valid, n=1)
    suggestion = f"did you mean {near[0]}? " if near else ""
    return f"{suggestion}{'The' if near else 'the'} {kind} are {', '.join(valid)}."


def fingerprint(block: dict) -> str:
    """Twelve characters that identify the values of a model's block of `params.yaml`, in any order."""

    def plain(value: object) -> object:  # YAML reads 0 as an integer, the schema converts it to 0.0
        if isinstance(value, list):
            return [plain(item) for item in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    text = json.dumps({key: plain(value) for key, value in block.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
