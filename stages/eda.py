"""Stage `eda`: look at the training pictures, and only at them.

Writes pictures and the numbers behind them into `reports/eda`: samples, class balance, mean and deviation pictures, grey
values, typical and unusual members of each class, two embeddings, and which classes overlap.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from stages.dataset import CLASS_NAMES, load_split, load_summary
from stages.errors import front_door
from stages.figures import exploration as draw
from stages.figures.style import save
from stages.files import write_csv
from stages.parameters import read_parameters

REPORTS = Path("reports/eda")
COMPONENTS = 50  # principal components in which distances are taken: most of the variance, a sixteenth of the work
NEIGHBOURS = 10
ASKED = 10000  # pictures, at most, whose neighbours among all are counted
SHOWN = 6  # typical and unusual pictures a class


def balance(labels: np.ndarray) -> pd.DataFrame:
    """Training pictures a class."""
    return pd.DataFrame({"class": CLASS_NAMES, "pictures": np.bincount(labels, minlength=10)})


def histogram(images: np.ndarray) -> pd.DataFrame:
    """The share of each grey value, 0-255, among all pixels."""
    counts = np.bincount(images.ravel(), minlength=256)
    return pd.DataFrame({"pixel": np.arange(256), "share": counts / counts.sum()})


def remoteness(features: np.ndarray) -> np.ndarray:
    """For every row, the mean distance to its nearest `NEIGHBOURS` other rows: small where a picture is typical."""
    count = min(NEIGHBOURS, len(features) - 1)
    distances, _ = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(features).kneighbors()
    return distances.mean(axis=1)


def overlap(features: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Of the nearest neighbours of each class's pictures, the share that each class has: (10, 10), rows sum to 1.

    Args:
        features: (N, D), one row a picture; labels (N,).
        asked: The numbers of the pictures whose neighbours, among all, are counted.
    """
    search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(features)
    found = search.kneighbors(features[asked], return_distance=False)
    others = found != asked[:, None]  # a picture is its own nearest neighbour,
    others[others.all(axis=1), -1] = False  # or one of many that are the same: then the last goes
    neighbours = found[others].reshape(len(asked), NEIGHBOURS)
    shares = np.zeros((10, 10))
    np.add.at(shares, (np.repeat(labels[asked], NEIGHBOURS), labels[neighbours].ravel()), 1)
    return shares / shares.sum(axis=1, keepdims=True)


@front_door
def main() -> None:
    parameters = read_parameters("eda")
    images, labels = load_split("train")
    dataset = load_summary()["dataset"]
    members = [np.flatnonzero(labels == label) for label in range(10)]

    rng = np.random.default_rng(parameters.seed)
    chosen = [images[rng.choice(rows, parameters.samples_per_class, replace=False)] for rows in members]
    save(
        draw.picture_grid(chosen, list(CLASS_NAMES), "Training pictures, drawn at random"),
        REPORTS / "samples.png",
        dataset,
    )

    balance_table, histogram_table = balance(labels), histogram(images)
    write_csv(REPORTS / "class_balance.csv", balance_table)
    write_csv(REPORTS / "pixel_histogram.csv", histogram_table)
    save(draw.class_balance(balance_table), REPORTS / "class_balance.png", dataset)
    save(draw.pixel_histogram(histogram_table), REPORTS / "pixel_histogram.png", dataset)

    means = np.stack([images[rows].mean(axis=0) for rows in members])  # (10, 28, 28, 1)
    deviations = np.stack([images[rows].std(axis=0) for rows in members])
    title = "Each class's mean and deviation, pixel by pixel"
    figure = draw.picture_grid([means, 2 * deviations], ["mean", "deviation x 2"], title, CLASS_NAMES)
    save(figure, REPORTS / "class_means.png", dataset)

    pca = PCA(COMPONENTS, svd_solver="covariance_eigh")
    features = pca.fit_transform(images.reshape(len(images), -1).astype(np.float32) / 255)  # (N, 50)

    ranked = [rows[np.argsort(remoteness(features[rows]), kind="stable")] for rows in members]
    typical = np.stack([images[rows[:SHOWN]] for rows in ranked])
    unusual = np.stack([images[rows[: -SHOWN - 1 : -1]] for rows in ranked])
    save(draw.typical_and_unusual(typical, unusual), REPORTS / "typical_and_unusual.png", dataset)

    rng = np.random.default_rng(parameters.seed)  # anew: which pictures are embedded hangs on nothing above
    embedded = np.sort(rng.choice(len(images), min(parameters.embedded_images, len(images)), replace=False))
    with threadpool_limits(1):  # on few, busy cores its threads wait for each other
        tsne = TSNE(init="pca", max_iter=500, random_state=parameters.seed).fit_transform(features[embedded])
    variance = 100 * pca.explained_variance_ratio_[:2].sum()
    points = {
        f"PCA: the two directions of most variance ({variance:.0f} %)": features[embedded, :2],
        "t-SNE: neighbours stay neighbours, distances mean little": tsne,
    }
    save(draw.embeddings(points, labels[embedded]), REPORTS / "embedding.png", dataset)

    rng = np.random.default_rng(parameters.seed)
    asked = rng.permutation(len(images))[:ASKED]
    shares = overlap(features, labels, asked)
    table = [(CLASS_NAMES[i], CLASS_NAMES[j], shares[i, j]) for i, j in np.ndindex(10, 10)]
    write_csv(REPORTS / "class_overlap.csv", pd.DataFrame(table, columns=["class", "neighbour", "share"]))
    save(draw.class_overlap(shares, NEIGHBOURS), REPORTS / "class_overlap.png", dataset)

    apart = shares + shares.T - 2 * np.diag(np.diag(shares))
    first, second = np.unravel_index(np.argmax(apart), apart.shape)
    print(
        f"{len(images):,} training pictures; the classes that overlap most: {CLASS_NAMES[first]} and {CLASS_NAMES[second]}"
    )


if __name__ == "__main__":
    main()
