"""Twins: pictures of a data set that show the same article in the same way, perhaps moved, perhaps mirrored.

Pictures are uint8 (N, 28, 28, 1), light on black, those of all parts in one array.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from stages.training.augmentation import shift

BACKGROUND = 10  # grey levels; what is above belongs to the article
COMPONENTS = 32  # principal components in which pairs are searched
SAMPLE = 10000  # pictures, at most, that they are fitted to
NEIGHBOURS = 3  # of each picture, by features
MOVES = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]  # pixels, tried after the alignment
ROWS = 128  # of a matrix of all pairs, computed at a time by one processor
PROCESSORS = 4  # at most, since each holds its rows in memory
REACH = 4  # they are tried on pairs that without them are at most so many times too far apart


def centred(images: np.ndarray) -> np.ndarray:
    """The pictures moved so that the box around each article lies in the middle; an odd pixel stays below and right."""
    article = images[..., 0] > BACKGROUND  # (N, 28, 28)
    return shift(images, np.stack([to_the_middle(article.any(axis=axis)) for axis in (2, 1)], axis=1))


def to_the_middle(lines: np.ndarray) -> np.ndarray:
    """By how many pixels to move each line so that what is true in it lies in its middle: bool (N, size) to (N,)."""
    size = lines.shape[1]
    first, after = lines.argmax(axis=1), size - lines[:, ::-1].argmax(axis=1)
    return np.where(lines.any(axis=1), (size - (after - first)) // 2 - first, 0)


def contrasts(images: np.ndarray) -> np.ndarray:
    """How much the greys of each article vary: the root of their summed squared deviations from their mean, at least 1."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    article = pixels > BACKGROUND
    mean = (pixels * article).sum(axis=1) / np.maximum(article.sum(axis=1), 1)
    squares = ((pixels - mean[:, None]) ** 2 * article).sum(axis=1)
    return np.maximum(np.sqrt(squares), 1)


