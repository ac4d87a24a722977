"""The section `eda`."""

from stages.parameters.schema import Section, Seed, number


class Eda(Section):
    seed: Seed
    samples_per_class: number(int, "a whole number from 1 to 30", ge=1, le=30)
    max_images: number(int, "a whole number from 100 to 1000000", ge=100, le=10**6)
    embedded_images: number(int, "a whole number from 100 to 60000", ge=100, le=60000)
