"""What a search may try: the section `search` of `params.yaml`, in which each key of a model's block may have a range."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from stages.models.block import Block
from stages.parameters.schema import Section, refuse, shown, unknown, validate

Search = Annotated[dict[str, Any], Field(description="a mapping with the ranges of each model that is searched")]


class Numbers(Section):
    """Numbers from `low` to `high`, both included, whole if these are; with `log`, on a logarithmic scale."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high


Range = Numbers | tuple  # or one of these values


def read_ranges(section: Mapping[str, Any], blocks: Mapping[str, Block]) -> dict[str, dict[str, Range]]:
    """Check the section `search`, as YAML has it; return the ranges of each model that it names.

    Raises `InputError` if a range is wrong, or holds a value that the model's block in `blocks` may not have.
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
            found[name] = {key: read_range(name, key, content, blocks[name], faults) for key, content in given.items()}
    refuse(faults)
    return found


def read_range(name: str, key: str, content: Any, block: Block, faults: list[str]) -> Range | None:
    """The range of one key of a model. If it is wrong, sentences are added to `faults`."""
    path, keys = f"search.{name}.{key}", list(type(block).model_fields)

    def allowed(values: list) -> list:
        """Those of the values that the model's block may have, as it has them: 0 of a fraction is 0.0."""
        blocks = [validate(type(block), block.model_dump() | {key: one}, faults, "search", name) for one in values]
        return [getattr(one, key) for one in blocks if one]

    if key not in keys:
        faults.append(f"{path} is unknown; {unknown(key, keys, 'keys of the block')}")
    elif isinstance(content, list):
        if len(content) < 2 or any(content.count(value) > 1 for value in content):
            faults.append(f"{path} is {shown(content)}, but must be a list of two or more values, none twice.")
        return tuple(allowed(content))
    elif numbers := validate(Numbers, content, faults, "search", name, key):
        if numbers.low >= numbers.high or (numbers.log and numbers.low <= 0):
            faults.append(f"{path} is {shown(content)}, but low must be below high, and above 0 where log is true.")
        ends = allowed([content["low"], content["high"]])
        return numbers.model_copy(update=dict(zip(("low", "high"), ends, strict=False)))
    return None
