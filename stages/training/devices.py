"""What the machine can do: compute in bfloat16; train on several GPUs, each with its share of every batch."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from stages.errors import InputError

# What oneDNN, which computes for TensorFlow on a processor, may be kept to: instruction sets without bfloat16, in rising
# order. Source: oneDNN's documentation, "CPU Dispatcher Control".
BELOW_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
BELOW_BFLOAT16 = (*BELOW_AVX512, "AVX512_CORE", "AVX512_CORE_VNNI")


@contextmanager
def several_devices(count: int) -> Iterator[None]:
    """Within this context, models are built and fitted on the first `count` devices; 1 leaves everything as it is.

    TensorFlow's `MirroredStrategy` or, under JAX, Keras's `DataParallel`. The gradients are those of the whole batch; batch
    normalisation takes each device's own share under TensorFlow, the whole batch under JAX.

    Raises:
        InputError: The machine has fewer devices (GPUs or, where there is none, processors).
    """
    if count == 1:
        yield
        return
    found = keras.distribution.list_devices()
    if len(found) < count:
        raise InputError(
            f"devices is {count}, but {keras.backend.backend()} finds {len(found)} here ({', '.join(found)}): "
            f"set `devices: {len(found)}` in params.yaml."
        )
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(found[:count]).scope():
            yield
        return
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found[:count]))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def use_bfloat16(precision: str) -> bool:
    """Whether to compute in bfloat16: as asked or, for `"auto"`, where the GPU or the processor has instructions for it.

    Raises:
        InputError: `precision` is `"bfloat16"`, and an environment variable keeps oneDNN from all that could compute it.
    """
    if precision == "float32":
        return False
    capabilities = gpu_capabilities()
    if capabilities:
        return precision == "bfloat16" or min(capabilities) >= 8  # Ampere and later
    try:
        instructions = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        instructions = ""
    name = next((name for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if os.environ.get(name)), "")
    allowed = os.environ.get(name, "").upper()
    if precision == "auto":
        return "avx512_bf16" in instructions and allowed not in BELOW_BFLOAT16
    if "avx512f" in instructions and allowed in BELOW_AVX512:  # TensorFlow would ask oneDNN for what it may not do
        raise InputError(
            f"precision is bfloat16, but the environment variable {name} is {allowed}, which keeps oneDNN from computing "
            f"in it: set `precision: auto` in the model's block of params.yaml, or type `unset {name}`."
        )
    return True


def gpu_capabilities() -> list[float]:
    """The compute capability of each GPU that TensorFlow or JAX finds; 0 where it is no NVIDIA."""
    if keras.backend.backend() == "jax":
        import jax

        found = [getattr(gpu, "compute_capability", "") for gpu in jax.devices() if gpu.platform == "gpu"]
        return [float(capability) if re.fullmatch(r"\d+\.\d+", capability) else 0 for capability in found]
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [float(".".join(map(str, gpu.get("compute_capability", (0,))))) for gpu in details]
