"""What a search may try: the section `search` of `params.yaml`, in which each key of a model's block may have a range."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from stages.common.parameters import Section, refuse, shown, unknown, validate
from stages.models.block import Block

DIGITS = 4  # of a number that is tried, so that it can be read and typed


class Interval(Section):
    """A range of numbers, as it is written; `Numbers` is what it means."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Numbers:
    """Numbers from `low` to `high`, both included; `log`, on a logarithmic scale; `whole`, without fractions."""

    low: float
    high: float
    log: bool
    whole: bool

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def rounded(self, value: float) -> float:
        """A number of this range, with at most `DIGITS` digits where that stays inside."""
        return value if self.whole else min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of a few values, which are written as JSON."""

    values: tuple[str, ...]

    def __contains__(self, value: Any) -> bool:
        return json.dumps(value) in self.values


Range = Numbers | Choice


def read_ranges(section: Mapping[str, Any], blocks: Mapping[str, Block]) -> dict[str, dict[str, Range]]:
    """Check the section `search`; return the ranges of each model that it names.

    Args:
        section: As YAML has it.
        blocks: The models' blocks, which are right.

    Raises:
        InputError: A range is wrong, or holds a value that the model's block may not have. The message lists all errors.
    """
    faults: list[str] = []
    found = {}
    for name, given in section.items():
        if name not in blocks:
            faults.append(f"search.{name} is unknown; {unknown(name, list(blocks), 'models')}")
        elif not isinstance(given, dict) or not given:
            faults.append(
                f"search.{name} is {shown(given)}, but must be a mapping with a range for each key to search."
            )
        else:
            found[name] = {key: range_of(name, key, content, blocks[name], faults) for key, content in given.items()}
    refuse(faults)
    return found


def range_of(name: str, key: str, content: Any, block: Block, faults: list[str]) -> Range | None:
    """The range of one key of a model; or None, with sentences added to `faults`, if it is wrong."""
    fields, path = type(block).model_fields, f"search.{name}.{key}"
    if key not in fields:
        faults.append(f"{path} is unknown; {unknown(key, list(fields), 'keys of the block')}")
    elif isinstance(content, list):
        return choice(name, key, content, block, faults)
    elif not isinstance(content, dict):
        faults.append(f"{path} is {shown(content)}, but must be {{low: ..., high: ...}} or a list of values.")
    elif validate(Interval, content, ("search", name, key), faults):
        low, high, log = content["low"], content["high"], content.get("log", False)
        if low >= high:
            faults.append(f"{path} has low {low} and high {high}, but low must be below high.")
        elif log and low <= 0:
            faults.append(f"{path} has low {low}, but a logarithmic scale (log: true) needs one above 0.")
        elif allow(block, key, [low, high], path, faults):
            kind = fields[key].annotation
            return Numbers(low, high, log, whole=float not in (kind, *get_args(kind)))
    return None


def choice(name: str, key: str, content: list, block: Block, faults: list[str]) -> Choice | None:
    """The choice among the values of a list; or None, with sentences added to `faults`, if it is wrong."""
    path = f"search.{name}.{key}"
    if not allow(block, key, content, path, faults):
        return None
    blocks = [type(block).model_validate(block.model_dump() | {key: value}) for value in content]
    values = tuple(json.dumps(one.model_dump()[key]) for one in blocks)  # 0 of a fraction is 0.0, as in the block
    if len(set(values)) < max(len(values), 2):
        faults.append(f"{path} is {shown(content)}, but must be a list of two or more values, none twice.")
        return None
    return Choice(values)


def allow(block: Block, key: str, values: list, path: str, faults: list[str]) -> bool:
    """Whether a model's block may have each of these values; sentences are added to `faults` for those that it may not."""
    before, above = len(faults), tuple(path.split(".")[:-1])
    for value in values:
        validate(type(block), block.model_dump() | {key: value}, above, faults)
    return len(faults) == before
