"""Maps of images: points in two dimensions."""

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

PERPLEXITY = 30  # about the number of neighbours that an image keeps
ITERATIONS, ANGLE = 400, 0.8  # more iterations and a smaller angle take longer, and change the map little


def tsne(features: np.ndarray, seed: int) -> np.ndarray:
    """Features, (N, D), as points, (N, 2): neighbours stay together, distances have no meaning.

    Source: van der Maaten, "Accelerating t-SNE using tree-based algorithms" (2014).
    """
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    with threadpool_limits(1):  # on few cores, several threads are slower: they wait for each other
        return TSNE(
            perplexity=perplexity, init="pca", max_iter=ITERATIONS, angle=ANGLE, random_state=seed
        ).fit_transform(features)
