"""The section `audit`."""

from stages.parameters.schema import Section, number


class Audit(Section):
    near_duplicate_distance: number(float, "a number from 0 to 1", ge=0, le=1)
