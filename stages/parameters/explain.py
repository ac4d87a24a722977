"""The section `explain`."""

from stages.parameters.schema import Section, Seed, number


class Explain(Section):
    seed: Seed
    samples: number(int, "a whole number from 1 to 6", ge=1, le=6)
