"""Trainings that end without an error, but cannot be right, are warned of."""

import re

import numpy as np
import pandas as pd
import pytest

from stages.data.publisher import CLASS_NAMES
from stages.scoring.training_warnings import training_warnings
from tests.probabilities import probabilities_for

LABELS = np.repeat(np.arange(10), 5)
FACTS = {"steps": 100, "teachers_accuracy": None, "batch_norm_momentum": 0.9}
FALLING, RISING = [2.0, 1.0, 1.2], [1.0, 2.0, 1.5]
RIGHT = probabilities_for(LABELS, 0.999)
TWO_FIFTHS_WRONG = np.where(np.arange(50) % 5 < 2, (LABELS + 1) % 10, LABELS)


@pytest.mark.parametrize(
    ("facts", "losses", "probabilities", "sentences"),
    [
        ({}, FALLING, RIGHT, []),
        ({}, RISING[:2], RIGHT, []),  # two epochs say little
        ({}, [1.0, 1.05, 1.09], RIGHT, []),
        ({"teachers_accuracy": 0.5}, FALLING, RIGHT, []),
        ({"batch_norm_momentum": 0.97}, FALLING, RIGHT, []),
        (
            {},
            FALLING,
            probabilities_for(np.zeros(50, int), 0.9),
            [
                r"recall is 10\.0 % .* about what guessing gives \(10\.0 %\).* too high or too low$",
                "never .* Trouser, Pull",
            ],
        ),
        ({}, FALLING, np.where(LABELS[:, None] == 9, RIGHT[25], RIGHT), ["are never predicted .*images: Ankle boot$"]),
        (
            {},
            FALLING,
            probabilities_for(TWO_FIFTHS_WRONG, 0.99999),
            [r"60\.0 % .* are right, but the loss is 5\.\d nats, and guessing has 2\.3: .* probably too high$"],
        ),
        ({}, RISING, RIGHT, [r"the validation loss only rose, from 1\.000 after the first epoch to 1\.500"]),
        ({"teachers_accuracy": 0.12}, FALLING, RIGHT, [r"teachers classify 12\.0 % .* about what guessing gives"]),
        (
            {"batch_norm_momentum": 0.999},
            FALLING,
            RIGHT,
            [r"after the 100 steps .* \(momentum 0\.999\) still has 90 % of its initial statistics"],
        ),
    ],
)
def test_what_cannot_be_right_is_warned_of(facts, losses, probabilities, sentences):
    found = training_warnings(FACTS | facts, pd.DataFrame({"val_loss": losses}), probabilities, LABELS, CLASS_NAMES)
    assert len(found) == len(sentences)
    for sentence, part in zip(found, sentences, strict=True):
        assert re.search(part, sentence)


def test_a_class_without_images_need_not_be_predicted():
    labels = np.repeat([0, 1], 50)
    assert (
        training_warnings(
            FACTS, pd.DataFrame({"val_loss": FALLING}), probabilities_for(labels, 0.9), labels, CLASS_NAMES
        )
        == []
    )
