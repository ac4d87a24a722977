"""Stage `strangers`: learn to notice pictures of none of the classes, such as an animal among clothing.

A logistic regression tells made-up strange pictures from familiar ones (see `stages.inference.strangers`) by the outputs
of the layers of the selected model. Above 0.5, a picture counts as strange; so does a share `strangers.false_alarms` of
familiar pictures that are made of validation images. `data/selected/strangers.npz` holds the weights, for `export`, and
`reports/strangers.json` tells how well each kind is noticed by a regression that was fitted to the other kinds, if there
are some. The test set is not read.
"""

from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from stages import models
from stages.base.files import atomic_write, write_json
from stages.base.runs import FASHION_MNIST, SELECTED, STRANGERS, run_name
from stages.base.splits import load_split, sampled
from stages.inference import strangers
from stages.parameters.runs import Threads
from stages.parameters.schema import read
from stages.parameters.strangers import Strangers
from stages.results.origin import read_origin
from stages.scoring.scores import auroc
from stages.trained import features, prediction, saving
from stages.trained.backend import start_keras

REPORT = Path("reports/strangers.json")
MOST = 10000  # validation images that are looked at
REGULARIZATION = 0.01  # scikit-learn's C
FAMILIAR = 3  # as many familiar pictures as strange ones of so many kinds


def fit(familiar: np.ndarray, strange: np.ndarray) -> tuple[np.ndarray, float]:
    """A logistic regression of layers' outputs, (N, L) and (M, L): the weights, (L,), and the bias, both float32.

    Familiar and strange pictures count the same in all.
    """
    every, is_strange = np.concatenate([familiar, strange]), np.repeat([0, 1], [len(familiar), len(strange)])
    scaler = StandardScaler(copy=False)
    scaled = scaler.fit_transform(every)  # in its place
    regression = LogisticRegression(C=REGULARIZATION, max_iter=3000, class_weight="balanced")
    regression.fit(scaled, is_strange)
    weights = regression.coef_[0] / scaler.scale_
    return weights.astype(np.float32), np.float32(regression.intercept_[0] - weights @ scaler.mean_)


def threshold(scores: np.ndarray, false_alarms: float) -> float:
    """The score above which a share `false_alarms` of the scores (N,) is, or a little less."""
    return float(np.quantile(scores, 1 - false_alarms, method="higher"))


def main() -> None:
    parameters, origin = read("strangers", Strangers), read_origin(SELECTED)
    dataset, count, seed = origin["dataset"], parameters.pictures, parameters.seed
    (train, _), (val, _) = load_split("train"), load_split("val")
    val = val[sampled(len(val), MOST, seed)]
    kinds = strangers.kinds(dataset)
    start_keras(read("threads", Threads))
    threadpool_limits(1)  # of NumPy and scikit-learn, not of Keras: with small arrays, threads wait for each other
    model = saving.load_model(SELECTED, models.custom_objects(origin["model"]))
    network = features.with_features(saving.copied(model, saving.TO_KERAS, float32=True))

    def of(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The outputs of the layers, (N, L), and minus the highest probability, (N,), of pictures."""
        _, logits, layers = prediction.in_batches(network, pictures)
        return layers, -np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).max(axis=1)

    familiar, _ = of(strangers.familiar(train, dataset, FAMILIAR * count, seed))
    strange = {kind: of(strangers.strange(kind, train, dataset, count, seed))[0] for kind in kinds}
    made = strangers.pictograms(val, count, seed + 1) if dataset == FASHION_MNIST else val
    known, unsure_of_known = of(made)

    def fitted(outputs: list[np.ndarray]) -> tuple[np.ndarray, float]:
        """The weights and the bias from strange pictures' outputs; a share `false_alarms` of the known ones is above 0."""
        weights, bias = fit(familiar, np.concatenate(outputs))
        return weights, bias - threshold(known @ weights + bias, parameters.false_alarms)

    rows = []
    for kind in kinds:
        found, unsure = of(strangers.strange(kind, val, dataset, -(-count // 2), seed + 1))
        weights, bias = fitted([strange[other] for other in kinds if other != kind] or list(strange.values()))
        scores = found @ weights + bias
        row = {
            "kind": kind,
            "noticed": round(float((scores > 0).mean()), 6),
            "auroc": round(auroc(known @ weights + bias, scores), 6),
        }
        rows.append(row | {"auroc_of_confidence": round(auroc(unsure_of_known, unsure), 6)})
    weights, bias = fitted(list(strange.values()))
    alarms = round(float((of(val)[0] @ weights + bias > 0).mean()), 6)
    with atomic_write(STRANGERS) as beside:
        np.savez(beside, weights=weights, bias=np.float32(bias))
    about = {
        "dataset": dataset,
        "run": run_name(origin["model"], origin["seed"]),
        "false_alarms": parameters.false_alarms,
        "val_alarms": alarms,
    }
    write_json(REPORT, about | {"kinds": rows})
    print(", ".join(f"{row['kind']}: {100 * row['noticed']:.0f} % noticed" for row in rows))


if __name__ == "__main__":
    main()
