"""The section `prepare`."""

from stages.parameters.schema import Section, Seed, number


class Prepare(Section):
    val_per_class: number(int, "a whole number from 1 to 1000000", ge=1, le=10**6)
    test_share: number(float, "a number from 0.05 to 0.5", ge=0.05, le=0.5)
    seed: Seed
