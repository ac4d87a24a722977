"""A trained model as files for use without this project: ONNX, LiteRT and TensorFlow's SavedModel.

All have the same contract: the input `pixels`, float32 (N, 28, 28, 1), 0 to 255, bright clothing on a dark background; the
output `probabilities`, float32 (N, classes), calibrated. Equal models give byte-identical files.
"""

import copy
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import keras
import numpy as np
import onnx
import tensorflow as tf
from keras import layers, ops

from stages.common.backend import silent
from stages.common.errors import InputError
from stages.common.files import atomic_write
from stages.trained.prediction import VIEWS

INPUT, OUTPUT = "pixels", "probabilities"
METADATA = "metadata.json"  # in a LiteRT file, which is also a ZIP archive; in the folder assets.extra of a SavedModel


def serving_model(model: keras.Model, augmentation: str, temperature: float) -> keras.Model:
    """A model from pixels to calibrated probabilities.

    Args:
        model: From pixels (N, H, W, C) to logits (N, classes), in float32.
        augmentation: The test-time augmentation that is averaged over, a key of `VIEWS`.
        temperature: The logits are divided by it, above 0. Source: Guo et al., "On calibration of modern neural networks"
            (2017).
    """
    pixels = keras.Input(model.input_shape[1:], name=INPUT, dtype="float32")
    height, width = pixels.shape[1:3]
    framed = layers.ZeroPadding2D(1)(pixels)
    views = []
    for _, offset, mirrored in VIEWS[augmentation]:
        view = framed[:, 1 - offset : 1 - offset + height, 1 - offset : 1 - offset + width] if offset else pixels
        views.append(ops.flip(view, axis=2) if mirrored else view)
    if len(views) == 1:
        logits = model(pixels, training=False)  # (N, classes)
    else:
        every = model(ops.concatenate(views), training=False)  # (V x N, classes)
        weights = np.array([weight for weight, *_ in VIEWS[augmentation]], np.float32)
        by_view = ops.reshape(every, (len(views), -1, every.shape[-1]))  # (V, N, classes)
        logits = ops.sum(by_view * weights[:, None, None], axis=0)  # (N, classes)
    return keras.Model(pixels, layers.Softmax(name=OUTPUT)(logits / temperature))


def write_saved_model(model: keras.Model, path: Path, metadata: dict) -> None:
    """Write a `serving_model` as a SavedModel, a folder, with the signature `serving_default`.

    `metadata` stands in `assets.extra/metadata.json`. TensorFlow's `fingerprint.pb`, which differs each time, is left out.
    Keras's own export is not used here, because it writes the weights in another order each time.
    """
    serving = tf.Module()
    serving.weights = [weight.value for weight in model.weights]  # without the states of random generators
    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=INPUT)
    classify = tf.function(lambda pixels: {OUTPUT: model(pixels, training=False)}, input_signature=[signature])
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.part") as folder:
        written = Path(folder) / path.name
        tf.saved_model.save(serving, str(written), signatures=classify.get_concrete_function())
        (written / "fingerprint.pb").unlink(missing_ok=True)
        extra = written / "assets.extra" / METADATA
        extra.parent.mkdir()
        extra.write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        shutil.rmtree(path, ignore_errors=True)
        written.rename(path)


def write_litert(model: keras.Model, path: Path, metadata: dict, int8: bool = False) -> None:
    """Write a `serving_model` for LiteRT (formerly TensorFlow Lite), with the signature `serving_default`.

    As LiteRT's own tools do, the metadata are appended as a ZIP archive: `unzip -p FILE metadata.json`.

    Args:
        int8: Whether weights are stored, and multiplied, as whole numbers of 8 bits with one scale per channel: "dynamic
            range quantization" in LiteRT's documentation.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=INPUT)
    archive.add_endpoint("serve", lambda pixels: {OUTPUT: model(pixels, training=False)}, input_signature=[signature])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(f"{folder}/model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/model")
        converter.optimizations = [tf.lite.Optimize.DEFAULT] if int8 else []
        content = converter.convert()
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        with zipfile.ZipFile(temporary, "a") as appended:
            text = json.dumps(metadata, indent=2, ensure_ascii=False)
            appended.writestr(zipfile.ZipInfo(METADATA), text + "\n")  # a ZipInfo without a date says 1980


def write_onnx(model: keras.Model, path: Path, metadata: dict) -> None:
    """Write a `serving_model` as ONNX; the metadata are its `metadata_props`, each value as text or JSON."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        model(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports only models that were called
        model.export(file, format="onnx", verbose=False)
        exported = onnx.load(file)
    rename(exported.graph)
    for key, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        exported.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(exported)
    with atomic_write(path) as temporary:
        temporary.write_bytes(exported.SerializeToString(deterministic=True))


