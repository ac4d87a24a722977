"""The section `report`."""

from stages.parameters.schema import Section, Seed, number


class Report(Section):
    seed: Seed
    samples: number(int, "a whole number from 1 to 40", ge=1, le=40)
