"""The section `statistics`."""

from stages.parameters.schema import Section, Seed, number

Confidence = number(float, "a number above 0, below 1", gt=0, lt=1)


class Statistics(Section):
    confidence: Confidence
    resamples: number(int, "a whole number from 100 to 100000", ge=100, le=100000)
    bins: number(int, "a whole number from 2 to 100", ge=2, le=100)
    seed: Seed
