"""Near-duplicates are found, however they are moved, and only they; label issues too; figures and sentences take few."""

import keras
import numpy as np
import pandas as pd
import pytest

from stages import audit
from stages.data.transforms import shift
from stages.figures import quality as draw
from stages.figures.style import save
from stages.quality.label_issues import label_issues
from stages.quality.near_duplicates import centred, contrasts, distances, near_by_features, near_duplicates, same_bytes
from stages.trained.features import features_and_probabilities

NEAR = 0.25


def articles(count: int) -> np.ndarray:
    """Unlike images, uint8 (count, 28, 28, 1): tiles of random grey, 20 x 14 pixels in all, away from the edges."""
    images = np.zeros((count, 28, 28, 1), np.uint8)
    tiles = np.random.default_rng(0).integers(20, 256, (count, 5, 2, 1))
    images[:, 4:24, 6:20] = tiles.repeat(4, axis=1).repeat(7, axis=2)
    return images


def moved(images: np.ndarray, down: int, right: int) -> np.ndarray:
    return shift(images, np.full((len(images), 2), (down, right)))


def found(images: np.ndarray, features: np.ndarray | None = None) -> pd.DataFrame:
    """Near-duplicates by pixels and features; without these, by random ones, which tell nothing."""
    random = np.random.default_rng(1).normal(size=(len(images), 8))
    return near_duplicates(images, random if features is None else features, NEAR)


def test_alignment_undoes_a_shift_and_knows_an_empty_image():
    images = np.concatenate([articles(3), np.zeros((1, 28, 28, 1), np.uint8)])
    for down, right in ((-4, 2), (3, -6), (0, 5)):
        assert (centred(moved(images, down, right)) == centred(images)).all()
    narrow = np.zeros((1, 28, 28, 1), np.uint8)
    narrow[0, 2:5, 20:26] = 200
    rows, columns = np.nonzero(centred(narrow)[0, ..., 0])
    assert (rows.min(), rows.max()) == (12, 14)  # 12 above, 13 below
    assert (columns.min(), columns.max()) == (11, 16)


def test_the_distance_counts_the_articles_own_contrast():
    images = articles(1).astype(int)
    other = images.copy()
    other[0, 4:24, 6:20] += 30 * (2 * (np.indices((20, 14)).sum(axis=0) % 2) - 1)[..., None]  # 30 up, 30 down
    pair = np.concatenate([images, other])
    grey = images[images > 0]
    own = np.sqrt(((grey - grey.mean()) ** 2).sum())
    assert contrasts(images) == pytest.approx([own], rel=1e-5)
    scale = np.array([own, own])
    apart = distances(pair, pair, scale, np.array([[0, 1], [1, 1]]), NEAR)
    assert apart == pytest.approx([30 * np.sqrt(280) / own, 0], rel=1e-5)


def test_shifted_mirrored_and_noisy_copies_are_found_and_nothing_else():
    images = articles(40)
    assert len(found(images[:2])) == 0
    noise = np.random.default_rng(2).integers(-8, 9, (20, 14, 1))
    noisy = images[2:3].copy()
    noisy[0, 4:24, 6:20] = np.clip(noisy[0, 4:24, 6:20] + noise, 0, 255)
    copies = [moved(images[:1], 3, -5), moved(images[1:2, :, ::-1], -2, 4), noisy]
    table = found(np.concatenate([images, *copies])).set_index("first")
    assert table["second"].to_dict() == {0: 40, 1: 41, 2: 42}
    assert table["mirrored"].to_dict() == {0: 0, 1: 1, 2: 0}
    assert table["exact"].tolist() == [0, 0, 0]
    assert table.loc[[0, 1], "distance"].tolist() == [0, 0]
    assert 0 < table.loc[2, "distance"] < NEAR


