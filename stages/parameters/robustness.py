"""The section `robustness`."""

from stages.parameters.schema import Section, Seed, number


class Robustness(Section):
    images: number(int, "a whole number from 100 to 10000", ge=100, le=10000)
    seed: Seed
