"""Read and check `params.yaml`: the type and range of every key. All keys are required.

The schema of a section stands in the file of its name in this folder. Keys that stand for themselves, such as `seeds`, are
in `runs.py`; those of a model's block, in the model's file (`stages/models`).
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from ruamel.yaml import YAML, YAMLError

from stages.base.errors import InputError

PARAMETERS = Path("params.yaml")
MAX_FAULTS = 30  # that an error lists
MAX_SHOWN = 200  # characters of a value in an error


def number(kind: type, expected: str, **bounds: float) -> Any:
    """An annotated `int` or `float` within bounds. Errors name the allowed values as `expected`."""
    return Annotated[kind, Field(description=expected, **bounds)]


Seed = number(int, "a whole number from 0 to 4294967295", ge=0, lt=2**32)
Fraction = number(float, "a number from 0 up to, but not including, 1", ge=0, lt=1)
EpochCount = number(int, "a whole number of epochs from 1 to 10000", ge=1, le=10000)
Width = number(int, "a whole number from 1 to 4096", ge=1, le=4096)


class Section(BaseModel):
    """A mapping in `params.yaml`. Unknown keys, missing keys and values of a wrong type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def read(key: str, kind: Any) -> Any:
    """The value of a key of `params.yaml`, checked.

    Args:
        key: Such as `"prepare"` or `"statistics.confidence"`; a stage reads only keys that `dvc.yaml` declares for it.
        kind: A subclass of `Section`, or an annotated type.

    Raises:
        InputError: The file is missing or is no YAML, or the key is missing or has a wrong value.
    """
    value = load_yaml(PARAMETERS)
    *above, name = key.split(".")
    for part in (*above, name):
        if not isinstance(value, dict) or part not in value:
            raise InputError(f"{PARAMETERS} has no key {key}. `git diff {PARAMETERS}` shows what changed.")
        value = value[part]
    faults: list[str] = []
    holder = create_model("Holder", __base__=Section, **{name: (kind, ...)})
    found = validate(holder, {name: value}, faults, *above)
    refuse(faults)
    return getattr(found, name)


def load_yaml(path: Path) -> Any:
    """The content of a YAML file, read with DVC's parser. Raises `InputError` if it is missing or is not YAML in UTF-8."""
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Type `git checkout {path}` to restore it.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8: byte {error.start}. Save it as UTF-8.") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}. Fix that line.") from None


def refuse(faults: list[str]) -> None:
    """Raise `InputError` with all errors, one per line, if there are any."""
    if faults:
        faults = list(dict.fromkeys(faults))
        more = [f"and {len(faults) - MAX_FAULTS:,} more."] if len(faults) > MAX_FAULTS else []
        raise InputError("\n       ".join([f"{PARAMETERS} cannot be used:", *faults[:MAX_FAULTS], *more]))


def validate(section: type[Section], content: Any, faults: list[str], *path: str) -> Any:
    """`content` as an object of class `section`; or None, with one sentence per error added to `faults`.

    Args:
        section: A subclass of `Section`.
        content: The parsed YAML of the section.
        faults: The list to which sentences are added.
        path: The keys above the section.
    """
    try:
        return section.model_validate(content)
    except ValidationError as error:
        faults += [explain(section, fault, path) for fault in error.errors()]
    return None


def explain(section: type[Section], fault: Any, path: tuple[str, ...]) -> str:
    """One error of pydantic as a sentence."""
    if fault["type"] == "invalid_key" or "[key]" in fault["loc"]:  # of a section, or of a mapping within it
        names = [str(name) for name in (*path, *fault["loc"]) if name != "[key]"]
        return f"the key {'.'.join(names)} is not text: put it in quotes, or remove it."
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
    return f"{key} is {shown(fault['input'])}, but must be {expected}."


def shown(value: object) -> str:
    """A value as Python writes it, without the end of a long one."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


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