def test_every_pair_stands_once_nearest_first_and_exact_ones_are_marked():
    images = articles(30)
    symmetric = np.concatenate([images[:1, :, :14], images[:1, :, 13::-1]], axis=2)  # its own mirror image
    images = np.concatenate([images, images[4:5], images[4:5], symmetric, symmetric, moved(images[1:2], 1, 1)])
    images[34, 10:14] -= images[34, 10:14] // 8
    assert same_bytes(images).tolist() == [[4, 30], [4, 31], [30, 31], [32, 33]]
    table = found(images, features=images.reshape(len(images), -1))
    pairs = list(zip(table["first"], table["second"], strict=True))
    assert pairs == [(4, 30), (4, 31), (30, 31), (32, 33), (1, 34)]
    assert table["distance"].tolist()[:4] == [0, 0, 0, 0]
    assert 0 < table["distance"].iloc[4] < NEAR
    assert table["exact"].tolist() == [1, 1, 1, 1, 0]
    assert table["found_in"].tolist()[:4] == ["both"] * 4


def test_features_find_what_the_alignment_spoils():
    images = articles(30)
    copy = images[3:4].copy()
    copy[0, 10, 20:22] = 12  # two faint pixels beside the article: its box is two pixels wider, its middle one further
    features = np.eye(31)
    features[30] = features[3]
    row = found(np.concatenate([images, copy]), features).iloc[0]
    assert (row["first"], row["second"], row["found_in"]) == (3, 30, "features")


def test_near_duplicates_and_neighbours_are_found_however_far_apart_they_stand():
    count = 1100  # more than two blocks of rows
    images = articles(count)
    images[-10:] = moved(images[:10], 1, 2)
    assert found(images)[["first", "second"]].to_numpy().tolist() == [[i, count - 10 + i] for i in range(10)]
    features = np.random.default_rng(1).normal(size=(count, 8))
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = units @ units.T
    np.fill_diagonal(similarity, -np.inf)
    expected = {tuple(sorted((i, j))) for i, row in enumerate(similarity) for j in np.argsort(-row)[:3]}
    assert set(map(tuple, near_by_features(features))) == expected


