"""How exported files classify, and how fast: each with the runtime of its format."""

import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import tensorflow as tf
from tensorflow import lite

from stages.base.environment import cores
from stages.inference.formats import INPUT, OUTPUT

BATCH_SIZE = 10
SINGLE_IMAGES = 100  # classified one by one to measure the latency

Classify = Callable[[np.ndarray], np.ndarray]  # float32 (N, H, W, C) to (N, classes)


def load(path: Path) -> Classify:
    """A function that classifies with an exported file, on one thread; a SavedModel on all."""
    if path.suffix == ".onnx":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda images: session.run([OUTPUT], {INPUT: images})[0]
    if path.suffix == ".tflite":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow advertises ai-edge-litert, which not all systems have
            interpreter = lite.Interpreter(str(path), num_threads=1)
        source = interpreter.get_input_details()[0]
        result = interpreter.get_signature_runner().get_output_details()[OUTPUT]["index"]

        def classify(images: np.ndarray) -> np.ndarray:
            if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
                interpreter.resize_tensor_input(source["index"], images.shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(source["index"], images)
            interpreter.invoke()
            return interpreter.get_tensor(result)

        interpreter.allocate_tensors()
        return classify
    loaded = tf.saved_model.load(str(path))
    return lambda images: loaded.signatures["serving_default"](pixels=tf.constant(images))[OUTPUT].numpy()


def classify_all(path: Path, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Probabilities of many images, with one copy of the file per core.

    Args:
        path: An exported file.
        images: (N, H, W, C), 0 to 255.

    Returns:
        Probabilities, (N, classes), and images per second.
    """
    batches = np.array_split(images.astype(np.float32), -(-len(images) // BATCH_SIZE))
    workers = 1 if path.is_dir() else cores()
    copies = [load(path) for _ in range(workers)]
    shares = [[batches[place] for place in places] for places in np.array_split(range(len(batches)), workers)]
    for classify in copies:
        classify(batches[0])  # what the first call prepares is not measured
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(lambda classify, share: [classify(batch) for batch in share], copies, shares))
    seconds = time.perf_counter() - started
    return np.concatenate([found for share in done for found in share]), len(images) / seconds


def latency(path: Path, images: np.ndarray) -> np.ndarray:
    """The milliseconds that each of `SINGLE_IMAGES` takes, one at a time, on one thread: float64.

    Args:
        path: An exported file.
        images: (N, H, W, C), 0 to 255; taken in turns.
    """
    classify = load(path)
    single = [images[index % len(images)][None].astype(np.float32) for index in range(SINGLE_IMAGES)]
    for image in single[:20]:
        classify(image)
    taken = []
    for image in single:
        started = time.perf_counter()
        classify(image)
        taken.append(1000 * (time.perf_counter() - started))
    return np.array(taken)
