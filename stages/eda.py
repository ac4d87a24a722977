"""Stage `eda`: explore the training images, or a sample of very many. It reads no other split.

Writes figures and the numbers behind them into `reports/eda`: samples, class balance, mean and standard deviation of each
class, pixel levels, typical and unusual images of each class, two embeddings, and the overlap of the classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from stages.base.files import write_csv
from stages.base.splits import load_split, load_summary, sampled
from stages.base.threads import use_threads
from stages.data.embedding import tsne
from stages.data.transforms import at_most_tuned, counts_of_levels
from stages.figures import eda as draw
from stages.figures.style import MAX_CLASSES, as_shown, figure_names, most_confused, most_frequent, save
from stages.parameters.eda import Eda
from stages.parameters.runs import Threads
from stages.parameters.schema import read

REPORTS = Path("reports/eda")
COMPONENTS = 50  # principal components for distances: most of the variance at a sixteenth of the cost
SAMPLE = 10000  # images, at most, that the principal components are fitted to
NEIGHBOURS = 10
ASKED = 5000  # images, at most, whose nearest neighbours are searched
COLUMNS = 12  # classes side by side in the figure of the means
SHOWN = 6  # typical images per class; unusual ones as many


def drawn(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """The numbers of `most` images drawn at random, or of all, and of the first of each class, ascending."""
    return np.union1d(np.unique(labels, return_index=True)[1], sampled(len(labels), most, seed))


def balance(labels: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """The number of training images per class: columns class, images."""
    return pd.DataFrame({"class": names, "images": np.bincount(labels, minlength=len(names))})


def histogram(images: np.ndarray) -> pd.DataFrame:
    """The share of each level among pixels, (N, H, W, C): columns pixel (0-255), share; of RGB also red, green, blue."""
    channels = ("red", "green", "blue")[: images.shape[-1] // 3 * 3]
    parts = {"share": images} | {name: images[..., place] for place, name in enumerate(channels)}
    shares = {name: counts_of_levels(part) for name, part in parts.items()}
    return pd.DataFrame({"pixel": np.arange(256)} | {name: count / count.sum() for name, count in shares.items()})


def mean_distance_to_neighbours(features: np.ndarray) -> np.ndarray:
    """The mean distance of each row to its `NEIGHBOURS` nearest other rows, (N,); small for a typical image, 0 for one."""
    count = min(NEIGHBOURS, len(features) - 1)
    if not count:
        return np.zeros(1)
    distances, _ = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(features).kneighbors()
    return distances.mean(axis=1)


def overlap(features: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The share of each class (columns) among the nearest neighbours of a class's images (rows).

    Args:
        features: (N, D), one row per image.
        labels: (N,), from 0.
        asked: Numbers of the images whose nearest neighbours, among all N, are counted.

    Returns:
        (classes, classes), rows sum to 1; those of classes without images asked for, to 0.
    """
    count = min(NEIGHBOURS, len(features) - 1)
    search = NearestNeighbors(n_neighbors=count + 1, algorithm="brute").fit(features)
    found = search.kneighbors(features[asked], return_distance=False)
    others = found != asked[:, None]  # an image is its own nearest neighbour, unless it has many
    others[others.all(axis=1), -1] = False  # identical copies: then the last neighbour is dropped
    neighbours = found[others].reshape(len(asked), count)
    shares = np.zeros((labels.max() + 1, labels.max() + 1))
    np.add.at(shares, (np.repeat(labels[asked], count), labels[neighbours].ravel()), 1)
    return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)


def of_all(most: int, count: int) -> str:
    """The end of a title: which classes of `count` are shown, if only the `most` most frequent ones are."""
    return "" if count <= most else f": the {most} most frequent of {count} classes"


