"""Functions for JAX as the backend: the GPUs of the machine, and the multiply-adds of a model."""

import math
import re

import jax
import keras
import numpy as np

# Operations that run others in ways that a graph does not tell.
OPAQUE_OPERATIONS = ("while", "scan", "cond", "pure_callback", "io_callback")


def capabilities() -> list[float]:
    """The compute capability of each GPU, such as 8.0; 0 if it is not an NVIDIA GPU."""
    found = [getattr(gpu, "compute_capability", "") for gpu in jax.devices() if gpu.platform == "gpu"]
    return [float(capability) if re.fullmatch(r"\d+\.\d+", capability) else 0 for capability in found]


def gpu_names() -> list[str]:
    """The name of each GPU, such as `NVIDIA H100 80GB HBM3`."""
    return [gpu.device_kind for gpu in jax.devices() if gpu.platform == "gpu"]


def multiply_adds(model: keras.Model) -> int | None:
    """The multiply-adds of one image: see `stages.trained.cost.multiply_adds`."""
    pixels = np.zeros((1, *model.input_shape[1:]), np.float32)
    return of_graph(jax.make_jaxpr(lambda images: model(images, training=False))(pixels).jaxpr)


def of_graph(graph: "jax.extend.core.Jaxpr") -> int | None:
    """The multiply-adds of a graph and of the graphs that it calls; None if they are unknown."""
    total = 0
    for equation in graph.eqns:
        name = equation.primitive.name
        inner = [getattr(value, "jaxpr", value) for value in equation.params.values() if hasattr(value, "jaxpr")]
        counts = [of_graph(called) for called in inner]
        if name in OPAQUE_OPERATIONS or None in counts:
            return None
        total += sum(counts)
        shapes = [variable.aval.shape for variable in equation.invars]
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += math.prod(equation.outvars[0].aval.shape) * math.prod(shapes[0][axis] for axis in contracted)
        if name == "conv_general_dilated":
            numbers, spread = equation.params["dimension_numbers"], equation.params["lhs_dilation"]
            transposed = any(step > 1 for step in spread)
            shape, axes = (
                (shapes[0], numbers.lhs_spec) if transposed else (equation.outvars[0].aval.shape, numbers.out_spec)
            )
            total += math.prod(shape[axis] for axis in axes[2:]) * math.prod(shapes[1])
    return total
