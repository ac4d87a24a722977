"""The section `folds`."""

from stages.parameters.schema import EpochCount, Section, Seed, number


class Folds(Section):
    model: str
    epochs: EpochCount
    count: number(int, "a whole number from 2 to 20", ge=2, le=20)
    seed: Seed
