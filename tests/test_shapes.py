"""Images of any size, grey or in colour, and any number of classes: shapes come from the data alone."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from stages import models
from stages.explanation.occlusion import occlusion, patch_for
from stages.figures.style import tiled
from stages.layers.whitening import whitening_kernel
from stages.page.inline import COLUMNS, sheet
from stages.page.payload import answers, confusion_counts
from stages.quality.near_duplicates import near_duplicates
from stages.stress.corruptions import KINDS, corrupt
from stages.stress.ood import INPUTS, draw_ood
from stages.trained.features import features_and_probabilities
from stages.training import fit
from tests.conftest import block_of
from tests.models import small

SHAPES = [((8, 8, 1), 2), ((16, 16, 3), 3), ((96, 96, 3), 200)]
RNG = np.random.default_rng(0)


def images_of(shape: tuple[int, int, int], count: int = 12) -> np.ndarray:
    return RNG.integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.mark.parametrize(("shape", "classes"), SHAPES)
@pytest.mark.parametrize("name", models.names())
def test_every_model_takes_images_of_any_shape(name, shape, classes):
    model = fit.build(models.load(name), models.read_block(name), images_of(shape), classes)
    assert (model.input_shape, model.output_shape) == ((None, *shape), (None, classes))


def test_a_training_in_colour_with_every_feature_learns():
    labels = np.arange(96) % 3
    images = images_of((32, 32, 3), 96) // 8
    images[np.arange(96), ..., labels] += 200  # each class is one of the three colours
    block = block_of("small", epochs=4, batch_size=32)
    trained = fit.train(small, block, 0, images, labels, images, labels)
    _, probabilities = features_and_probabilities(trained.model, images)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.9


def test_a_whitening_of_colours_decorrelates_them():
    images = RNG.normal(size=(50, 9, 9, 3)) @ RNG.normal(size=(3, 3))
    kernel = whitening_kernel(images, epsilon=0)
    assert kernel.shape == (2, 2, 3, 24)
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))
    found = np.einsum("nhwcij,ijcf->nhwf", windows, kernel[..., :12]).reshape(-1, 12)
    assert found.T @ found / len(found) == pytest.approx(np.eye(12), abs=1e-3)


@pytest.mark.parametrize(("shape", "classes"), SHAPES)
def test_corruptions_and_strange_inputs_have_the_shape_of_the_images(shape, classes):
    images = images_of(shape)
    for kind in KINDS:
        changed = corrupt(images, kind, 3, seed=0)
        assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
        assert (changed != images).any()
    for name in INPUTS:
        assert draw_ood(name, 5, shape, seed=0).shape == (5, *shape)


def test_a_corruption_treats_every_colour_alike():
    grey = images_of((16, 16, 1))
    for kind in set(KINDS) - {"noise"}:  # which is independent for each colour
        colours = corrupt(np.repeat(grey, 3, axis=-1), kind, 4, seed=0)
        assert (colours == corrupt(grey, kind, 4, seed=0)).all()


@pytest.mark.parametrize(("shape", "classes"), SHAPES)
def test_figures_and_page_show_images_of_any_shape(shape, classes):
    height, width, channels = shape
    images = images_of(shape, COLUMNS + 1)
    assert tiled([images[:3], images[:2]], 3).shape == (2 * height + 3, 3 * width + 6, channels)
    with Image.open(io.BytesIO(base64.b64decode(sheet(images).partition(",")[2]))) as decoded:
        assert decoded.size == (COLUMNS * width, 2 * height)
        last = np.asarray(decoded)[height:, :width].mean()
    assert last == pytest.approx(255 - images[-1].mean() if channels == 1 else images[-1].mean(), abs=8)
    probabilities, labels = RNG.dirichlet(np.ones(classes), 40), RNG.integers(classes, size=40)
    assert confusion_counts(probabilities, labels).shape == (classes, classes)
    found = answers(probabilities, labels)
    assert (found[:, 0] == probabilities.argmax(axis=1)).all()
    assert found.shape == (40, 2 * min(3, classes))


def test_copies_in_colour_are_found_and_covered_places_are_of_every_colour():
    images = images_of((16, 16, 3), 40)
    images[7] = images[3]
    found = near_duplicates(images, RNG.normal(size=(40, 8)), 0.05)
    assert found[["first", "second", "exact"]].values.tolist() == [[3, 7, 1]]
    drops = occlusion(lambda covered: covered.mean(axis=(1, 2)) / 255, images[0])
    assert drops.shape == (16, 16, 3)
    assert patch_for(images[0]) == 3
    assert drops[8, 8] == pytest.approx(images[0, 7:10, 7:10].sum(axis=(0, 1)) / 255 / 256)
