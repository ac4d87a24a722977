"""The choice of the precision: bfloat16 if the GPU or the processor has instructions for it, else float32."""

import os
from pathlib import Path

from stages.base.errors import InputError
from stages.trained import on_tensorflow

# Values of oneDNN's environment variables that limit it to instruction sets without bfloat16, in ascending order. On
# processors, TensorFlow computes with oneDNN. Source: oneDNN's documentation, "CPU Dispatcher Control".
BELOW_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
BELOW_BFLOAT16 = (*BELOW_AVX512, "AVX512_CORE", "AVX512_CORE_VNNI")


def use_bfloat16(precision: str) -> bool:
    """Whether to compute in bfloat16.

    Args:
        precision: `"float32"`, `"bfloat16"` or `"auto"`: bfloat16 if all GPUs or, without a GPU, the processor have
            instructions for it.

    Raises:
        InputError: `precision` is `"bfloat16"`, but an environment variable limits oneDNN to instruction sets that cannot
            compute in it.
    """
    if precision == "float32":
        return False
    capabilities = on_tensorflow.capabilities()
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
    if "avx512f" in instructions and allowed in BELOW_AVX512:  # here TensorFlow would fail
        raise InputError(
            f"precision is bfloat16, but the environment variable {name} is {allowed}, which keeps oneDNN from computing "
            f"in it: set `precision: auto` in the model's block of params.yaml, or type `unset {name}`."
        )
    return True
