"""Images of any size, grey or in colour, and any number of classes: shapes come from the data alone."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from stages import models
from stages.eda import mean_distance_to_neighbours, overlap
from stages.explanation.occlusion import occlusion, patch_for
from stages.figures import eda, explanation, quality, results, robustness
from stages.figures.style import as_shown, figure_names, save, short, tiled
from stages.layers.whitening import whitening_kernel
from stages.page.inline import COLUMNS, sheet
from stages.page.payload import MOST_IMAGES, PAIRS, answers, payload, shown
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


@pytest.mark.parametrize(("dataset", "corner"), [("fashion-mnist", 255), ("mine", 0)])
def test_grey_images_are_shown_as_they_are_but_for_fashion_mnists(dataset, corner):
    images = np.zeros((1, 8, 8, 1), np.uint8)
    figure = eda.image_grid([as_shown(images, dataset)], ["name"], "title")
    (drawn,) = figure.axes[0].images
    assert (drawn.to_rgba(drawn.get_array())[0, 0, :3] == corner / 255).all()
    plt.close(figure)
    columns = tiled([images, images])[8]
    assert (columns == 255).all()  # the gap is white


@pytest.mark.parametrize(("shape", "classes"), SHAPES)
def test_figures_and_page_show_images_of_any_shape(shape, classes):
    height, width, channels = shape
    images = images_of(shape, COLUMNS + 1)
    assert tiled([images[:3], images[:2]], 3).shape == (2 * height + 3, 3 * width + 6, channels)
    with Image.open(io.BytesIO(base64.b64decode(sheet(images).partition(",")[2]))) as decoded:
        assert decoded.size == (COLUMNS * width, 2 * height)
        last = np.asarray(decoded)[height:, :width].mean()
    assert last == pytest.approx(images[-1].mean(), abs=8)
    probabilities, labels = RNG.dirichlet(np.ones(classes), 40), RNG.integers(classes, size=40)
    found = answers(probabilities, labels)
    assert (found[:, 0] == probabilities.argmax(axis=1)).all()
    assert found.shape == (40, 2 * min(3, classes))


def test_copies_in_colour_are_found_and_covered_places_are_of_every_colour():
    images = images_of((16, 16, 3), 40)
    images[7] = images[3]
    found = near_duplicates(images, 0.05)
    assert found[["first", "second", "exact"]].values.tolist() == [[3, 7, 1]]
    drops = occlusion(lambda covered: covered.mean(axis=(1, 2)) / 255, images[0])
    assert drops.shape == (16, 16, 3)
    assert patch_for(images[0]) == 3
    assert drops[8, 8] == pytest.approx(images[0, 7:10, 7:10].sum(axis=(0, 1)) / 255 / 256)


STRANGE = [
    "猫",
    "قطة",
    "cat 😀",
    "$x_1$ and $y",
    "a price of 5 $",
    '<b>bold & "quoted"',
    "_under",
    "nan",
    "a long name " * 5,
]


@pytest.fixture(autouse=True)
def no_open_figures():
    yield
    plt.close("all")


def names_of(count: int) -> list[str]:
    return [*STRANGE, *(f"species {number} of a genus" for number in range(count))][:count]


def overlapping(texts: list) -> list[tuple[str, str]]:
    """The pairs of texts that cover each other."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    return [(a, b) for place, (a, box) in enumerate(boxes) for b, other in boxes[:place] if box.overlaps(other)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [2, 9, 12, 20, 200])
def test_figures_of_any_number_of_classes_of_any_name_can_be_read(classes):
    names, labels = figure_names(names_of(classes)), np.repeat(np.arange(classes), 3)
    probabilities = RNG.dirichlet(np.full(classes, 0.2), len(labels))
    counts, points = (
        confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(probabilities.shape[1])),
        RNG.normal(size=(len(labels), 2)),
    )
    tables = (
        pd.DataFrame({"class": names, "images": range(classes)}),
        pd.DataFrame({"right": 0, "x": 0, "y": points[:, 1]}),
    )
    figures = [
        results.confusion(counts, names, "model"),
        eda.class_overlap(counts / 3, names, 10),
        eda.class_balance(tables[0]),
        eda.embeddings({"a": points, "b": 0 * points}, labels, names),
        explanation.embedding(tables[1], labels, 8, names),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        for axes in figure.axes:
            assert overlapping(axes.texts) == []
            assert overlapping(axes.get_yticklabels()) == []
            assert len(axes.get_yticklabels()) <= 21
        assert figure.bbox.contains(*figure.axes[0].get_tightbbox().max)
        plt.close(figure)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("shape", "classes"), SHAPES)
