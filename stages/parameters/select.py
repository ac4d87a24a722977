"""The section `select`."""

from typing import Annotated, Literal

from pydantic import Field

from stages.parameters.schema import Section


class Select(Section):
    metric: Annotated[
        Literal["accuracy", "balanced_accuracy", "macro_f1"],
        Field(description="accuracy, balanced_accuracy or macro_f1"),
    ]
