"""A trained model as files for use without this project: ONNX, LiteRT and TensorFlow's SavedModel.

All have the same contract: the input `pixels`, float32 (N, H, W, C), 0 to 255, as the model was trained on them; the
outputs `probabilities`, float32 (N, classes), calibrated, and `strangeness`, (N,), 0 to 1, by which pictures of none of the
classes are noticed: see `stages.strangers`. `model.onnx` also has `features`, (N, D): the input of the last dense layer.
Equal models give byte-identical files.
"""

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import onnx
import tensorflow as tf
from keras import layers, ops
from tensorflow import lite

from stages.base.errors import InputError
from stages.base.files import atomic_write
from stages.data.transforms import TUNED_SIZE
from stages.inference.classifier import from_json
from stages.trained.backend import silent
from stages.trained.features import with_features
from stages.trained.prediction import VIEWS

INPUT = "pixels"
OUTPUTS = OUTPUT, STRANGENESS, FEATURES = "probabilities", "strangeness", "features"
METADATA = "metadata.json"  # in a LiteRT file, which is also a ZIP archive; in the folder assets.extra of a SavedModel
as_json = partial(json.dumps, ensure_ascii=False)


Head = tuple[np.ndarray, float]  # weights of the outputs of a model's layers, and a bias: see `stages.strangers`


def serving_model(
    model: keras.Model, augmentation: str, temperature: float, head: Head, features: bool = False
) -> keras.Model:
    """A model from pixels to the first two of `OUTPUTS`, or all three.

    Args:
        model: From pixels (N, H, W, C) to logits (N, classes), in float32.
        augmentation: The test-time augmentation that is averaged over, a key of `VIEWS`.
        temperature: The logits are divided by it, above 0. Source: Guo et al., "On calibration of modern neural networks"
            (2017).
        head: Of the strangeness.
        features: Whether the features of a single view are the third output; only without test-time augmentation.
    """
    pixels = keras.Input(model.input_shape[1:], name=INPUT, dtype="float32")
    height, width = pixels.shape[1:3]
    border = round(height / TUNED_SIZE)
    framed = layers.ZeroPadding2D(border)(pixels) if border else pixels  # as `transforms.shift` does it
    if border and pixels.shape[-1] == 3:
        above, below = (ops.repeat(edge, border, axis=1) for edge in (pixels[:, :1], pixels[:, -1:]))
        tall = ops.concatenate([above, pixels, below], axis=1)
        left, right = (ops.repeat(edge, border, axis=2) for edge in (tall[:, :, :1], tall[:, :, -1:]))
        framed = ops.concatenate([left, tall, right], axis=2)
    views = []
    for _, offset, mirrored in VIEWS[augmentation]:
        start = border - offset * border
        view = framed[:, start : start + height, start : start + width] if offset else pixels
        views.append(ops.flip(view, axis=2) if mirrored else view)
    if len(views) == 1:
        inner, logits, outputs = with_features(model)(pixels, training=False)  # (N, D), (N, classes), (N, L)
    else:
        _, every, outputs = with_features(model)(ops.concatenate(views), training=False)  # (V x N, classes)
        weights = np.array([weight for weight, *_ in VIEWS[augmentation]], np.float32)
        by_view = ops.reshape(every, (len(views), -1, every.shape[-1]))  # (V, N, classes)
        logits = ops.sum(by_view * weights[:, None, None], axis=0)  # (N, classes)
        outputs = ops.reshape(outputs, (len(views), -1, outputs.shape[-1]))[0]  # (N, L), of the image as it is
    probabilities = layers.Softmax(name=OUTPUT)(logits / temperature)
    strangeness = ops.sigmoid(ops.sum(outputs * head[0], axis=-1) + head[1])
    return keras.Model(
        pixels, [probabilities, strangeness, *([layers.Flatten(name=FEATURES)(inner)] if features else [])]
    )


def named(model: keras.Model) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """A `serving_model` as a function from pixels to its outputs by name."""
    return lambda pixels: dict(zip(OUTPUTS, model(pixels, training=False), strict=False))


