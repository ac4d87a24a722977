"""What stage `explain` says of a model, on classifiers simple enough to know the answer."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers

from stages.base.splits import CLASS_NAMES
from stages.explain import draw_filters, embed, embedding_table, extremes, occluded
from stages.explanation.filters import first_learned, patches_and_kernels, receptive_field, strongest_patches
from stages.explanation.occlusion import covered, occlusion

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(1, 256, size=(12, 28, 28, 1), dtype=np.uint8)


def looks_at(row: int, column: int):
    """A classifier of two classes: the brighter one pixel, the likelier the first."""

    def predict(images: np.ndarray) -> np.ndarray:
        chance = images[:, row, column, 0] / 255
        return np.stack([chance, 1 - chance], axis=1)

    return predict


@pytest.mark.parametrize(("row", "column"), [(9, 14), (0, 27)])
def test_covering_hurts_exactly_around_the_pixel_that_counts(row, column):
    image, expected = np.full((28, 28, 1), 204, dtype=np.uint8), np.zeros((28, 28))
    expected[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = 0.8
    drops = occlusion(looks_at(row, column), image, patch=5)
    assert drops == pytest.approx(np.stack([expected, -expected], axis=-1))  # one class gains what the other loses
    assert not occlusion(looks_at(row, column), np.zeros_like(image)).any()  # background hides nothing


def test_only_the_square_is_covered():
    images = covered(IMAGES[0], patch=3).reshape(28, 28, 28, 28)
    assert images.dtype == np.uint8
    assert (images[9, 14, 8:11, 13:16] == 0).all()
    assert (images == 0).sum(axis=(2, 3)).tolist() == [
        [(3 - (row in (0, 27))) * (3 - (column in (0, 27))) for column in range(28)] for row in range(28)
    ]
    assert ((images == IMAGES[0, ..., 0]) | (images == 0)).all()


def test_right_images_are_drawn_and_mistakes_are_the_most_confident():
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(10), size=200)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    labels = np.where(rng.random(200) < 0.5, predicted, 0)
    chosen = occluded(probabilities, labels, 6, seed=0)
    assert (predicted[chosen] == labels[chosen]).tolist() == [True] * 6 + [False] * 6
    assert confidence[chosen[6:]].tolist() == sorted(confidence[predicted != labels], reverse=True)[:6]
    assert occluded(probabilities, labels, 6, seed=0).tolist() == chosen.tolist()
    assert occluded(probabilities, labels, 6, seed=1).tolist() != chosen.tolist()
    assert len(occluded(probabilities, predicted, 6, seed=0)) == 6  # no mistakes at all


def test_the_largest_drop_and_rise_of_each_map_are_listed():
    drops = np.zeros((2, 28, 28, 10))
    drops[0, 3, 4, 0], drops[0, 5, 6, 0] = 0.4, -0.1
    drops[1, 7, 8, 2], drops[1, 9, 9, 1] = 0.3, -0.2
    table = extremes(np.array([11, 12]), np.array([0, 1]), np.eye(10)[[0, 2]] * 0.9, drops)
    names = CLASS_NAMES
    assert table.values.tolist() == [
        [11, names[0], names[0], names[0], 0.9, 0.4, 3, 4, 0.1],
        [12, names[1], names[2], names[2], 0.9, 0.3, 7, 8, 0],
        [12, names[1], names[2], names[1], 0, 0, 0, 0, 0.2],
    ]


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 0)])
def test_the_patches_shown_are_those_that_excite_a_filter_most(stride, padding):
    kernels = RNG.normal(size=(3, 3, 4))
    padded = np.pad(IMAGES[..., 0].astype(float), ((0, 0), (padding, padding), (padding, padding)), constant_values=999)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    answers = np.einsum("nhwij,ijf->nhwf", windows, kernels)
    patches = strongest_patches(lambda batch: answers, IMAGES, receptive_field([(3, stride, padding)]), count=5)
    assert patches.shape == (4, 5, 3, 3)
    inside = answers[:, padding : -padding or None, padding : -padding or None]
    best = np.sort(inside.max(axis=(1, 2)), axis=0)[::-1][:5].T  # (4, 5): one an image
    assert np.einsum("fcij,ijf->fc", patches.astype(float), kernels) == pytest.approx(best)


def network(*steps: keras.Layer) -> keras.Model:
    """From pixels through `steps` to ten logits."""
    inputs = x = keras.Input((28, 28, 1))
    for step in steps:
        x = step(x)
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    return keras.Model(inputs, layers.Dense(10, name="logits")(x))


class Unknown(layers.Layer):
    """Turns images upside down: patches in the images are not where its outputs are."""

    def call(self, inputs):
        return inputs[:, ::-1]


@pytest.mark.parametrize(
    ("before", "learned", "steps", "field"),
    [
        ([layers.Rescaling(1)], layers.Conv2D(4, 3, padding="same", name="learned"), [(3, 1, 1)], (3, 1, -1)),
        (  # of what is learned, a normalization is passed over; of what is fixed, everything
            [
                layers.BatchNormalization(),
                layers.Conv2D(4, 2, strides=2, trainable=False, name="fixed"),
                layers.MaxPooling2D(),
            ],
            layers.Conv2D(4, 3, padding="same", name="learned"),
            [(2, 2, 0), (2, 2, 0), (3, 1, 1)],
            (12, 4, -4),
        ),
        ([], layers.SeparableConv2D(4, 5, strides=2), [(5, 2, 0)], (5, 2, 0)),
    ],
)
def test_the_first_learned_convolution_is_found_with_the_steps_to_it(before, learned, steps, field):
    assert receptive_field(steps) == field
    assert first_learned(network(*before, learned, layers.Conv2D(2, 3))) == ("convolution", learned, steps)


def test_a_dense_layer_counts_only_on_the_pixels_and_nothing_behind_what_moves_them():
    on_pixels, behind = network(layers.Rescaling(1 / 255)), network(layers.MaxPooling2D())
    assert first_learned(on_pixels) == ("dense", on_pixels.get_layer("logits"), [])
    assert first_learned(behind)[:2] == ("other", behind.get_layer("logits"))
    nested = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(2, 3)])
    for front in (Unknown(), nested, layers.ZeroPadding2D(2), layers.Cropping2D(3), layers.UpSampling2D()):
        assert first_learned(network(front, layers.Conv2D(4, 3)))[:2] == ("other", front)


def test_the_kernels_are_shown_of_a_convolution_on_the_pixels_alone():
    for first, shown in ((layers.Rescaling(1 / 255), True), (layers.Conv2D(3, 2, trainable=False), False)):
        model = network(first, layers.Conv2D(4, 3, padding="same"))
        _, layer, chain = first_learned(model)
        patches, kernels = patches_and_kernels(model, layer, chain, IMAGES, most=2)
        assert patches.shape == (2, 9, *([receptive_field(chain)[0]] * 2))
        assert (kernels is not None) is shown
        if shown:
            np.testing.assert_array_equal(kernels[1], np.asarray(layer.kernel)[:, :, 0, 1])


@pytest.mark.parametrize("steps", [(), (layers.Conv2D(4, 3),), (Unknown(), layers.Conv2D(4, 3))])
def test_a_figure_is_drawn_whatever_the_first_learned_layer_is(steps):
    figure = draw_filters(network(*steps), IMAGES)
    figure.canvas.draw()
    plt.close(figure)


def test_the_map_keeps_groups_apart_and_its_table_marks_mistakes():
    features = np.concatenate([RNG.normal(5 * side, 1, size=(20, 8)) for side in (-1, 1)]).astype(np.float32)
    points = embed(features, seed=0)
    distances = np.linalg.norm(points[:, None] - points, axis=2) + np.diag(np.full(40, np.inf))
    assert ((distances.argmin(axis=1) < 20) == (np.arange(40) < 20)).all()
    table = embedding_table(np.array([4, 7]), np.arange(4).reshape(2, 2), np.array([0, 9]), np.array([0, 7]))
    assert table.columns.tolist() == ["image", "x", "y", "actual", "predicted", "right"]
    assert table.values.tolist() == [[4, 0, 1, "T-shirt/top", "T-shirt/top", 1], [7, 2, 3, "Ankle boot", "Sneaker", 0]]
