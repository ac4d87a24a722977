"""Near-duplicates: pairs of images that show the same object in the same way, perhaps shifted or mirrored.

Images are uint8 (N, H, W, C), all splits in one array.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from stages.data.resize import border_of
from stages.data.transforms import at_most_tuned, shift

WHITE = np.uint8(255)
BACKGROUND = 10  # grey level; brighter pixels belong to the object
COMPONENTS = 32  # principal components for the search by pixels
SAMPLE = 10000  # images, at most, that the principal components are fitted to
SLACK = 1.5  # the search finds pairs up to so many times the limit: `MOVES` may bring them nearer
MOVES = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]  # pixels down and right
GROUP = 128  # images, at most, that are compared with others together
PART = 1024  # with so many at a time, that their products stay in the processor's cache
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
    for start in range(0, len(pairs), 2500):
        first, second = pairs[start : start + 2500].T
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
        Indices of two images each, integers (P, 2), the first smaller than the second; some pairs twice.
    """
    sample = sides[0][:: -(-len(sides[0]) // SAMPLE)]
    pca = PCA(min(COMPONENTS, len(sample)), random_state=0).fit(as_rows(sample))
    every = [in_parts(lambda part: pca.transform(as_rows(part)), side) for side in sides]
    norms = in_parts(as_norms, sides[0])
    contrast = np.maximum(contrast, 0.01 * norms)  # else rounding would hide pairs of plain objects
    with threadpool_limits(1):  # of small products: threads would wait for each other
        found = [near_to_each_other(every[0], side, contrast, 1.01 * SLACK * near) for side in every]  # 1 %: rounding
    return np.sort(np.concatenate(found), axis=1)


def groups_of(points: np.ndarray, numbers: np.ndarray) -> list[np.ndarray]:
    """Groups of at most `GROUP` points, (N, D), near to each other: halves along the axis of most variance, and so on."""
    if len(numbers) <= GROUP:
        return [numbers]
    ordered = numbers[np.argsort(points[numbers, points[numbers].var(axis=0).argmax()], kind="stable")]
    return [group for half in np.array_split(ordered, 2) for group in groups_of(points, half)]


def near_to_each_other(left: np.ndarray, right: np.ndarray, contrast: np.ndarray, reach: float) -> np.ndarray:
    """The pairs x, y with contrasts s, t whose principal components are nearer than `reach` times the root of s t.

    Principal components never increase a distance, so no pair of images that are so near is missed. One matrix product
    compares squares: |x - y|^2 < r^2 s t if x.y - |x|^2 / 2 - |y|^2 / 2 + r^2 s t / 2 > 0. A group of images is compared
    with another only if the boxes around them are so near.

    Args:
        left: The principal components of the images, float32 (N, D).
        right: Those of the same images, then each pair is found once or twice; or of their mirror images.
        contrast: (N,).
        reach: The limit of the distance, relative to the contrasts.

    Returns:
        Integers (P, 2): of an image on the left, and of another one on the right.
    """
    groups = groups_of(left, np.arange(len(left)))
    others = groups if right is left else groups_of(right, np.arange(len(right)))
    (low, high, most), (other_low, other_high, others_most) = (
        [np.array([end(values[group], axis=0) for group in parts])
         for end, values in ((np.min, points), (np.max, points), (np.max, contrast))]
        for points, parts in ((left, groups), (right, others))
    )  # fmt: skip
    order, sizes = np.concatenate(others), [len(other) for other in others]
    bound = (reach / np.sqrt(2) * contrast[:, None]).astype(np.float32)
    halves = [(points**2).sum(axis=1, keepdims=True) / 2 for points in (left, right)]
    products = np.hstack([left, -halves[0], -np.ones_like(bound), bound])  # (N, D + 3)
    factors = np.hstack([right, np.ones_like(bound), halves[1], bound])[order]
    pairs = [np.empty((0, 2), int)]
    for place, group in enumerate(groups):
        gaps = np.maximum(low[place] - other_high, other_low - high[place]).clip(0)
        close = (gaps**2).sum(axis=1) <= reach**2 * most[place] * others_most
        if right is left:
            close[:place] = False  # these have met this group already
        columns = np.flatnonzero(np.repeat(close, sizes))
        for part in np.array_split(columns, -(-len(columns) // PART) or 1):
            product = products[group] @ factors[part].T
            rows = np.flatnonzero(product.max(axis=1, initial=0) > 0)
            if len(rows):
                places, columns_found = np.nonzero(product[rows] > 0)
                pairs.append(np.stack([group[rows[places]], order[part[columns_found]]], axis=1))
    found = np.concatenate(pairs)
    return found[found[:, 0] != found[:, 1]]


def as_rows(images: np.ndarray) -> np.ndarray:
    """The pixels of each image, float32 (N, H x W x C)."""
    return images.reshape(len(images), -1).astype(np.float32)


def as_norms(images: np.ndarray) -> np.ndarray:
    """The Euclidean norm of the pixels of each image, (N,)."""
    return np.linalg.norm(as_rows(images), axis=1)


def in_parts(function: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """The rows that a function makes of all images, `SAMPLE` of them at a time, which takes less memory."""
    return np.concatenate([function(part) for part in np.array_split(images, -(-len(images) // SAMPLE))])


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
    to one pixel; large images are downscaled, and those with a light border negated.

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
    is_light = border_of(images).mean(axis=-1, keepdims=True) > WHITE / 2
    images = np.where(is_light, WHITE - images, images)  # objects are what is brighter than their background
    sides = [centred(images), *([centred(images[:, :, ::-1])] if mirror else [])]
    contrast = in_parts(contrasts, images)
    place = [len(images), 1]  # of a pair, in the matrix of all
    places = np.unique(np.concatenate([exact, candidates(sides, contrast, near)]) @ place)
    pairs = np.stack(np.divmod(places, len(images)), axis=1)
    each = np.stack([distances(sides[0], side, contrast, pairs, near) for side in sides])  # (2, P)
    table = pd.DataFrame(
        {
            "first": pairs[:, 0],
            "second": pairs[:, 1],
            "distance": each.min(axis=0),
            "exact": np.isin(places, exact @ place).astype(int),
            "mirrored": each.argmin(axis=0),
        }
    )
    table = table[(table["distance"] < near) | (table["exact"] == 1)]
    return table.sort_values(["distance", "first", "second"], ignore_index=True)
