"""Classify images with an exported model, by ONNX Runtime: TensorFlow and Keras are not needed.

from stages.inference.classifier import Classifier
from stages.inference.photo import convert, read_photo

classifier = Classifier()
probabilities = classifier.probabilities(convert(read_photo(Path("shirt.jpg"))).pixels)  # (1, classes)
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime

from stages.common.errors import InputError

EXPORTED = Path("data/exported")  # model.onnx and others: see `stages.export`
BATCH_SIZE = 100  # images per call: more take more memory, not less time


class Classifier:
    """An exported model.

    Attributes:
        metadata: What the file says of itself: see `stages.export`.
        classes: The names of the classes, in the order of the probabilities.
        threshold: An image whose highest probability is below it is taken for out-of-distribution (OOD), 0 to 1.
    """

    def __init__(self, path: Path = EXPORTED / "model-tta.onnx", threads: int = 0):
        """Load a file that stage `export` wrote.

        Args:
            path: `model.onnx`, or `model-tta.onnx`, which averages the views of test-time augmentation.
            threads: Of the processor; 0: as many as it has cores.

        Raises:
            InputError: The file is missing or is not such a file.
        """
        if not path.exists():
            raise InputError(
                f"{path} is missing: there is no exported model yet. Type `make run`, which trains and exports it, or `dvc "
                "pull` to get it from a remote."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # failures are raised as exceptions
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            texts = self._session.get_modelmeta().custom_metadata_map
            self.metadata = {key: as_json(text) for key, text in texts.items()}
            self.classes: list[str] = self.metadata["classes"]
            self.threshold = float(self.metadata["out_of_distribution"]["threshold"])
        except Exception as error:  # of a file that is no model, ONNX Runtime raises classes of its own
            reason = " ".join(str(error).split())
            raise InputError(
                f"{path} is not a model that stage export wrote ({reason}). Delete it and type `dvc repro export`."
            ) from None

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Calibrated class probabilities.

        Args:
            images: Numbers from 0 to 255, bright clothing on a dark background: (N, 28, 28, 1), (N, 28, 28) or (28, 28).

        Returns:
            float32 (N, classes); rows sum to 1.

        Raises:
            InputError: The images have another shape, no numbers, or another range, such as 0 to 1.
        """
        pixels = as_pixels(images)
        batches = np.array_split(pixels, -(-len(pixels) // BATCH_SIZE) or 1)
        return np.concatenate([self._session.run(["probabilities"], {"pixels": batch})[0] for batch in batches])


def as_json(text: str) -> object:
    """The value of a metadata text: parsed if it is JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def as_pixels(images: np.ndarray) -> np.ndarray:
    """Images as the input `pixels`, float32 (N, 28, 28, 1); raises `InputError` as `Classifier.probabilities` says."""
    given = np.asarray(images)
    if given.dtype.kind not in "buif":
        raise InputError(f"the images hold {given.dtype}, but must hold numbers from 0 to 255.")
    if given.ndim == 2 or (given.ndim == 3 and given.shape[-1] == 1 and given.shape[0] == given.shape[1]):
        given = given[None]
    if given.ndim == 3:
        given = given[..., None]
    if given.shape[1:] != (28, 28, 1):
        raise InputError(
            f"the images have the shape {np.shape(images)}, but must have (N, 28, 28, 1), (N, 28, 28) or (28, 28): "
            "stages.inference.photo.convert makes a photo such an image."
        )
    pixels = given.astype(np.float32)
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 255.0)
    if not (low >= 0 and high <= 255):  # also if there is a NaN
        raise InputError(f"the images hold values from {low:g} to {high:g}, but must hold 0 to 255.")
    if 0 < high <= 1:
        raise InputError(
            f"the images hold values from {low:g} to {high:g}, but must hold 0 to 255: multiply them by 255. (Images from "
            "0 to 1 are nearly black to the model.)"
        )
    return pixels