def rename(graph: onnx.GraphProto) -> None:
    """Order the nodes of an ONNX graph from the output back, and name all values by that order.

    The order of the nodes and the names of constants differ from run to run. The input keeps its name, the output is named
    `probabilities`, and both have N rows.
    """
    makers = {name: node for node in graph.node for name in node.output}
    constants = {value.name: value for value in graph.initializer}
    names = {graph.input[0].name: INPUT, "": ""}  # an optional input that is left out has an empty name
    nodes, used = [], []
    waiting = [graph.output[0].name]
    while waiting:
        name = waiting[-1]
        before = [source for source in read_by(makers[name]) if source not in names] if name in makers else []
        before = [source for source in before if source in makers or source in constants]  # others belong to a subgraph
        if name not in names and before:
            waiting += reversed(before)
            continue
        waiting.pop()
        if name in names:
            continue
        if name in constants:
            used.append(constants[name])
            names[name] = f"constant_{len(used)}"
        else:
            nodes.append(makers[name])
            for number, output in enumerate(makers[name].output):
                names[output] = f"{makers[name].op_type}_{len(nodes)}_{number}" if output else ""
    names[graph.output[0].name] = OUTPUT
    for value in [*used, graph.input[0], graph.output[0]]:
        value.name = names[value.name]
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}_{number + 1}"
        rename_reads(node, names)
        node.output[:] = [names[name] for name in node.output]
    ordered, kept = [copy.deepcopy(node) for node in nodes], [copy.deepcopy(value) for value in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(ordered)
    graph.initializer.extend(kept)
    graph.name = "model"
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "N"


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs inside a node: the body of a loop, the branches of a condition."""
    return [graph for attribute in node.attribute for graph in [*attribute.graphs, attribute.g] if graph.node]


def read_by(node: onnx.NodeProto) -> list[str]:
    """The names of the values that a node reads, also those inside its subgraphs, which may read values around them."""
    inside = [name for graph in subgraphs(node) for inner in graph.node for name in read_by(inner)]
    return [*node.input, *inside, *(value.name for graph in subgraphs(node) for value in graph.output)]


def rename_reads(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Rename the values of the graph around that a node reads; what a subgraph defines keeps its name."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for graph in subgraphs(node):
        own = {value.name for value in [*graph.input, *graph.initializer]}
        own |= {name for inner in graph.node for name in inner.output}
        outer = {name: new for name, new in names.items() if name and name not in own}
        for inner in graph.node:
            rename_reads(inner, outer)
        for value in graph.output:
            value.name = outer.get(value.name, value.name)


# The files of stage `export`: how each is written, and whether its graph averages the views of test-time augmentation.
FILES: dict[str, tuple[Callable, bool]] = {
    "model.onnx": (write_onnx, False),
    "model-tta.onnx": (write_onnx, True),
    "model.tflite": (write_litert, False),
    "model-tta.tflite": (write_litert, True),
    "model-int8.tflite": (partial(write_litert, int8=True), False),
    "saved_model": (write_saved_model, False),
}


def write(name: str, model: keras.Model, augmentation: str, temperature: float, path: Path, metadata: dict) -> None:
    """Write one of `FILES`.

    Args:
        name: A key of `FILES`.
        model: From pixels to logits, in float32.
        augmentation: Of the model, a key of `VIEWS`; only files that average views use it.
        temperature: See `serving_model`.
        path: The file or folder to write.
        metadata: What the file says of itself; values that JSON can hold.

    Raises:
        InputError: A layer cannot be converted.
    """
    writer, averages = FILES[name]
    try:
        with converting():
            writer(serving_model(model, augmentation if averages else "none", temperature), path, metadata)
    except Exception as error:  # the converters raise classes of their own
        raise InputError(cannot_be_converted(name, model, writer, error)) from error


@contextmanager
def converting() -> Iterator[None]:
    """Without messages of the converters, and with functions within a graph put into it: ONNX has no calls of functions."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        with silent(even_on_errors=True):
            yield
    finally:
        tf.config.run_functions_eagerly(before)


def cannot_be_converted(name: str, model: keras.Model, writer: Callable, error: Exception) -> str:
    """A sentence that names the layer that cannot be converted, if one can be found."""
    for layer in model._flatten_layers(include_self=False):
        try:
            alone = up_to(layer, model)
        except Exception:  # a layer that is called by another layer
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                with converting():
                    writer(alone, Path(folder) / name, {})
            except Exception as fault:
                return (
                    f"the model cannot be exported as {name}: its layer {layer.name} ({type(layer).__name__}) cannot be "
                    f"converted ({reason_of(fault)}). Replace it by layers or keras.ops that can be, or remove the model."
                )
    reason = reason_of(error)
    return f"the model cannot be exported as {name} ({reason}): replace its last changed layers by ones that can be."


def up_to(layer: keras.Layer, model: keras.Model) -> keras.Model:
    """A layer as a model of its own, as it predicts; one of several inputs as the part of its model that ends with it."""
    part = model if isinstance(layer.input, list) else layer
    symbol = keras.Input(part.input.shape[1:], dtype=part.input.dtype)
    alone = keras.Model(symbol, layer(symbol)) if part is layer else keras.Model(model.inputs, layer.output)
    return keras.Model(symbol, alone(symbol, training=False))


def reason_of(error: Exception) -> str:
    """What a converter says, in one line; of its many, the operation that the format does not have."""
    text = " ".join(str(error).split())
    missing = re.search(r"'tf\.(\w+)' op is neither|No Op registered for (\w+)", text)
    return f"the format has no operation {missing[1] or missing[2]}" if missing else text[:300]
