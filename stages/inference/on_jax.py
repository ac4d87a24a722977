"""Functions for JAX as the backend: the GPUs of the machine."""

import re

import jax


def capabilities() -> list[float]:
    """The compute capability of each GPU, such as 8.0; 0 if it is not an NVIDIA GPU."""
    found = [getattr(gpu, "compute_capability", "") for gpu in jax.devices() if gpu.platform == "gpu"]
    return [float(capability) if re.fullmatch(r"\d+\.\d+", capability) else 0 for capability in found]
