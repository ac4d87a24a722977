"""The section `prepare`."""

from stages.parameters.schema import Section, Seed, number


class Prepare(Section):
    val_per_class: number(int, "a whole number from 1 to 5900 (each class has 6,000 training images)", ge=1, le=5900)
    seed: Seed