def difference(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The root of the summed squared grey differences of each picture from its partner: two (P, 28, 28, 1) to (P,)."""
    apart = pictures.astype(np.float32) - others
    return np.sqrt(np.einsum("nhwc,nhwc->n", apart, apart))


def distances(
    images: np.ndarray, others: np.ndarray, contrast: np.ndarray, pairs: np.ndarray, near: float
) -> np.ndarray:
    """How far the two pictures of each pair are apart, as a share of their contrast.

    `difference` over the geometric mean of the two contrasts. By grey levels alone, two plain black trousers would be
    nearer to each other than two pictures of one patterned shirt. Where this is below `REACH` times `near`, it is the
    least over `MOVES` of the second picture.

    Args:
        images: The first picture of a pair is one of these, the second one of `others`; both are (N, 28, 28, 1).
        contrast: (N,), from `contrasts`.
        pairs: Integers (P, 2).

    Returns:
        float32 (P,): 0 where the pictures are the same.
    """
    parts = [np.empty(0, np.float32)]
    for start in range(0, len(pairs), 10000):
        first, second = pairs[start : start + 10000].T
        scale = np.sqrt(contrast[first] * contrast[second])
        least = difference(images[first], others[second]) / scale
        close = np.flatnonzero(least < REACH * near)
        for move in MOVES:
            moved = shift(others[second[close]], np.full((len(close), 2), move))
            least[close] = np.minimum(least[close], difference(images[first[close]], moved) / scale[close])
        parts.append(least)
    return np.concatenate(parts)


def near_by_pixels(images: np.ndarray, others: np.ndarray, contrast: np.ndarray, near: float) -> np.ndarray:
    """All pairs nearer than `near`, by `difference` over the geometric mean contrast, and some that are not.

    Principal components only shorten distances, so none is missed. One matrix product compares the squared distance of two
    pictures x, y of contrasts s, t with its bound: x.y - |x|^2 / 2 - |y|^2 / 2 + near^2 s t / 2 is above 0 for a pair.

    Returns:
        Integers (P, 2), the first smaller than the second, which is the number of a picture of `others`.
    """
    pixels, other_pixels = (part.reshape(len(part), -1).astype(np.float32) / 255 for part in (images, others))
    sample = pixels[:: -(-len(pixels) // SAMPLE)]
    pca = PCA(min(COMPONENTS, len(sample)), svd_solver="randomized", random_state=0).fit(sample)
    left, right = pca.transform(pixels), pca.transform(other_pixels)  # (N, 32)
    halves = [(part**2).sum(axis=1, keepdims=True) / 2 for part in (left, right)]
    bound = 1.01 * near / 255 / np.sqrt(2, dtype=np.float32) * contrast[:, None]  # a little more, for rounding
    ones = np.ones_like(bound)
    left = np.hstack([left, -halves[0], -ones, bound])  # (N, 35)
    right = np.hstack([right, ones, halves[1], bound]).T.copy()

    def near_to(top: int) -> np.ndarray:
        product = left[top : top + ROWS] @ right[:, top:]
        np.fill_diagonal(product, -np.inf)  # not itself
        rows = np.flatnonzero(product.max(axis=1) > 0)
        places, columns = np.nonzero(product[rows] > 0)
        return top + np.stack([rows[places], columns], axis=1)

    pairs = of_all_rows(near_to, len(images))
    return pairs[pairs[:, 0] < pairs[:, 1]]


def near_by_features(features: np.ndarray) -> np.ndarray:
    """Each picture with the `NEIGHBOURS` pictures whose features (N, D) have the highest cosine similarity with its own.

    Returns:
        Integers (P, 2), the first smaller than the second; a pair may stand there twice.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    units = (features / np.maximum(lengths, 1e-9)).astype(np.float32)
    turned = units.T.copy()

    def nearest_to(top: int) -> np.ndarray:
        similarity = units[top : top + ROWS] @ turned  # (ROWS, N)
        rows = np.arange(len(similarity))
        similarity[rows, top + rows] = -np.inf  # not itself
        found = [np.empty((0, 2), int)]
        for _ in range(min(NEIGHBOURS, len(units) - 1)):
            best = similarity.argmax(axis=1)
            similarity[rows, best] = -np.inf
            found.append(np.stack([top + rows, best], axis=1))
        return np.concatenate(found)

    return np.sort(of_all_rows(nearest_to, len(units)), axis=1)


def of_all_rows(pairs_of: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    """The pairs of every `ROWS` rows of a matrix of `count`, one after another: `pairs_of` gets the first of them.

    Each processor takes rows of its own: less of the work is a product that would use them all than it is looking through
    the product.
    """
    with threadpool_limits(1), ThreadPoolExecutor(min(PROCESSORS, os.cpu_count() or 1)) as processors:
        return np.concatenate(list(processors.map(pairs_of, range(0, count, ROWS))))


def same_bytes(images: np.ndarray) -> np.ndarray:
    """All pairs of identical pictures, integers (P, 2), the first smaller than the second."""
    places: dict[bytes, list[int]] = {}
    pairs = []
    for place, picture in enumerate(images):
        alike = places.setdefault(picture.tobytes(), [])
        pairs += [(other, place) for other in alike]
        alike.append(place)
    return np.array(pairs, dtype=int).reshape(-1, 2)


def twins(images: np.ndarray, features: np.ndarray, near: float) -> pd.DataFrame:
    """The pairs of pictures that are identical, or nearer to each other than `near` when aligned.

    Candidates come from two searches, of pixels and of features; of each the distance is then that of the pixels, the least
    over the second picture and its mirror image, each as aligned and moved by one pixel.

    Args:
        images: uint8 (N, 28, 28, 1).
        features: (N, D), one row a picture, from a model that does not mind mirroring.
        near: Of `distances`.

    Returns:
        A row a pair, nearest first: first and second (numbers of pictures, the first smaller), distance, exact (1:
        identical bytes), mirrored (1: nearer with the mirror image), found_in (pixels, features or both).
    """
    sides = [centred(images), centred(images[:, :, ::-1])]
    contrast, count = contrasts(images), len(images)

    def codes(pairs: np.ndarray) -> np.ndarray:
        """Pairs as single numbers."""
        return pairs[:, 0] * count + pairs[:, 1]

    exact = codes(same_bytes(images))
    by_features = codes(near_by_features(features))
    by_pixels = codes(np.concatenate([near_by_pixels(sides[0], side, contrast, near) for side in sides]))
    by_pixels = np.union1d(by_pixels, exact)
    candidates = np.union1d(by_pixels, by_features)
    pairs = np.stack(np.divmod(candidates, count), axis=1)
    each = np.stack([distances(sides[0], side, contrast, pairs, near) for side in sides])  # (2, P)
    table = pd.DataFrame(
        {
            "first": pairs[:, 0],
            "second": pairs[:, 1],
            "distance": each.min(axis=0),
            "exact": np.isin(candidates, exact).astype(int),
            "mirrored": each.argmin(axis=0),
            "found_in": np.select(
                [~np.isin(candidates, by_features), ~np.isin(candidates, by_pixels)], ["pixels", "features"], "both"
            ),
        }
    )
    table = table[(table["distance"] < near) | (table["exact"] == 1)]
    return table.sort_values(["distance", "first", "second"], ignore_index=True)
