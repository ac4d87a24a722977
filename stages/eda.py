"""Stage `eda`: explore the training images, or a sample of very many. It reads no other split.

Writes figures and the numbers behind them into `reports/eda`: samples, class balance, mean and standard deviation of each
class, grey levels, typical and unusual images of each class, two embeddings, and the overlap of the classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from stages.base.files import write_csv
from stages.base.splits import load_split, load_summary, sampled
from stages.base.threads import use_threads
from stages.data.transforms import at_most_tuned
from stages.figures import eda as draw
from stages.figures.style import save
from stages.parameters.eda import Eda
from stages.parameters.runs import Threads
from stages.parameters.schema import read

REPORTS = Path("reports/eda")
COMPONENTS = 50  # principal components for distances: most of the variance at a sixteenth of the cost
NEIGHBOURS = 10
ASKED = 10000  # images, at most, whose nearest neighbours are searched
SHOWN = 6  # typical images per class; unusual ones as many


def balance(labels: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """The number of training images per class: columns class, images."""
    return pd.DataFrame({"class": names, "images": np.bincount(labels, minlength=len(names))})


def histogram(images: np.ndarray) -> pd.DataFrame:
    """The share of each grey level among all pixels: columns pixel (0-255), share."""
    counts = np.bincount(images.ravel(), minlength=256)
    return pd.DataFrame({"pixel": np.arange(256), "share": counts / counts.sum()})


def mean_distance_to_neighbours(features: np.ndarray) -> np.ndarray:
    """The mean distance of each row to its `NEIGHBOURS` nearest other rows, (N,); small for a typical image."""
    count = min(NEIGHBOURS, len(features) - 1)
    distances, _ = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(features).kneighbors()
    return distances.mean(axis=1)


def overlap(features: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The share of each class (columns) among the nearest neighbours of a class's images (rows).

    Args:
        features: (N, D), one row per image.
        labels: (N,), from 0.
        asked: Numbers of the images whose nearest neighbours, among all N, are counted.

    Returns:
        (classes, classes), rows sum to 1.
    """
    search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(features)
    found = search.kneighbors(features[asked], return_distance=False)
    others = found != asked[:, None]  # an image is its own nearest neighbour, unless it has many
    others[others.all(axis=1), -1] = False  # identical copies: then the last neighbour is dropped
    neighbours = found[others].reshape(len(asked), NEIGHBOURS)
    shares = np.zeros((labels.max() + 1, labels.max() + 1))
    np.add.at(shares, (np.repeat(labels[asked], NEIGHBOURS), labels[neighbours].ravel()), 1)
    return shares / shares.sum(axis=1, keepdims=True)


def main() -> None:
    parameters = read("eda", Eda)
    use_threads(read("threads", Threads))
    (images, labels), names = load_split("train"), load_summary()["class_names"]
    balance_table = balance(labels, names)
    looked_at = sampled(len(images), parameters.max_images, parameters.seed)
    images, labels = images[looked_at], labels[looked_at]
    members = [np.flatnonzero(labels == label) for label in range(len(names))]

    rng = np.random.default_rng(parameters.seed)
    chosen = [images[rng.choice(rows, min(parameters.samples_per_class, len(rows)), replace=False)] for rows in members]
    save(
        draw.image_grid(chosen, names, "Training images, drawn at random"),
        REPORTS / "samples.png",
    )

    histogram_table = histogram(images)
    write_csv(REPORTS / "class_balance.csv", balance_table)
    write_csv(REPORTS / "pixel_histogram.csv", histogram_table)
    save(draw.class_balance(balance_table), REPORTS / "class_balance.png")
    save(draw.pixel_histogram(histogram_table), REPORTS / "pixel_histogram.png")

    means = np.stack([images[rows].mean(axis=0) for rows in members])  # (classes, H, W, C)
    deviations = np.stack([images[rows].std(axis=0) for rows in members])
    title = "Mean and standard deviation of each class, pixel by pixel"
    figure = draw.image_grid([means, 2 * deviations], ["mean", "std x 2"], title, names)
    save(figure, REPORTS / "class_means.png")

    pixels = at_most_tuned(images).reshape(len(images), -1).astype(np.float32) / 255
    pca = PCA(min(COMPONENTS, *pixels.shape), svd_solver="covariance_eigh")
    features = pca.fit_transform(pixels)  # (N, 50)

    ranked = [rows[np.argsort(mean_distance_to_neighbours(features[rows]), kind="stable")] for rows in members]
    typical = np.stack([images[rows[:SHOWN]] for rows in ranked])
    unusual = np.stack([images[rows[: -SHOWN - 1 : -1]] for rows in ranked])
    save(draw.typical_and_unusual(typical, unusual, names), REPORTS / "typical_and_unusual.png")

    rng = np.random.default_rng(parameters.seed)  # a new one: the draws above do not change which images are embedded
    embedded = np.sort(rng.choice(len(images), min(parameters.embedded_images, len(images)), replace=False))
    with threadpool_limits(1):  # on few cores, several threads are slower: they wait for each other
        tsne = TSNE(init="pca", max_iter=500, random_state=parameters.seed).fit_transform(features[embedded])
    variance = 100 * pca.explained_variance_ratio_[:2].sum()
    points = {
        f"PCA: the first two components ({variance:.0f} % of the variance)": features[embedded, :2],
        "t-SNE: keeps neighbours together, distances have no meaning": tsne,
    }
    save(draw.embeddings(points, labels[embedded], names), REPORTS / "embedding.png")

    rng = np.random.default_rng(parameters.seed)
    asked = rng.permutation(len(images))[:ASKED]
    shares = overlap(features, labels, asked)
    table = [(names[i], names[j], shares[i, j]) for i, j in np.ndindex(shares.shape)]
    write_csv(REPORTS / "class_overlap.csv", pd.DataFrame(table, columns=["class", "neighbour", "share"]))
    save(draw.class_overlap(shares, names, NEIGHBOURS), REPORTS / "class_overlap.png")

    apart = shares + shares.T - 2 * np.diag(np.diag(shares))
    first, second = np.unravel_index(np.argmax(apart), apart.shape)
    print(f"{len(images):,} training images; {names[first]} and {names[second]} are the classes that overlap most")


if __name__ == "__main__":
    main()
