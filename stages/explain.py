"""Stage `explain`: what the selected model looks at, what its first filters answer to, how it arranges the pictures.

Reads the selected model and the test pictures, and writes into `reports/explain`: occlusion maps of
a few right and wrong pictures, the first learned filters with the patches that excite them most, and a two-dimensional map
of what the last dense layer gets. All is of the pictures as they are, without other views, so `right` and `predicted` are
those of the plain predictions.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from stages.dataset import CLASS_NAMES, load_split, load_summary, notice
from stages.errors import InputError, front_door
from stages.evaluation.features import features_and_probabilities
from stages.evaluation.filters import receptive_field, strongest_patches, windows
from stages.evaluation.inference import in_batches
from stages.evaluation.occlusion import PATCH, occlusion
from stages.figures import explain as draw
from stages.figures.style import save
from stages.files import write_csv
from stages.parameters import read_parameters
from stages.selection import SELECTED

if TYPE_CHECKING:
    import keras

REPORTS = Path("reports/explain")
FILTERS = 32  # shown at most
EMBEDDED = 2000  # pictures in the map
COMPONENTS = 50  # principal components in which the map's distances are taken
PERPLEXITY = 30  # of t-SNE: about how many neighbours a picture keeps
ITERATIONS = 500  # of t-SNE


def occluded(probabilities: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Which pictures get maps: `count` right ones drawn at random, then the `count` most confident wrong ones."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right, wrong = np.flatnonzero(predicted == labels), np.flatnonzero(predicted != labels)
    drawn = np.random.default_rng(seed).permutation(right)[:count]
    return np.concatenate([drawn, wrong[np.argsort(-confidence[wrong], kind="stable")][:count]])


def extremes(chosen: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, drops: np.ndarray) -> pd.DataFrame:
    """Of each map that is drawn, where covering takes most of the class's probability.

    Args:
        chosen: (N,), numbers of pictures; labels (N,), probabilities (N, 10) and drops (N, 28, 28, 10) are theirs.

    Returns:
        A row a map, first of the predicted, then, where that is another, of the actual class: picture (from 0), actual,
        predicted, class, its probability, drop (the largest), row and column (from 0) of that, rise (the largest, 0 or
        above 0).
    """
    records = []
    for picture, label, chances, maps in zip(chosen, labels, probabilities, drops, strict=True):
        predicted = chances.argmax()
        for shown in dict.fromkeys([predicted, label]):
            values = maps[..., shown]
            row, column = np.unravel_index(values.argmax(), values.shape)
            names = (CLASS_NAMES[label], CLASS_NAMES[predicted], CLASS_NAMES[shown])
            records.append((picture, *names, chances[shown], values.max(), row, column, max(0.0, -values.min())))
    columns = ["picture", "actual", "predicted", "class", "probability", "drop", "row", "column", "rise"]
    return pd.DataFrame(records, columns=columns)


def filters(model: "keras.Model", images: np.ndarray) -> Figure:
    """The first trainable convolution, else the dense layer on the pixels, else a sentence.

    The kernel of a convolution behind other layers (here: a fixed whitening and a ReLU) is no picture, and its product
    with theirs would leave the ReLU out; so its filters are shown by the patches that excite them most.
    """
    import keras

    layers = model.layers
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    place = next((i for i, layer in enumerate(layers) if isinstance(layer, kinds) and layer.trainable), None)
    layer = None if place is None else layers[place]
    if isinstance(layer, keras.layers.Conv2D):
        front = keras.Model(model.inputs[0], layer.output)
        steps = windows(layers[: place + 1])
        patches = strongest_patches(
            lambda batch: np.asarray(front(batch), dtype=np.float32)[..., :FILTERS], images, receptive_field(steps)
        )
        kernels = np.asarray(layer.kernel)[:, :, 0, :FILTERS].transpose(2, 0, 1) if len(steps) == 1 else None
        return draw.filters(patches, kernels, layer.filters)
    if isinstance(layer, keras.layers.Dense) and layer.kernel.shape[0] == images[0].size:
        kernels = np.asarray(layer.kernel).T.reshape(-1, *images.shape[1:3])  # (units, 28, 28)
        shown = np.argsort(-np.square(kernels).sum(axis=(1, 2)), kind="stable")[:FILTERS]
        outputs = layer.units == len(CLASS_NAMES)
        shown = np.sort(shown)
        names = [CLASS_NAMES[unit] if outputs else f"unit {unit + 1}" for unit in shown]
        return draw.weights(kernels[shown], names, layer.units)
    return draw.sentence(f"{model.name} has neither a learned convolution nor a dense layer at its pixels to show.")


def embed(features: np.ndarray, seed: int) -> np.ndarray:
    """Rows (N, D) as points (N, 2): principal components, then t-SNE (van der Maaten and Hinton, 2008)."""
    components = PCA(min(COMPONENTS, *features.shape), svd_solver="covariance_eigh").fit_transform(features)
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    with threadpool_limits(1):  # on few, busy cores its threads wait for each other
        tsne = TSNE(perplexity=perplexity, init="pca", max_iter=ITERATIONS, random_state=seed)
        return tsne.fit_transform(components)


def embedding_table(
    pictures: np.ndarray, points: np.ndarray, labels: np.ndarray, predicted: np.ndarray
) -> pd.DataFrame:
    """A row a point: picture (its number in the test set, from 0), x, y, actual, predicted, right (0 or 1).

    Args:
        pictures, labels, predicted: (N,), the latter two 0-9; points (N, 2).
    """
    names = np.array(CLASS_NAMES)
    return pd.DataFrame(
        {
            "picture": pictures,
            "x": points[:, 0],
            "y": points[:, 1],
            "actual": names[labels],
            "predicted": names[predicted],
            "right": (labels == predicted).astype(int),
        }
    )


@front_door
def main() -> None:
    parameters = read_parameters("report")
    dataset = load_summary()["dataset"]
    images, labels = load_split("test")
    if not SELECTED.exists():
        raise InputError(f"{SELECTED} is missing. Type `dvc repro select`.")

    from stages.training.saving import load_model  # after the checks: it loads TensorFlow, which takes seconds

    model = load_model(SELECTED)

    def predict(pictures: np.ndarray) -> np.ndarray:
        return softmax(in_batches(model, pictures)[0].astype(np.float64), axis=1)

    features, probabilities = features_and_probabilities(model, images)
    chosen = occluded(probabilities, labels, min(parameters.samples, draw.COLUMNS), parameters.seed)
    drops = np.stack([occlusion(predict, images[index]) for index in chosen])  # (N, 28, 28, 10)
    shown = labels[chosen], probabilities[chosen], drops
    write_csv(REPORTS / "occlusion.csv", extremes(chosen, *shown))
    save(draw.occlusion(images[chosen], *shown, PATCH), REPORTS / "occlusion.png", dataset)

    save(filters(model, images), REPORTS / "filters.png", dataset)

    rng = np.random.default_rng(parameters.seed)
    embedded = np.sort(rng.choice(len(images), min(EMBEDDED, len(images)), replace=False))
    points = embed(features[embedded], parameters.seed)
    table = embedding_table(embedded, points, labels[embedded], probabilities[embedded].argmax(axis=1))
    write_csv(REPORTS / "embedding.csv", table)
    save(draw.embedding(table, features.shape[1]), REPORTS / "embedding.png", dataset)
    print(f"{REPORTS}: occlusion maps of {len(chosen)} test pictures, {len(table):,} in the map. {notice(dataset)}")


if __name__ == "__main__":
    main()
