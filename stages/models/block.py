"""The keys that every model's block in `params.yaml` has."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from stages.parameters.schema import EpochCount, Fraction, Section, number


class Block(Section):
    """The keys of training and prediction that every model's block has."""

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
    distillation_weight: number(float, "a number from 0 to 1, above 0 where there are teachers", ge=0, le=1)
    ema_momentum: Fraction
    epoch_fraction: number(float, "a number above 0, at most 1", gt=0, le=1)
    hard_example_fraction: number(float, "a number from 0 to 1", ge=0, le=1)
    low_resolution_fraction: Fraction
    low_resolution_size: number(int, "a whole number of pixels from 8 to 27", ge=8, le=27)
    random_shift: number(int, "a whole number of pixels from 0 to 8", ge=0, le=8)
    random_flip: Annotated[bool, Field(description="true or false")]
    random_erasing: number(float, "a number from 0 to 1", ge=0, le=1)
    cutmix: number(float, "a number from 0 to 1", ge=0, le=1)
    test_time_augmentation: Annotated[
        Literal["none", "flip", "shift", "flip_and_shift"], Field(description="none, flip, shift or flip_and_shift")
    ]
    precision: Annotated[Literal["auto", "float32", "bfloat16"], Field(description="auto, float32 or bfloat16")]

    @field_validator("distillation_weight")
    @classmethod
    def weight_for_teachers(cls, distillation_weight: float, info: ValidationInfo) -> float:
        if not distillation_weight and info.data.get("teachers"):
            raise ValueError
        return distillation_weight
