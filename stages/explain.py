"""Stage `explain`: what the predictions of the selected model depend on.

Reads the selected model and the test images. Writes into `reports/explain`: occlusion maps of some correctly and some
wrongly classified images, and a two-dimensional map (t-SNE) of the features, the input of the last dense layer. All
predictions are of a single view, without test-time augmentation (TTA).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from stages import models
from stages.base.files import write_csv
from stages.base.runs import FASHION_MNIST, SELECTED
from stages.base.splits import load_split, load_summary
from stages.data.embedding import tsne
from stages.explanation import occlusion
from stages.figures import explanation as draw
from stages.figures.style import as_shown, figure_names, save
from stages.parameters.explain import Explain
from stages.parameters.runs import Threads
from stages.parameters.schema import read
from stages.results.origin import read_origin
from stages.trained import features, prediction, saving
from stages.trained.backend import start_keras

REPORTS = Path("reports/explain")
EMBEDDED = 1500  # images in the map, at most
COMPONENTS = 50  # principal components of the features that t-SNE gets


def occluded(probabilities: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The images that get occlusion maps.

    Returns:
        Their numbers: `count` correctly classified images, drawn at random, then the `count` most confident mistakes.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right, wrong = np.flatnonzero(predicted == labels), np.flatnonzero(predicted != labels)
    drawn = np.random.default_rng(seed).permutation(right)[:count]
    return np.concatenate([drawn, wrong[np.argsort(-confidence[wrong], kind="stable")][:count]])


def extremes(
    chosen: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, drops: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """The largest drop and rise of each occlusion map.

    Args:
        chosen: Numbers of the images, (N,).
        labels: Their labels, (N,), from 0.
        probabilities: Their probabilities, (N, classes).
        drops: Their occlusion maps, (N, H, W, classes): see `stages.explanation.occlusion`.
        names: Of the classes.

    Returns:
        One row per map; an image has one map for the predicted class and, if it is misclassified, one for the actual class.
        Columns: image (number from 0), actual, predicted, class (of the map), probability (of this class), drop (the
        largest), row and column (from 0, of the largest drop), rise (the largest, at least 0).
    """
    records = []
    for image, label, chances, maps in zip(chosen, labels, probabilities, drops, strict=True):
        predicted = chances.argmax()
        for shown in dict.fromkeys([predicted, label]):
            values = maps[..., shown]
            row, column = np.unravel_index(values.argmax(), values.shape)
            three = (names[label], names[predicted], names[shown])
            records.append((image, *three, chances[shown], values.max(), row, column, max(0.0, -values.min())))
    columns = ["image", "actual", "predicted", "class", "probability", "drop", "row", "column", "rise"]
    return pd.DataFrame(records, columns=columns)


def embed(features: np.ndarray, seed: int) -> np.ndarray:
    """Features (N, D) as points (N, 2): principal components, then t-SNE."""
    return tsne(PCA(min(COMPONENTS, *features.shape), random_state=seed).fit_transform(features), seed)


def embedding_table(
    images: np.ndarray, points: np.ndarray, labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """The table of the map.

    Args:
        images: Numbers of the test images, (N,), from 0.
        points: Their places in the map, (N, 2).
        labels: Actual classes, (N,), from 0.
        predicted: Predicted classes, (N,), from 0.
        names: Of the classes.

    Returns:
        One row per image: image, x, y, actual, predicted, right (1 if the prediction is correct, else 0).
    """
    names = np.array(names)
    return pd.DataFrame(
        {
            "image": images,
            "x": points[:, 0],
            "y": points[:, 1],
            "actual": names[labels],
            "predicted": names[predicted],
            "right": (labels == predicted).astype(int),
        }
    )


def main() -> None:
    parameters = read("explain", Explain)
    origin = read_origin(SELECTED)
    (images, labels), summary = load_split("test"), load_summary()
    names, shown_names = summary["class_names"], figure_names(summary["class_names"])
    start_keras(read("threads", Threads))
    model = saving.load_model(SELECTED, models.custom_objects(origin["model"]))

    found, probabilities = features.features_and_probabilities(model, images)
    chosen = occluded(probabilities, labels, parameters.samples, parameters.seed)
    drops = np.stack(
        [occlusion.occlusion(lambda covered: prediction.classify(model, covered), images[index]) for index in chosen]
    )  # (N, H, W, classes)
    shown = labels[chosen], probabilities[chosen], drops
    write_csv(REPORTS / "occlusion.csv", extremes(chosen, *shown, names))
    outline = "article" if summary["dataset"] == FASHION_MNIST else ""
    figure = draw.occlusion(
        as_shown(images[chosen], summary["dataset"]), *shown, occlusion.patch_for(images[0]), shown_names, outline
    )
    save(figure, REPORTS / "occlusion.png")

    rng = np.random.default_rng(parameters.seed)
    embedded = np.sort(rng.choice(len(images), min(EMBEDDED, len(images)), replace=False))
    points = embed(found[embedded], parameters.seed)
    table = embedding_table(embedded, points, labels[embedded], probabilities[embedded].argmax(axis=1), names)
    write_csv(REPORTS / "embedding.csv", table)
    save(draw.embedding(table, labels[embedded], found.shape[1], shown_names), REPORTS / "embedding.png")
    print(f"{REPORTS}: occlusion maps of {len(chosen)} test images, {len(table):,} in the map.")


if __name__ == "__main__":
    main()
