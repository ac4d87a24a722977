"""Classify photos with an exported model, by ONNX Runtime. TensorFlow and Keras are not needed.

An example:

    from stages.inference.classifier import Classifier
    from stages.data.image_file import read_photo
    from stages.inference.photo import prepared

    classifier = Classifier()
    classifier.answer(prepared(read_photo("shirt.jpg"), classifier.dataset, classifier.shape).pixels)["class"]

What the command and the page say of a photo is an `answer`.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from stages.base.errors import InputError
from stages.base.runs import FASHION_MNIST

EXPORTED = Path("data/exported")  # model.onnx and others: see `stages.export`
STRANGE = 0.5  # strangeness: above it, a picture probably shows none of the classes (out-of-distribution)
BATCH_SIZE = 20  # images per call: more take more memory, not less time
MAX_OF_FRACTIONS = 2  # images without a higher value hold fractions of white, not 0 to 255: resampling overshoots 1


class Classifier:
    """An exported model.

    Attributes:
        metadata: What the file says of itself: see `stages.export`.
        dataset: The name of the data that it was trained on.
        shape: Height, width and channels of an image.
        classes: The names of the classes, in the order of the probabilities.
        augmentation: The test-time augmentation whose views the file averages.
    """

    def __init__(self, path: Path | str = EXPORTED / "model-tta.onnx", threads: int = 0):
        """Load a file that stage `export` wrote.

        Args:
            path: `model.onnx`, or `model-tta.onnx`, which averages the views of test-time augmentation.
            threads: Of the processor; 0: as many as it has cores.

        Raises:
            InputError: The file is missing or is not such a file.
        """
        path = Path(path)
        if not path.exists():
            others = ", ".join(map(str, sorted(EXPORTED.glob("*.onnx"))))
            if others:
                raise InputError(f"{path} is missing; there are {others}.")
            raise InputError(
                f"{path} is missing: there is no exported model yet. Type `make run`, which trains and exports it, or "
                "`make pull` to get it from a remote."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # failures are raised as exceptions
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            texts = self._session.get_modelmeta().custom_metadata_map
            self.metadata = {key: from_json(text) for key, text in texts.items()}
            self.dataset: str = self.metadata["dataset"]
            self.classes: list[str] = self.metadata["classes"]
            self.augmentation: str = self.metadata["test_time_augmentation"]
            self.shape = tuple(self._session.get_inputs()[0].shape[1:])
            self.strangeness(np.zeros((1, *self.shape)))  # files of earlier commits have none
            found = self.probabilities(np.zeros((1, *self.shape))).shape
            if found != (1, len(self.classes)):
                raise ValueError(f"it gives {found[-1]} probabilities, and names {len(self.classes)} classes")
        except Exception as error:  # of a file that is no model, ONNX Runtime raises classes of its own
            reason = " ".join(str(error).split())
            is_own = path.parent == EXPORTED and path.suffix == ".onnx"
            fix = "Type `dvc repro export`." if is_own else "Name model-tta.onnx or model.onnx."
            raise InputError(f"{path} is not an ONNX file that stage export wrote ({reason}). {fix}") from None

    def answer(self, pixels: np.ndarray) -> dict:
        """What is said of one prepared photo, (H, W, C): see `answer`."""
        views = both_ways(pixels, self.augmentation, self.dataset)
        return answer(self.probabilities(views), self.classes, float(self.strangeness(views).min()))

    def strangeness(self, images: np.ndarray) -> np.ndarray:
        """How probably images as `probabilities` takes them show none of the classes, float32 (N,): see `STRANGE`."""
        return self.output("strangeness", images)

    def features(self, images: np.ndarray) -> np.ndarray:
        """The features of images as `probabilities` takes them, float32 (N, D); only `model.onnx` gives them."""
        return self.output("features", images)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Calibrated class probabilities.

        Args:
            images: Numbers from 0 to 255 as the model was trained on them, (N, H, W, C); one, (H, W, C); if they are grey,
                also without the last axis.

        Returns:
            float32 (N, classes); rows sum to 1.

        Raises:
            InputError: The images have another shape, no numbers, or another range, such as 0 to 1.
        """
        return self.output("probabilities", images)

    def output(self, name: str, images: np.ndarray) -> np.ndarray:
        """An output of the graph, (N, ...), for images as `probabilities` takes them."""
        pixels = as_pixels(images, self.shape)
        batches = np.array_split(pixels, -(-len(pixels) // BATCH_SIZE) or 1)
        return np.concatenate([self._session.run([name], {"pixels": batch})[0] for batch in batches])


def from_json(text: str) -> object:
    """The value of a metadata text: parsed if it is JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def as_pixels(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Images as the input `pixels`, float32 (N, *shape); raises `InputError` as `Classifier.probabilities` says."""
    given = np.asarray(images)
    if given.dtype.kind not in "buif":
        raise InputError(f"the images hold {given.dtype}, but must hold numbers from 0 to 255.")
    pixels = given.astype(np.float32)
    if shape[-1] == 1 and pixels.shape[-1:] != (1,):
        pixels = pixels[..., None]
    if pixels.ndim == 3:
        pixels = pixels[None]
    if pixels.shape[1:] != shape:
        raise InputError(
            f"the images have the shape {given.shape}, but must have (N, {', '.join(map(str, shape))}), where an axis of 1 "
            "may be missing: stages.inference.photo.prepared makes a photo such an image."
        )
    low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
    if not (low >= 0 and high <= 255) or 0 < high <= MAX_OF_FRACTIONS:  # also if there is a NaN
        advice = ": multiply them by 255" if 0 <= low < high <= MAX_OF_FRACTIONS else ""
        raise InputError(f"the images hold values from {low:g} to {high:g}, but must hold 0 to 255{advice}.")
    return pixels


def both_ways(pixels: np.ndarray, augmentation: str, dataset: str) -> np.ndarray:
    """The image; for Fashion-MNIST also its mirror image, if the model's test-time augmentation has no mirrored views.

    The data's clothing, such as shoes, mostly faces one way, and a photo may face the other.

    Args:
        pixels: (H, W, C).
        augmentation: `"none"`, or another, which mirrors.
        dataset: The name of the data.

    Returns:
        (1, H, W, C) or (2, H, W, C).
    """
    return np.stack([pixels, pixels[:, ::-1]] if (augmentation, dataset) == ("none", FASHION_MNIST) else [pixels])


def answer(found: np.ndarray, classes: Sequence[str], strangeness: float | None) -> dict:
    """What is said of one photo.

    Args:
        found: Calibrated probabilities of `both_ways`, (1 or 2, classes). The row with the highest one counts.
        classes: The names of the classes.
        strangeness: 0 to 1: see `STRANGE`; None if it is not known.

    Returns:
        class, probability, next (the two classes that follow, each with its probability), probabilities (by class),
        strangeness, out_of_distribution (whether it is above `STRANGE`; both None if not known), warnings (sentences).
    """
    probabilities = found[found.max(axis=1).argmax()].astype(float).round(6)
    ranked = [
        {"class": classes[place], "probability": float(probabilities[place])}
        for place in np.argsort(-probabilities, kind="stable")
    ]
    warning = f"it is probably none of the {len(classes)} classes: it does not look like the training images"
    return {
        **ranked[0],
        "next": ranked[1:3],
        "probabilities": dict(zip(classes, probabilities.tolist(), strict=True)),
        "strangeness": None if strangeness is None else round(strangeness, 6),
        "out_of_distribution": None if strangeness is None else strangeness > STRANGE,
        "warnings": [warning] if strangeness is not None and strangeness > STRANGE else [],
    }