def save(model: keras.Model, folder: Path) -> None:
    """Save a `serving_model` as a SavedModel with the signature `serving_default`.

    TensorFlow's `fingerprint.pb`, which differs each time, is left out. Keras's own export is not used here, because it
    writes the weights in another order each time, and takes longer.
    """
    serving = tf.Module()
    serving.weights = [weight.value for weight in model.weights]  # without the states of random generators
    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=INPUT)
    classify = tf.function(named(model), input_signature=[signature])
    tf.saved_model.save(serving, str(folder), signatures=classify.get_concrete_function())
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def write_saved_model(model: keras.Model, path: Path, metadata: dict) -> None:
    """Write a `serving_model` as a SavedModel, a folder. `metadata` stands in its `assets.extra/metadata.json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.part") as folder:
        written = Path(folder) / path.name
        save(model, written)
        (written / "assets.extra").mkdir()
        (written / "assets.extra" / METADATA).write_text(as_json(metadata, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(path, ignore_errors=True)
        written.rename(path)


def write_litert(model: keras.Model, path: Path, metadata: dict, int8: bool = False) -> None:
    """Write a `serving_model` for LiteRT (formerly TensorFlow Lite), with the signature `serving_default`.

    As LiteRT's own tools do, the metadata are appended as a ZIP archive: `unzip -p FILE metadata.json`.

    Args:
        int8: Whether weights are stored, and multiplied, as whole numbers of 8 bits with one scale per channel: "dynamic
            range quantization" in LiteRT's documentation.
    """
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder))
        converter = lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [lite.Optimize.DEFAULT] if int8 else []
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True  # older runtimes cannot
        content = converter.convert()
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        with zipfile.ZipFile(temporary, "a") as appended:
            text = as_json(metadata, indent=2) + "\n"
            appended.writestr(zipfile.ZipInfo(METADATA), text)  # a ZipInfo without a date says 1980


def write_onnx(model: keras.Model, path: Path, metadata: dict) -> None:
    """Write a `serving_model` as ONNX; the metadata are its `metadata_props`: JSON, or text that is none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        model(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports only models that were called
        model.export(file, format="onnx", verbose=False)
        exported = onnx.load(file)
    exported.graph.CopyFrom(ordered(exported.graph))
    as_it_is = {key for key, value in metadata.items() if isinstance(value, str) and from_json(value) == value}
    texts = {key: value if key in as_it_is else as_json(value) for key, value in metadata.items()}
    onnx.helper.set_model_props(exported, texts)
    onnx.checker.check_model(exported)
    with atomic_write(path) as temporary:
        temporary.write_bytes(exported.SerializeToString(deterministic=True))


def ordered(graph: onnx.GraphProto) -> onnx.GraphProto:
    """An ONNX graph with its nodes ordered from the outputs back, and all values named by that order.

    The converter's order of nodes and names of constants differ from run to run. The input is named `pixels`, the outputs
    as in `OUTPUTS`; all have N rows. Raises `ValueError` if a node holds a graph, such as the body of a loop.
    """
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        raise ValueError("loops, as of recurrent layers, are not supported")
    makers = {name: node for node in graph.node for name in node.output}
    constants = {value.name: value for value in graph.initializer}
    names = {graph.input[0].name: INPUT, "": ""}  # an optional input that is left out has an empty name
    nodes, used = [], []

    def visit(name: str) -> None:
        """Name a value, after all that it is computed from."""
        if name in names:
            return
        if name in constants:
            used.append(constants[name])
            names[name] = used[-1].name = f"constant_{len(used)}"
            return
        node = makers[name]
        for source in node.input:
            visit(source)
        nodes.append(node)
        node.name = f"{node.op_type}_{len(nodes)}"
        node.input[:] = [names[source] for source in node.input]
        for place, output in enumerate(node.output):
            names[output] = node.output[place] = f"{node.name}_{place}" if output else ""

    for value in graph.output:
        visit(value.name)
    outputs = dict(zip([names[value.name] for value in graph.output], OUTPUTS, strict=False))
    for node in nodes:
        for values in (node.input, node.output):
            values[:] = [outputs.get(name, name) for name in values]
    for value, name in zip((graph.input[0], *graph.output), (INPUT, *OUTPUTS), strict=False):
        value.name = name
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return onnx.helper.make_graph(nodes, "model", graph.input, graph.output, used, graph.doc_string)


FEATURES_FILE = "model.onnx"
# The files of stage `export`: how each is written, and whether its graph averages the views of test-time augmentation.
FILES: dict[str, tuple[Callable, bool]] = {
    FEATURES_FILE: (write_onnx, False),
    "model-tta.onnx": (write_onnx, True),
    "model.tflite": (write_litert, False),
    "model-tta.tflite": (write_litert, True),
    "model-int8.tflite": (partial(write_litert, int8=True), False),
    "saved_model": (write_saved_model, False),
}


def write(
    name: str, model: keras.Model, augmentation: str, temperature: float, path: Path, metadata: dict, head: Head
) -> None:
    """Write one of `FILES`, without the messages of the converters.

    Args:
        name: A key of `FILES`.
        model: From pixels (N, H, W, C) to logits (N, classes), in float32.
        augmentation: Of the model, a key of `VIEWS`; only files that average views use it.
        temperature: See `serving_model`.
        metadata: What the file says of itself; values that JSON can hold.
        head: See `serving_model`.

    Raises:
        InputError: A layer cannot be converted.
    """
    writer, averages = FILES[name]
    tf.config.run_functions_eagerly(True)  # puts functions within the graph into it: ONNX has no calls of functions
    try:
        with silent(even_on_errors=True):
            served = serving_model(
                model, augmentation if averages else "none", temperature, head, name == FEATURES_FILE
            )
            writer(served, path, metadata)
    except Exception as error:  # the converters raise classes of their own
        text = " ".join(str(error).split())
        missing = re.search(r"'tf\.(\w+)' op is neither|No Op registered for (\w+)", text)
        reason = f"the format has no operation {missing[1] or missing[2]}" if missing else text[:300]
        raise InputError(
            f"the model cannot be exported as {name} ({reason}). Replace the layer that needs it by layers or keras.ops "
            "that can be exported, or remove the model."
        ) from error
    finally:
        tf.config.run_functions_eagerly(False)
