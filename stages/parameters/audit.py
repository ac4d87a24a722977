"""The section `audit`."""

from stages.parameters.schema import Section, number


class Audit(Section):
    max_images: number(int, "a whole number from 100 to 1000000", ge=100, le=10**6)
    near_duplicate_distance: number(float, "a number from 0 to 1", ge=0, le=1)