def test_a_model_without_a_dense_layer_lends_its_logits():
    keras.config.set_dtype_policy("float32")
    inputs = keras.Input((28, 28, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    assert features_and_probabilities(keras.Model(inputs, pooled), articles(3))[0].shape == (3, 1)
    dense = keras.layers.Dense(10)(pooled)
    scaled = keras.layers.Rescaling(0.1)(dense)
    assert features_and_probabilities(keras.Model(inputs, scaled), articles(3))[0][:, 0] == pytest.approx(
        articles(3).mean(axis=(1, 2, 3)), rel=1e-4
    )


def parts_of(images: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The images as train, val and test, equally many in each, with labels 0, 1, 2, 0, 1, 2 ..."""
    labels = np.arange(len(images)) % 3
    return dict(zip(("train", "val", "test"), zip(np.split(images, 3), np.split(labels, 3), strict=True), strict=True))


def test_pairs_are_named_and_counted_by_split():
    images = articles(30)
    images[10], images[21], images[23], images[29] = images[1], images[1], images[2], images[2]
    parts = parts_of(images)
    table = audit.named_pairs(found(images), parts)
    named = {(row.split_a, row.image_a, row.split_b, row.image_b) for row in table.itertuples()}
    assert named == {
        ("train", 1, "val", 0),
        ("train", 1, "test", 1),
        ("val", 0, "test", 1),
        ("train", 2, "test", 3),
        ("train", 2, "test", 9),
        ("test", 3, "test", 9),
    }
    for row in table.itertuples():
        assert row.label_a == audit.CLASS_NAMES[parts[row.split_a][1][row.image_a]]
        assert row.label_b == audit.CLASS_NAMES[parts[row.split_b][1][row.image_b]]
    counts = audit.count_near_duplicates(table, NEAR, 0.95)
    assert counts["pairs"]["train-test"] == {"exact": 3, "near": 0}
    assert counts["pairs"]["val-test"] == {"exact": 1, "near": 0}
    assert counts["pairs"]["train-train"] == {"exact": 0, "near": 0}
    assert counts["test_with_near_duplicate"] == 3
    assert counts["different_labels"] == sum(
        parts[row.split_a][1][row.image_a] != parts[row.split_b][1][row.image_b] for row in table.itertuples()
    )
    assert (counts["groups"], counts["groups_with_different_labels"]) == (2, 1)
    first = audit.shown_pairs(table).iloc[0]
    assert first["label_a"] != first["label_b"]


def wrongly_labelled() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of 300 images: five of class 5 are labelled 2, five of class 7 are labelled 9."""
    labels = np.arange(300) % 10
    chances = np.random.default_rng(0).uniform(0.6, 1, 300)
    chances[5:50:10], chances[7:50:10] = 1, 1
    probabilities = np.eye(10)[labels] * chances[:, None] + 0.01
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels[5:50:10], labels[7:50:10] = 2, 9
    return probabilities, labels


def test_labels_flipped_on_purpose_are_flagged():
    probabilities, labels = wrongly_labelled()
    rows, estimate = label_issues(probabilities, labels)
    assert sorted(rows["place"]) == sorted([*range(5, 50, 10), *range(7, 50, 10)])
    assert {(row.place % 10, row.given, row.suggested) for row in rows.itertuples()} == {(5, 2, 5), (7, 9, 7)}
    assert (rows["probability_given"] < rows["probability_suggested"]).all()
    assert rows["probability_given"].is_monotonic_increasing
    assert estimate == 10


def test_label_issues_are_named_and_ranked_within_their_split():
    rows = pd.DataFrame({"place": [12, 3, 14], "given": [9, 2, 9], "suggested": [7, 5, 7]})
    rows = rows.assign(probability_given=[0.01, 0.02, 0.03], probability_suggested=0.9)
    table = audit.named_label_issues(rows, np.repeat(["train", "val"], 10), np.r_[:10, :10])
    assert table[["split", "image", "given", "suggested", "rank"]].to_numpy().tolist() == [
        ["val", 2, "Ankle boot", "Sneaker", 1],
        ["train", 3, "Pullover", "Sandal", 1],
        ["val", 4, "Ankle boot", "Sneaker", 2],
    ]


def test_sound_labels_are_not_flagged_though_a_class_is_missing(recwarn):
    probabilities, labels = wrongly_labelled()
    sound = np.flatnonzero((probabilities.argmax(axis=1) == labels) & (labels != 4))
    rows, estimate = label_issues(probabilities[sound], labels[sound])
    assert (len(rows), estimate) == (0, 0)
    assert not recwarn.list
    assert len(audit.named_label_issues(rows, np.repeat("test", 300), np.arange(300))) == 0


def test_the_reasoning_gives_the_share_and_bears_nothing_found():
    none = audit.count_near_duplicates(audit.named_pairs(found(articles(3)), parts_of(articles(3))), NEAR, 0.95)
    assert (none["pairs_in_all"], none["groups"], none["groups_with_different_labels_ends"]) == (0, 0, [0, 1])
    words = audit.reasoning(40, 10, none)
    assert "10 of the 40 mistakes" in words
    assert "25 %" in words
    assert "no near-duplicates" in words
    assert "no mistake" in audit.reasoning(0, 0, none)


@pytest.mark.parametrize("count", [0, 1, 30])
def test_figures_of_none_one_and_more_than_are_shown(count, tmp_path):
    images = {"train": articles(2), "test": articles(2)}
    columns = ["split_a", "image_a", "label_a", "split_b", "image_b", "label_b", "distance", "exact", "mirrored"]
    pairs = pd.DataFrame([("train", 0, "Coat", "test", 1, "Shirt", 0.1, 0, 1)] * count, columns=columns)
    columns = ["split", "image", "given", "suggested", "probability_given", "probability_suggested"]
    issues = pd.DataFrame([("test", 1, "Coat", "Shirt", 0.01, 0.9)] * count, columns=columns)
    for figure in (draw.near_duplicates(pairs, images, NEAR), draw.label_issues(issues, images)):
        save(figure, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 1000
