"""The section `audit`."""

from stages.parameters.schema import Section, number


class Audit(Section):
    max_images: number(int, "a whole number of at least 100", ge=100)
    near_duplicate_distance: number(float, "a number from 0 to 1", ge=0, le=1)
