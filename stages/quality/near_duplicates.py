"""Near-duplicates: pairs of images that show the same object in the same way, perhaps shifted or mirrored.

Images are uint8 (N, H, W, C), all splits in one array.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from stages.data.transforms import at_most_tuned, shift

BACKGROUND = 10  # grey level; brighter pixels belong to the object
COMPONENTS = 32  # principal components for the search by pixels
SAMPLE = 10000  # images, at most, that the principal components are fitted to
SLACK = 1.5  # the search finds pairs up to so many times the limit: `MOVES` may bring them nearer
MOVES = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]  # pixels down and right
ROWS, PART = 128, 2048  # rows and columns of the matrix of all pairs that a thread computes at a time
PROCESSORS = 4  # threads, at most: each keeps its rows in memory
REACH = 4  # MOVES are tried on pairs whose distance without them is below REACH times the limit


def centred(images: np.ndarray) -> np.ndarray:
    """Center the bounding box of each object; if that is not exact, the larger margin is below and to the right."""
    article = images.max(axis=-1) > BACKGROUND  # (N, H, W)
    return shift(images, np.stack([to_the_middle(article.any(axis=axis)) for axis in (2, 1)], axis=1))


def to_the_middle(lines: np.ndarray) -> np.ndarray:
    """The shift, in pixels, that centers the true values of each line: from bool (N, size) to (N,)."""
    size = lines.shape[1]
    first, after = lines.argmax(axis=1), size - lines[:, ::-1].argmax(axis=1)
    return np.where(lines.any(axis=1), (size - (after - first)) // 2 - first, 0)


def contrasts(images: np.ndarray) -> np.ndarray:
    """The contrast of each object, (N,): root of the summed squared differences from its mean grey level, at least 1."""
    pixels = as_rows(images)
    article = pixels > BACKGROUND
    mean = (pixels * article).sum(axis=1) / np.maximum(article.sum(axis=1), 1)
    squares = ((pixels - mean[:, None]) ** 2 * article).sum(axis=1)
    return np.maximum(np.sqrt(squares), 1)


def difference(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The Euclidean distance of the pixels of each pair of images: from two arrays (P, H, W, C) to (P,)."""
    apart = images.astype(np.float32) - others
    return np.sqrt(np.einsum("nhwc,nhwc->n", apart, apart))


def distances(
    images: np.ndarray, others: np.ndarray, contrast: np.ndarray, pairs: np.ndarray, near: float
) -> np.ndarray:
    """The distance of each pair of images, relative to their contrast.

    The distance is `difference`, divided by the geometric mean of the two contrasts. Without this division, two plain
    objects would be nearer to each other than two images of the same patterned one. If the distance is below `REACH` times
    `near`, the shifts `MOVES` of the second image are tried, too, and the smallest distance counts.

    Args:
        images: The first images of the pairs, uint8 (N, H, W, C).
        others: The second images of the pairs, uint8 (N, H, W, C).
        contrast: (N,), from `contrasts`.
        pairs: Indices into `images` and `others`, integers (P, 2).
        near: The limit of the distance.

    Returns:
        float32 (P,): 0 for identical images.
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


def candidates(sides: list[np.ndarray], contrast: np.ndarray, near: float) -> np.ndarray:
    """Search all pairs whose distance, without `MOVES`, is below `SLACK` times `near`, and some with a larger one.

    Args:
        sides: The images, uint8 (N, H, W, C), and perhaps their mirror images. Of two images, at least one is taken from
            the first side.
        contrast: (N,), from `contrasts`.
        near: The limit of the distance.

    Returns:
        Indices of two images each, integers (P, 2), the first smaller than the second.
    """
    sample = sides[0][:: -(-len(sides[0]) // SAMPLE)]
    pca = PCA(min(COMPONENTS, len(sample)), svd_solver="randomized", random_state=0).fit(as_rows(sample))
    every = [(in_parts(as_norms, side), in_parts(lambda part: pca.transform(as_rows(part)), side)) for side in sides]
    contrast = np.maximum(contrast, 0.01 * every[0][0])  # else rounding would hide pairs of plain objects
    both = [(every[0], side) for side in every] + [(side, every[0]) for side in every[1:]]
    found = [near_to_each_other(*left, *right, contrast, 1.01 * SLACK * near) for left, right in both]  # 1 %: rounding
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def near_to_each_other(
    norms: np.ndarray, left: np.ndarray, other_norms: np.ndarray, right: np.ndarray, contrast: np.ndarray, reach: float
) -> np.ndarray:
    """The pairs x, y with contrasts s, t whose principal components are nearer than `reach` times the root of s t.

    Principal components never increase a distance, so no pair of images that are so near is missed. One matrix product
    compares squares: |x - y|^2 < r^2 s t if x.y - |x|^2 / 2 - |y|^2 / 2 + r^2 s t / 2 > 0. The images are sorted by their
    norm, and each is compared only with those whose norm is at least its own, and larger by at most its largest bound.

    Args:
        norms: Of the images, float (N,).
        left: Their principal components, float32 (N, D).
        other_norms: Of the same images, or of their mirror images.
        right: Their principal components.
        contrast: (N,).
        reach: The limit of the distance, relative to the contrasts.

    Returns:
        Integers (P, 2): of an image on the left, and of one on the right with at least its norm.
    """
    order, apart = np.argsort(norms), np.abs(other_norms - norms).max()  # where an image is shifted over its edge
    norms, contrast, left, right = (values[order] for values in (norms, contrast, left, right))
    ends = np.searchsorted(norms, norms + reach * np.sqrt(contrast * contrast.max()) + apart)
    bound = reach * contrast[:, None] / np.sqrt(2, dtype=np.float32)
    halves = [(part**2).sum(axis=1, keepdims=True) / 2 for part in (left, right)]
    left = np.hstack([left, -halves[0], -np.ones_like(bound), bound])  # (N, D + 3)
    right = np.hstack([right, np.ones_like(bound), halves[1], bound]).T.copy()

    def pairs_of(top: int) -> np.ndarray:
        """The pairs of some rows; their products are looked at in parts that stay in the processor's cache."""
        stop, pairs = ends[top : top + ROWS].max(), [np.empty((0, 2), int)]
        for start in range(top, stop, PART):
            product = left[top : top + ROWS] @ right[:, start : min(start + PART, stop)]
            if start == top:
                np.fill_diagonal(product, -np.inf)  # not the image itself
            rows = np.flatnonzero(product.max(axis=1) > 0)
            places, columns = np.nonzero(product[rows] > 0)
            pairs.append(order[np.stack([top + rows[places], start + columns], axis=1)])
        return np.concatenate(pairs)

    return of_all_rows(pairs_of, len(norms))


