"""Near-duplicates are found, however they are moved, and only they; label issues too; figures and sentences take few."""

import keras
import numpy as np
import pandas as pd
import pytest

from stages import audit
from stages.data.publisher import CLASS_NAMES
from stages.data.transforms import shift
from stages.figures import quality as draw
from stages.figures.style import save
from stages.quality.label_issues import label_issues
from stages.quality.near_duplicates import SLACK, candidates, centred, contrasts, distances, near_duplicates
from stages.trained.features import features_and_probabilities

NEAR = 0.25
EMPTY = np.zeros((1, 28, 28, 1), np.uint8)


def articles(count: int) -> np.ndarray:
    """Unlike images, uint8 (count, 28, 28, 1): tiles of random grey, 20 x 14 pixels in all, away from the edges."""
    images = np.zeros((count, 28, 28, 1), np.uint8)
    tiles = np.random.default_rng(0).integers(20, 256, (count, 5, 2, 1))
    images[:, 4:24, 6:20] = tiles.repeat(4, axis=1).repeat(7, axis=2)
    return images


def moved(images: np.ndarray, down: int, right: int) -> np.ndarray:
    return shift(images, np.full((len(images), 2), (down, right)))


def test_alignment_undoes_a_shift_and_knows_an_empty_image():
    images = np.concatenate([articles(3), EMPTY])
    for down, right in ((-4, 2), (3, -6), (0, 5)):
        assert (centred(moved(images, down, right)) == centred(images)).all()
    narrow = EMPTY.copy()
    narrow[0, 2:5, 20:26] = 200
    rows, columns = np.nonzero(centred(narrow)[0, ..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 14, 11, 16)  # 12 above, 13 below


def test_the_distance_counts_the_articles_own_contrast():
    images = articles(1).astype(int)
    other = images.copy()
    other[0, 4:24, 6:20] += 30 * (2 * (np.indices((20, 14)).sum(axis=0) % 2) - 1)[..., None]  # 30 up, 30 down
    pair, grey = np.concatenate([images, other]), images[images > 0]
    own = np.sqrt(((grey - grey.mean()) ** 2).sum())
    assert contrasts(images) == pytest.approx([own], rel=1e-5)
    apart = distances(pair, pair, np.array([own, own]), np.array([[0, 1], [1, 1]]), NEAR)
    assert apart == pytest.approx([30 * np.sqrt(280) / own, 0], rel=1e-5)


def test_copies_are_found_however_they_are_changed_and_wherever_they_stand_and_nothing_else():
    images = articles(1100)  # more than a few groups
    images[3, 4:24, 6:20] = 20 + 200 * np.outer(np.hanning(20), np.hanning(14))[..., None]  # smooth
    noisy, faint = images[[2, 3]]
    noisy[4:24, 6:20] = np.clip(noisy[4:24, 6:20] + np.random.default_rng(2).integers(-8, 9, (20, 14, 1)), 0, 255)
    faint[10, 20:22] = 12  # beside the article: its box is two pixels wider, its middle one further
    copies = [moved(images[:1], 3, -5), moved(images[1:2, :, ::-1], -2, 4), noisy[None], images[[4, 4]], faint[None]]
    table = near_duplicates(np.concatenate([images, *copies]), NEAR)
    rows = table.sort_values(["first", "second"])[["first", "second", "exact", "mirrored"]].values.tolist()
    assert [tuple(row) for row in rows] == [
        (0, 1100, 0, 0), (1, 1101, 0, 1), (2, 1102, 0, 0), (3, 1105, 0, 0), (4, 1103, 1, 0), (4, 1104, 1, 0),
        (1103, 1104, 1, 0),
    ]  # fmt: skip
    assert table["distance"].is_monotonic_increasing
    assert table.set_index("second")["distance"][[1100, 1101, 1103]].tolist() == [0, 0, 0]
    assert 0 < table.set_index("second")["distance"][1102] < NEAR


def test_no_pair_below_the_bound_is_missed_and_few_images_are_enough():
    rng = np.random.default_rng(3)
    mixed = (articles(40)[:, None] * rng.uniform(0.3, 1, (40, 8, 1, 1, 1))).reshape(-1, 28, 28, 1).astype(np.uint8)
    mixed[::2, :, 14:] = mixed[::2, :, 13::-1]  # symmetrical ones have a neighbour in the mirror, too
    images = np.concatenate([mixed, articles(40)])  # of all norms
    contrast = contrasts(images)
    every = np.stack(np.triu_indices(len(images), 1), axis=1)
    for sides in ([images], [images, images[:, :, ::-1]]):
        apart = np.linalg.norm(
            (images[every[:, 0]] - sides[-1][every[:, 1]].astype(float)).reshape(len(every), -1), axis=1
        )
        below = every[apart < SLACK * NEAR * np.sqrt(contrast[every]).prod(axis=1)]
        found = candidates(sides, contrast, NEAR)
        assert set(map(tuple, below)) <= set(map(tuple, found))
        assert 10 < len(below) <= len(found) < len(every) / 4
    assert len(near_duplicates(articles(2), NEAR)) == 0


def test_plain_articles_and_mirrored_ones_of_odd_width_are_found_among_others_of_their_norm():
    rng = np.random.default_rng(4)
    shapes = np.zeros((120, 28, 28, 1), np.uint8)
    for shape in shapes:
        height, width = rng.integers(8, 20, 2)
        shape[4 : 4 + height, 5 : 5 + width] = 255 * (rng.random((height, width, 1)) < 0.7)
    copies = np.concatenate([moved(shapes[:60], 1, 2), shapes[60:, :, ::-1]])
    table = near_duplicates(np.concatenate([shapes, copies]), NEAR)
    pd.testing.assert_frame_equal(near_duplicates(255 - np.concatenate([shapes, copies]), NEAR), table)  # dark on light
    assert {(one, one + 120) for one in range(120)} <= set(zip(table["first"], table["second"], strict=True))


def test_a_model_without_a_dense_layer_lends_its_logits():
    keras.config.set_dtype_policy("float32")
    inputs = keras.Input((28, 28, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    scaled = keras.layers.Rescaling(0.1)(keras.layers.Dense(10)(pooled))
    for outputs in (pooled, scaled):
        found, _ = features_and_probabilities(keras.Model(inputs, outputs), articles(3))
        np.testing.assert_allclose(found, articles(3).mean(axis=(1, 2)), rtol=1e-4)


def test_pairs_are_named_and_counted_by_split():
    images, labels = articles(30), np.arange(30) % 3
    images[10], images[21], images[23], images[29] = images[1], images[1], images[2], images[2]
    thirds = zip(np.split(images, 3), np.split(labels, 3), strict=True)
    parts = dict(zip(("train", "val", "test"), thirds, strict=True))
    table = audit.named_pairs(near_duplicates(images, NEAR), parts, CLASS_NAMES)
    names = ["T-shirt/top", "Trouser", "Pullover"]
    places = table[["split_a", "image_a", "label_a", "split_b", "image_b", "label_b"]].values.tolist()
    assert places == [
        ["train", 1, names[1], "val", 0, names[1]],
        ["train", 1, names[1], "test", 1, names[0]],
        ["train", 2, names[2], "test", 3, names[2]],
        ["train", 2, names[2], "test", 9, names[2]],
        ["val", 0, names[1], "test", 1, names[0]],
        ["test", 3, names[2], "test", 9, names[2]],
    ]
    counts = audit.count_near_duplicates(table, NEAR, 0.95)
    assert [counts["pairs"][splits]["exact"] for splits in ("train-train", "train-test", "val-test")] == [0, 3, 1]
    assert (counts["test_with_near_duplicate"], counts["different_labels"]) == (3, 2)
    assert (counts["groups"], counts["groups_with_different_labels"]) == (2, 1)
    files = pd.DataFrame({"split": list(parts), "image": 1}).assign(file=["a.png", "b.png", "c.png"])
    named = audit.with_files(table, files)
    assert named["file_a"].fillna("").tolist() == ["a.png", "a.png", "", "", "", ""]
    assert named["file_b"].fillna("").tolist() == ["", "c.png", "", "", "c.png", ""]
    first = audit.shown_pairs(table).iloc[0]
    assert first["label_a"] != first["label_b"]
    none = audit.count_near_duplicates(table[:0], NEAR, 0.95)
    assert (none["pairs_in_all"], none["groups"], none["groups_with_different_labels_ends"]) == (0, 0, [0, 1])
    words = audit.reasoning(40, 10, none)
    assert all(part in words for part in ("10 of the 40 mistakes", "25 %", "no near-duplicates"))
    assert "1 of 2 groups" in audit.reasoning(40, 10, counts)
    assert "no mistake" in audit.reasoning(0, 0, none)


def test_labels_flipped_on_purpose_are_flagged_and_sound_ones_are_not(recwarn):
    right, chances = np.arange(300) % 10, np.random.default_rng(0).uniform(0.6, 1, 300)
    labels = right.copy()
    labels[5:50:10], labels[7:50:10] = 2, 9
    flipped = np.flatnonzero(labels != right)
    chances[flipped] = 1
    probabilities = np.eye(10)[right] * chances[:, None] + 0.01
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    rows, estimate = label_issues(probabilities, labels)
    assert sorted(rows["place"]) == list(flipped)
    assert {(row.place % 10, row.given, row.suggested) for row in rows.itertuples()} == {(5, 2, 5), (7, 9, 7)}
    assert (rows["probability_given"] < rows["probability_suggested"]).all()
    assert rows["probability_given"].is_monotonic_increasing
    assert estimate == 10
    sound = np.flatnonzero((labels == right) & (labels != 4))  # a class is missing
    rows, estimate = label_issues(probabilities[sound], labels[sound])
    assert (len(rows), estimate) == (0, 0)
    assert not recwarn.list
    assert len(audit.named_label_issues(rows, np.repeat("test", 300), np.arange(300), CLASS_NAMES)) == 0


def test_label_issues_are_named_and_ranked_within_their_split():
    rows = pd.DataFrame({"place": [12, 3, 14], "given": [9, 2, 9], "suggested": [7, 5, 7]})
    rows = rows.assign(probability_given=[0.01, 0.02, 0.03], probability_suggested=0.9)
    table = audit.named_label_issues(rows, np.repeat(["train", "val"], 10), np.r_[:10, :10], CLASS_NAMES)
    assert table[["split", "image", "given", "suggested", "rank"]].values.tolist() == [
        ["val", 2, "Ankle boot", "Sneaker", 1],
        ["train", 3, "Pullover", "Sandal", 1],
        ["val", 4, "Ankle boot", "Sneaker", 2],
    ]


@pytest.mark.parametrize("count", [0, 30])
def test_figures_of_none_and_of_more_than_are_shown(count, tmp_path):
    images = {"train": articles(2), "test": articles(2)}
    columns = ["split_a", "image_a", "label_a", "split_b", "image_b", "label_b", "distance", "exact", "mirrored"]
    pairs = pd.DataFrame([("train", 0, "Coat", "test", 1, "Shirt", 0.1, 0, 1)] * count, columns=columns)
    columns = ["split", "image", "given", "suggested", "probability_given", "probability_suggested"]
    issues = pd.DataFrame([("test", 1, "Coat", "Shirt", 0.01, 0.9)] * count, columns=columns)
    for figure in (draw.near_duplicates(pairs, images, NEAR), draw.label_issues(issues, images)):
        save(figure, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 1000
