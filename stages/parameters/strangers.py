"""The section `strangers`."""

from stages.parameters.schema import Section, Seed, number


class Strangers(Section):
    pictures: number(int, "a whole number from 50 to 100000", ge=50, le=100000)
    false_alarms: number(float, "a number above 0, at most 0.5", gt=0, le=0.5)
    seed: Seed