def test_figures_of_images_have_the_same_size_whatever_the_images_have(shape, classes, tmp_path):
    images, names = images_of(shape), figure_names(names_of(classes))
    rows, labels = [images] * 5, np.arange(12) % classes
    probabilities = RNG.dirichlet(np.ones(classes), 12)
    pairs = pd.DataFrame({"split_a": ["test"], "image_a": 0, "label_a": names[0], "split_b": "test", "image_b": 1})
    pairs = pairs.assign(label_b=names[1], distance=0.1, exact=0, mirrored=1)
    issues = pd.DataFrame({"split": ["test"], "image": 1, "given": names[0], "suggested": names[1]})
    issues = issues.assign(probability_given=0.1, probability_suggested=0.9)
    drops = RNG.normal(size=(4, *shape[:2], classes))
    grid = eda.image_grid(rows, figure_names(names_of(5)), "title")
    assert grid.get_size_inches()[1] == pytest.approx(5 * 31 / 48 + 0.4, abs=0.1)
    assert tiled(rows).shape[0] == pytest.approx(5 * shape[0] * (1 + 3 / 28), rel=0.05)
    flagged = quality.label_issues(issues, {"test": images})
    assert flagged.axes[0].images[0].get_extent() == [-0.5, 27.5, 27.5, -0.5]  # its texts stand beside it
    for figure in (
        grid,
        eda.typical_and_unusual(rows, [images[:1]] * 5, figure_names(names_of(5))),
        results.predictions(images, labels, probabilities, names, "title"),
        quality.near_duplicates(pairs, {"test": images}, 0.2),
        flagged,
        robustness.samples(images, 0),
        explanation.occlusion(
            images[:4], labels[:4], probabilities[:4], drops, 3, names, "" if shape[-1] == 3 else "object"
        ),
    ):
        save(figure, tmp_path / "figure.png")
        with Image.open(tmp_path / "figure.png") as drawn:
            red, _, blue = np.asarray(drawn.convert("RGB"), int).T
        assert (shape[-1] == 3) <= (abs(red - blue).max() > 50)


def test_names_are_shortened_in_the_middle_and_numbered_if_no_font_has_their_letters():
    assert figure_names(["plain", "x" * 30 + "yz", "\U000f0000", "two\nlines"])[::2] == ["plain", "class 2"]
    found = figure_names(["x" * 30 + "yz", "two\nlines", "5 $"])
    assert len(found[0]) == 20
    assert found[0].endswith("yz")
    assert found[1:] == ["two lines", r"5 \$"]
    assert short(short("a $ and a $", 9), 9) == short("a $ and a $", 9)


def test_the_curves_of_two_classes_are_named_by_their_areas():
    labels, chances = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    found = {"labels": labels, "probabilities": np.stack([1 - chances, chances], axis=1)}
    (text,) = (line.get_label() for line in results.roc({"model": found}, ["no", "yes"]).axes[0].lines[:-1])
    assert "75.00 %" in text


def test_the_page_has_room_for_so_many_images_and_pairs_of_many_classes():
    labels = np.arange(20000) % 200
    predictions = {"model": {"probabilities": np.eye(200)[(labels + labels % 2) % 200], "labels": labels}}
    chosen = {"model": {"random": np.array([0, 19999])}}
    for pixels, most in ((64, MOST_IMAGES), (784, MOST_IMAGES), (4 * 784, MOST_IMAGES // 4)):
        images = shown(predictions, chosen, 0, pixels)
        assert len(images) == most
        assert {0, 19999} <= set(images)
    curves = pd.DataFrame(columns=["model", "seed"])
    data = payload(predictions, images, chosen, curves, {"model": 0}, ["model"], {}, names_of(200))
    assert len(data["confusion"]["model"]) == PAIRS
    assert data["confusion"]["model"][0] == (1, 2, 100)
    assert data["missing"] == 10000 - (labels[images] % 2 == 1).sum() > 0
    assert (data["correct"]["model"], data["tested"][7]) == (10000, 100)


def test_few_images_have_neighbours_too():
    features = np.array([[0.0], [1], [5]])
    assert overlap(features, np.array([0, 0, 1]), np.arange(3)).tolist() == [[0.5, 0.5], [1, 0]]
    assert mean_distance_to_neighbours(features[:1]).tolist() == [0]