def as_rows(images: np.ndarray) -> np.ndarray:
    """The pixels of each image, float32 (N, H x W x C)."""
    return images.reshape(len(images), -1).astype(np.float32)


def as_norms(images: np.ndarray) -> np.ndarray:
    """The Euclidean norm of the pixels of each image, (N,)."""
    return np.linalg.norm(as_rows(images), axis=1)


def in_parts(function: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """The rows that a function makes of all images, `SAMPLE` of them at a time, which takes less memory."""
    return np.concatenate([function(part) for part in np.array_split(images, -(-len(images) // SAMPLE))])


def of_all_rows(pairs_of: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    """The pairs from all rows of a matrix, `ROWS` rows at a time, in several threads.

    Each thread takes its own rows, because looking through a matrix product takes longer than the product itself.

    Args:
        pairs_of: From the number of the first of `ROWS` rows to pairs, integers (P, 2).
        count: The number of rows.

    Returns:
        Integers (P, 2), in the order of the rows.
    """
    with threadpool_limits(1), ThreadPoolExecutor(min(PROCESSORS, os.cpu_count() or 1)) as processors:
        return np.concatenate(list(processors.map(pairs_of, range(0, count, ROWS))))


def same_bytes(images: np.ndarray) -> np.ndarray:
    """All pairs of identical images: indices, integers (P, 2), the first smaller than the second."""
    places: dict[bytes, list[int]] = {}
    pairs = []
    for place, image in enumerate(images):
        alike = places.setdefault(image.tobytes(), [])
        pairs += [(other, place) for other in alike]
        alike.append(place)
    return np.array(pairs, dtype=int).reshape(-1, 2)


def near_duplicates(images: np.ndarray, near: float, mirror: bool = True) -> pd.DataFrame:
    """The pairs of images that are identical, or whose distance is below `near` after alignment.

    The distance of `candidates` is the smallest one over the second image and its mirror image, centered and shifted by up
    to one pixel; large images are downscaled.

    Args:
        images: uint8 (N, H, W, C).
        near: The limit of the distance, see `distances`.
        mirror: Whether mirror images are compared, too.

    Returns:
        One row per pair, nearest first: first and second (indices of images, the first smaller), distance, exact (1:
        identical bytes), mirrored (1: nearer to the mirror image).
    """
    exact = same_bytes(images)
    images = at_most_tuned(images)
    sides = [centred(images), *([centred(images[:, :, ::-1])] if mirror else [])]
    contrast = in_parts(contrasts, images)
    pairs = np.unique(np.concatenate([exact, candidates(sides, contrast, near)]), axis=0)
    each = np.stack([distances(sides[0], side, contrast, pairs, near) for side in sides])  # (2, P)
    same = set(map(tuple, exact.tolist()))
    table = pd.DataFrame(
        {
            "first": pairs[:, 0],
            "second": pairs[:, 1],
            "distance": each.min(axis=0),
            "exact": [int(pair in same) for pair in map(tuple, pairs.tolist())],
            "mirrored": each.argmin(axis=0),
        }
    )
    table = table[(table["distance"] < near) | (table["exact"] == 1)]
    return table.sort_values(["distance", "first", "second"], ignore_index=True)
