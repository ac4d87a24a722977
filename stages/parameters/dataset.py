"""The section `dataset`."""

from typing import Annotated, Literal

from pydantic import Field

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