def main() -> None:
    parameters = read("eda", Eda)
    use_threads(read("threads", Threads))
    (images, labels), data = load_split("train"), load_summary()
    names = data["class_names"]
    named, counts = figure_names(names), np.bincount(labels, minlength=len(names))
    which, balance_table = of_all(MAX_CLASSES, len(names)), balance(labels, names)
    looked_at = drawn(labels, parameters.max_images, parameters.seed)
    images, labels = images[looked_at], labels[looked_at]
    looks = as_shown(images, data["dataset"])
    members = {label: np.flatnonzero(labels == label) for label in most_frequent(counts)}
    shown_names = [named[label] for label in members]

    rng = np.random.default_rng(parameters.seed)
    count = parameters.samples_per_class
    chosen = [looks[rng.choice(rows, min(count, len(rows)), replace=False)] for rows in members.values()]
    save(draw.image_grid(chosen, shown_names, f"Training images, drawn at random{which}"), REPORTS / "samples.png")

    histogram_table = histogram(images)
    write_csv(REPORTS / "class_balance.csv", balance_table)
    write_csv(REPORTS / "pixel_histogram.csv", histogram_table)
    save(draw.class_balance(balance_table.assign(**{"class": named})), REPORTS / "class_balance.png")
    save(draw.pixel_histogram(histogram_table), REPORTS / "pixel_histogram.png")

    columns = most_frequent(counts, COLUMNS)
    means = np.stack([looks[members[label]].mean(axis=0) for label in columns])  # (classes, H, W, C)
    deviations = np.stack([images[members[label]].std(axis=0) for label in columns])
    title = f"Mean and standard deviation of each class, pixel by pixel{of_all(COLUMNS, len(names))}"
    doubled = 2 * deviations if images.shape[-1] == 3 else 255 - 2 * deviations  # grey: on white
    figure = draw.image_grid([means, doubled], ["mean", "std x 2"], title, [named[label] for label in columns])
    save(figure, REPORTS / "class_means.png")

    pixels = at_most_tuned(images).reshape(len(images), -1)
    sample = pixels[:: -(-len(pixels) // SAMPLE)] / np.float32(255)
    pca = PCA(min(COMPONENTS, *sample.shape), random_state=parameters.seed).fit(sample)
    parts = np.array_split(pixels, -(-len(pixels) // SAMPLE))
    features = np.concatenate([pca.transform(part / np.float32(255)) for part in parts])  # (N, 50)

    distances = ((rows, mean_distance_to_neighbours(features[rows])) for rows in members.values())
    ranked = [rows[np.argsort(distance, kind="stable")] for rows, distance in distances]
    typical, unusual = ([looks[rows[part]] for rows in ranked] for part in (slice(SHOWN), slice(None, -SHOWN - 1, -1)))
    save(draw.typical_and_unusual(typical, unusual, shown_names, which), REPORTS / "typical_and_unusual.png")

    rng = np.random.default_rng(parameters.seed)  # a new one: the draws above do not change which images are embedded
    embedded = np.sort(rng.choice(len(images), min(parameters.embedded_images, len(images)), replace=False))
    variance = 100 * pca.explained_variance_ratio_[:2].sum()
    points = {
        f"PCA: the first two components ({variance:.0f} % of the variance)": features[embedded, :2],
        "t-SNE: keeps neighbours together, distances have no meaning": tsne(features[embedded], parameters.seed),
    }
    save(draw.embeddings(points, labels[embedded], named), REPORTS / "embedding.png")

    rng = np.random.default_rng(parameters.seed)
    asked = rng.permutation(len(images))[:ASKED]
    shares = overlap(features, labels, asked)
    table = [(names[i], names[j], shares[i, j]) for i, j in np.ndindex(shares.shape)]
    write_csv(REPORTS / "class_overlap.csv", pd.DataFrame(table, columns=["class", "neighbour", "share"]))
    save(draw.class_overlap(shares, named, NEIGHBOURS), REPORTS / "class_overlap.png")

    pairs = most_confused(shares + shares.T, 1)
    overlapping = [f"{names[first]} and {names[second]} are the classes that overlap most" for first, second in pairs]
    print("; ".join([f"{len(images):,} training images", *overlapping]))


if __name__ == "__main__":
    main()
