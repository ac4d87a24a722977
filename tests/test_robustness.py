"""Corruptions do what they are called, out-of-distribution inputs are what they say, and the tables count right."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from stages.data.resize import border_of
from stages.figures import robustness as draw_robustness
from stages.stress.corruptions import KINDS, LEVELS, STRENGTHS, UNITS, affine, corrupt, level_of, rotation
from stages.stress.ood import INPUTS, detection, draw_ood
from stages.stress.robustness import ood_detection, robustness, summary

RANDOM = {"noise", "rotation", "shear", "translation", "occlusion"}


@pytest.fixture(scope="module")
def images(images) -> np.ndarray:
    return images[0][:100, ..., None]


def test_every_kind_has_its_strengths_and_unit():
    assert list(KINDS) == list(LEVELS) == list(UNITS)
    assert all(len(levels) == len(STRENGTHS) for levels in LEVELS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_strength_changes_more_than_the_one_before_and_repeats_with_its_seed(images, kind):
    assert corrupt(images, kind, 0, seed=0) is images
    changed = [corrupt(images, kind, strength, seed=0) for strength in STRENGTHS]
    assert {(each.dtype, each.shape) for each in changed} == {(np.dtype(np.uint8), images.shape)}
    changes = [np.abs(each.astype(float) - images).mean() for each in changed]
    assert changes == sorted(changes)
    assert changes[4] > 1.5 * changes[0] > 0
    assert np.array_equal(changed[2], corrupt(images, kind, 3, seed=0))
    assert np.array_equal(changed[2], corrupt(images, kind, 3, seed=1)) == (kind not in RANDOM)
    for strength in (1, 5):  # images of one seed do not all change alike
        same = corrupt(np.repeat(images[:1], 50, axis=0), kind, strength, seed=0)
        assert (len(np.unique(same, axis=0)) > 1) == (kind in RANDOM)


def test_grey_levels_change_as_the_kind_says(images):
    pair = np.zeros((1, 28, 28, 1), np.uint8)
    pair[:, :14], pair[:, 14:] = 100, 250
    assert np.unique(corrupt(pair, "brightness", 1, seed=0)).tolist() == [120, 255]
    assert np.unique(corrupt(pair, "contrast", 3, seed=0)).tolist() == [145, 205]  # 175 -+ 40 % of 75
    assert np.array_equal(corrupt(images, "inversion", 5, seed=0), 255 - images)
    grey = np.full((50, 28, 28, 1), 128, np.uint8)
    assert corrupt(grey, "noise", 3, seed=0).std() == pytest.approx(LEVELS["noise"][2], rel=0.02)


def test_a_quarter_turn_is_about_the_middle_and_an_affine_change_by_nothing_keeps_everything(images):
    turned = rotation(images, 90, np.random.default_rng(0))
    left, right = ((turned == np.rot90(images, turns, axes=(1, 2))).all(axis=(1, 2, 3)) for turns in (1, -1))
    assert (left ^ right).all()
    assert 0 < left.sum() < len(images)
    assert np.array_equal(affine(images, np.eye(2)), images)


def test_an_affine_change_is_scipys():
    image = np.random.default_rng(0).integers(256, size=(1, 9, 12, 3), dtype=np.uint8)
    matrix, offset = np.array([[0.8, 0.3], [-0.5, 1.3]]), (1.5, -0.7)
    middle = np.array([4, 5.5])
    for channel in range(3):
        expected = ndimage.affine_transform(
            image[0, ..., channel].astype(float),
            matrix,
            middle - matrix @ middle + offset,
            order=1,
            mode="grid-constant",
            cval=float(border_of(image)[..., channel].item()),
        )
        np.testing.assert_allclose(affine(image, matrix, offset)[0, ..., channel], expected, atol=0.5001)


@pytest.mark.parametrize("kind", ["blur", "rotation", "shear", "scale", "translation"])
def test_what_comes_from_outside_has_the_color_of_the_border_of_each_image(kind):
    colors = np.array([[0, 0, 0], [255, 255, 255], [200, 100, 7]], np.uint8)
    images = colors[:, None, None].repeat(12, 1).repeat(12, 2)
    images[:, 5:7, 5:7] = 90
    changed = corrupt(images, kind, 5, seed=0)
    assert (changed[:, 0, 0] == colors).all()
    assert (border_of(changed)[:, 0, 0] == colors).all()


def test_levels_in_pixels_are_told_for_the_size_of_the_images():
    assert [level_of("occlusion", 5, height) for height in (8, 28, 56)] == [5, 16, 32]
    assert (level_of("blur", 1, 56), level_of("noise", 1, 56)) == (1, 5)
    rows = [("a", kind, strength, 1.0) for kind in KINDS for strength in range(6)]
    table = pd.DataFrame(rows, columns=["model", "corruption", "strength", "accuracy"])
    figure = draw_robustness.strengths(table, "a", height=56)
    assert {"100  (8)", "100  (32)"} <= {text.get_text() for text in figure.axes[0].texts}
    plt.close(figure)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_dot_moves_by_whole_pixels_along_one_axis_in_all_four_directions(strength):
    dots = np.zeros((100, 28, 28, 1), np.uint8)
    dots[:, 12, 15] = 200
    moved = corrupt(dots, "translation", strength, seed=0)
    pixels = LEVELS["translation"][strength - 1]
    assert (moved.sum(axis=(1, 2, 3)) == 200).all()
    places = {(int(row) - 12, int(column) - 15) for row, column in np.argwhere(moved == 200)[:, 1:3]}
    assert places == {(-pixels, 0), (pixels, 0), (0, -pixels), (0, pixels)}


@pytest.mark.parametrize("kind", ["shear", "scale", "blur"])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_shear_scale_and_blur_keep_the_middle_and_the_grey(kind, strength):
    square = np.zeros((20, 28, 28, 1), np.uint8)
    square[:, 4:24, 4:24] = 200
    changed = corrupt(square, kind, strength, seed=0).astype(float)[..., 0]
    masses = changed.sum(axis=(1, 2))
    middles = (changed * np.arange(28)).sum(axis=(1, 2)) / masses
    assert middles == pytest.approx(np.full(20, 13.5), abs=0.05)
    share = (LEVELS["scale"][strength - 1] / 100) ** 2 if kind == "scale" else 1
    assert masses == pytest.approx(np.full(20, share * 200 * 400), rel=0.02)


@pytest.mark.parametrize("strength", [1, 5])
def test_occlusion_is_one_whole_square_and_reaches_every_pixel(strength):
    hidden = corrupt(np.zeros((2000, 28, 28, 1), np.uint8), "occlusion", strength, seed=0)[..., 0] > 0
    side = LEVELS["occlusion"][strength - 1]
    assert (hidden.any(axis=1).sum(axis=1) == side).all()
    assert (hidden.sum(axis=(1, 2)) == side**2).all()
    assert hidden.any(axis=0).all()


@pytest.mark.parametrize("name", INPUTS)
def test_an_ood_input_is_a_function_of_the_seed(name):
    inputs = draw_ood(name, 30, (28, 28, 1), seed=1)
    assert (inputs.dtype, inputs.shape) == (np.uint8, (30, 28, 28, 1))
    assert np.array_equal(inputs, draw_ood(name, 30, (28, 28, 1), seed=1))
    assert np.array_equal(inputs, draw_ood(name, 30, (28, 28, 1), seed=2)) == (name == "blank")
    assert len(np.unique(inputs, axis=0)) == 30


def test_strokes_are_thin_and_in_the_middle_noise_has_every_grey_and_blank_images_one_each():
    light = draw_ood("strokes", 200, (28, 28, 1), seed=0)[..., 0] > 100
    assert 0.03 < light.mean(axis=(1, 2)).min() < light.mean(axis=(1, 2)).max() < 0.3
    assert not light[:, :3].any()
    assert not light[:, :, :2].any()
    assert np.median(light.any(axis=2).sum(axis=1)) in (19, 20, 21)
    counts = np.bincount(draw_ood("noise", 200, (28, 28, 1), seed=0).ravel(), minlength=256)
    assert counts.min() > 0.8 * counts.mean()
    blank = draw_ood("blank", 6, (28, 28, 1), seed=0)
    assert blank[:, 0, 0, 0].tolist() == [0, 51, 102, 153, 204, 255]
    assert (blank == blank[:, :1, :1]).all()


def test_detection_of_confidences_counted_by_hand():
    known = np.arange(1, 101) / 100
    assert detection(known, known - 1) == {"auroc": 1, "fpr_at_95": 0}
    assert detection(known - 1, known) == {"auroc": 0, "fpr_at_95": 1}
    assert detection(known, known)["auroc"] == 0.5
    # 0.06 is the highest threshold that 95 of the 100 pass; two of the four below reach it
    assert detection(known, np.array([0.01, 0.055, 0.06, 0.5]))["fpr_at_95"] == 0.5
    # of 3 x 2 pairs the known one is higher in four and level in one
    assert detection(np.array([0.3, 0.6, 0.9]), np.array([0.3, 0.5]))["auroc"] == pytest.approx(4.5 / 6)


def by_brightness(images: np.ndarray) -> np.ndarray:
    """A classifier that is sure of class 1 where an image is bright, and less sure of class 0 where it is dark."""
    bright = images.mean(axis=(1, 2, 3)) > 127
    answers = np.zeros((len(images), 10))
    answers[bright, 1], answers[~bright, 0], answers[~bright, 1] = 1, 0.75, 0.25
    return answers


def test_the_tables_of_a_classifier_that_knows_bright_from_dark():
    images = np.zeros((8, 28, 28, 1), np.uint8)
    images[6:, 1:-1, 1:-1] = 255
    labels = np.repeat([0, 1], [6, 2])
    table = robustness(by_brightness, by_brightness(images), images, labels, seed=0, confidence=0.95)
    clean = table[table["strength"] == 0]
    assert clean["corruption"].tolist() == list(KINDS)
    assert (clean[["accuracy", "confidence"]] == (1, (6 * 0.75 + 2) / 8)).all(axis=None)
    accuracy = table.set_index(["corruption", "strength"])["accuracy"]
    assert accuracy["inversion"].tolist() == [1, 1, 1, 0, 0, 0]
    assert accuracy["scale", 5] == 0.75  # the two bright ones are three quarters black
    assert accuracy["brightness", 5] == 1
    ends = table.loc[(table["corruption"] == "scale") & (table["strength"] == 5), ["accuracy_low", "accuracy_high"]]
    assert ends.iloc[0].tolist() == pytest.approx([0.4093, 0.9285], abs=1e-4)  # Wilson: 6 of 8

    found = ood_detection(by_brightness, by_brightness(images), (28, 28, 1), seed=0).set_index("input")
    assert found.index.tolist() == list(INPUTS)
    assert (found["clean_confidence"] == (6 * 0.75 + 2) / 8).all()
    assert found.loc["strokes", "mean_confidence"] == 0.75
    assert found.loc["blank", "mean_confidence"] == 0.875
    assert found.loc["strokes", "auroc"] == (2 + 6 / 2) / 8


def test_the_summary_leaves_the_clean_images_out():
    rows = [("a", 0, 1.0), ("a", 1, 0.8), ("a", 2, 0.6), ("b", 0, 1.0), ("b", 1, 0.5), ("b", 2, 0.3)]
    table = pd.DataFrame(rows, columns=["corruption", "strength", "accuracy"])
    numbers = summary(table, pd.DataFrame({"auroc": [0.9, 0.6]}))
    assert numbers == {"accuracy": 0.55, "details": [{"worst_accuracy": 0.4, "mean_auroc": 0.75}]}
