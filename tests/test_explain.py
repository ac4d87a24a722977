"""What stage `explain` says of a model, on classifiers simple enough to know the answer."""

import numpy as np
import pytest

from stages.data.publisher import CLASS_NAMES
from stages.explain import embed, embedding_table, extremes, occluded
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
    drops = occlusion(looks_at(row, column), image)
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
    table = extremes(np.array([11, 12]), np.array([0, 1]), np.eye(10)[[0, 2]] * 0.9, drops, CLASS_NAMES)
    names = CLASS_NAMES
    assert table.values.tolist() == [
        [11, names[0], names[0], names[0], 0.9, 0.4, 3, 4, 0.1],
        [12, names[1], names[2], names[2], 0.9, 0.3, 7, 8, 0],
        [12, names[1], names[2], names[1], 0, 0, 0, 0, 0.2],
    ]


def test_the_map_keeps_groups_apart_and_its_table_marks_mistakes():
    features = np.concatenate([RNG.normal(5 * side, 1, size=(20, 8)) for side in (-1, 1)]).astype(np.float32)
    points = embed(features, seed=0)
    distances = np.linalg.norm(points[:, None] - points, axis=2) + np.diag(np.full(40, np.inf))
    assert ((distances.argmin(axis=1) < 20) == (np.arange(40) < 20)).all()
    table = embedding_table(
        np.array([4, 7]), np.arange(4).reshape(2, 2), np.array([0, 9]), np.array([0, 7]), CLASS_NAMES
    )
    assert table.columns.tolist() == ["image", "x", "y", "actual", "predicted", "right"]
    assert table.values.tolist() == [[4, 0, 1, "T-shirt/top", "T-shirt/top", 1], [7, 2, 3, "Ankle boot", "Sneaker", 0]]
