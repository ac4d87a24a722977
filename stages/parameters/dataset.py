"""The section `dataset`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stages.base.errors import InputError
from stages.parameters.schema import Section, number

Text = Annotated[str, Field(min_length=1, description="text")]


class Dataset(Section):
    name: Text
    path: Annotated[str, Field(min_length=1, description="the path of a folder, or of an .npz file")]
    size: number(int, "a whole number of pixels from 8 to 96", ge=8, le=96)
    colors: Annotated[Literal["grey", "rgb"], Field(description="grey or rgb")]
    mirror: Annotated[bool, Field(description="true or false")]
    class_names: Annotated[list[Text] | None, Field(description="a list of names, or null")]
    groups: Annotated[Text | None, Field(description="a column, a pattern of file names, or null")]
    faulty: Annotated[Literal["refuse", "drop"], Field(description="refuse or drop")]
    duplicates: Annotated[Literal["refuse", "drop", "keep"], Field(description="refuse, drop or keep")]
    class_weights: Annotated[bool, Field(description="true or false")]


def refuse_misplaced(dataset: Dataset) -> None:
    """Raise `InputError` if nothing is at the path, or if the project itself writes there."""
    path = Path(dataset.path)
    if not path.exists():
        tracked = [f"{one}.dvc" for one in (path, *path.parents) if Path(f"{one}.dvc").is_file()]
        advice = "write it without ~" if dataset.path.startswith("~") else "change it, or put the images there"
        advice = f"DVC tracks it, type `dvc pull {tracked[0]}`" if tracked else advice
        raise InputError(f"dataset.path in params.yaml is {path}, but nothing is there: {advice}.")
    if Path("data/prepared").resolve().is_relative_to(path.resolve()):
        raise InputError(
            f"dataset.path in params.yaml is {path}, which holds what the project writes: move the images into a folder of "
            "their own."
        )
