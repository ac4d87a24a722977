"""The keys that say which models train, with which seeds, and on what."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from stages.parameters.schema import Seed, number


def refuse_duplicates(values: list) -> list:
    """The list itself. Raises `ValueError` if it contains a value twice."""
    if len(set(values)) < len(values):
        raise ValueError
    return values


Seeds = Annotated[
    list[Seed],
    Field(min_length=1, description="a list of one or more whole numbers, none twice"),
    AfterValidator(refuse_duplicates),
]
Threads = number(int, "a whole number from 1 to 256", ge=1, le=256)
Devices = number(int, "a whole number from 1 to 64", ge=1, le=64)
Defaults = Annotated[dict[str, Any], Field(description="a mapping with the keys that models' blocks share")]
Models = Annotated[dict[str, Any], Field(min_length=1, description="a mapping with one block per model")]
