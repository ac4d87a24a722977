"""What TensorFlow knows: the GPUs of the machine, and the multiply-adds of a model."""

import math
import re

import keras
import tensorflow as tf

# Operations that run others in ways that a graph does not tell.
OPAQUE_OPERATIONS = re.compile(r"While|If$|Case$|XlaCallModule|PyFunc|RNN")


def capabilities() -> list[float]:
    """The compute capability of each GPU, such as 8.0; 0 if it is not an NVIDIA GPU."""
    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [float(".".join(map(str, gpu.get("compute_capability", (0,))))) for gpu in details]


def gpu_names() -> list[str]:
    """The name of each GPU, such as `NVIDIA H100 80GB HBM3`."""
    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [gpu.get("device_name", "GPU") for gpu in details]


def multiply_adds(model: keras.Model) -> int | None:
    """The multiply-adds of one image: see `stages.trained.cost.multiply_adds`."""
    pixels = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    return of_graph(tf.function(lambda images: model(images, training=False)).get_concrete_function(pixels).graph)


def of_graph(graph: tf.Graph) -> int | None:
    """The multiply-adds of a graph and of the functions that it calls; None if they are unknown."""
    counts = [of_operation(operation) for operation in graph.get_operations()]
    return None if None in counts else sum(counts)


def of_operation(operation: tf.Operation) -> int | None:
    """The multiply-adds of one operation of a graph; None if they are unknown."""
    kind, shapes = operation.type, [tuple(tensor.shape) for tensor in operation.inputs]
    if kind.endswith("PartitionedCall"):
        return of_graph(operation.graph._get_function(operation.get_attr("f").name).graph)
    if kind in ("MatMul", "BatchMatMulV2"):
        return math.prod(operation.outputs[0].shape) * shapes[0][-1]
    if kind in ("Conv2D", "DepthwiseConv2dNative"):  # a dilated one makes several images of one
        return math.prod(operation.outputs[0].shape[:-1]) * math.prod(shapes[1])
    if kind == "Conv2DBackpropInput":  # a transposed convolution
        return math.prod(shapes[2][:-1]) * math.prod(shapes[1])
    if kind == "Einsum":
        return of_einsum(operation.get_attr("equation").decode(), shapes)
    return None if OPAQUE_OPERATIONS.search(kind) else 0


def of_einsum(equation: str, shapes: list[tuple]) -> int | None:
    """The multiply-adds of a sum of products in Einstein notation; None if it has an ellipsis."""
    if "." in equation:
        return None
    sizes = {}
    for labels, shape in zip(equation.partition("->")[0].split(","), shapes, strict=True):
        sizes |= dict(zip(labels, shape, strict=True))
    return math.prod(sizes.values()) if len(shapes) > 1 else 0
