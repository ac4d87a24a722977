"""The environment variables of a stage, set before any library is loaded, so that a user's settings change no result.

TensorFlow, Keras, matplotlib, NumPy and their libraries read environment variables and files in the user's home
directory. Some of these settings change rounding, fonts or even the number of epochs, and DVC would record the result.
`python -m stages.NAME` therefore removes all variables that these libraries read, except those in `KEPT`, and makes them
ignore the user's files. What remains and may change the last digits of results is recorded with them: see `machine`.
"""

import os
import platform
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

PREFIXES = (
    "AUTOGRAPH_", "BLIS_", "CUBLAS_", "CUDNN_", "DNNL_", "EIGEN_", "FREETYPE_", "GOMP_", "GOTO_", "JAX_", "JOBLIB_",
    "KERAS_", "KMP_", "LOKY_", "MATPLOTLIB", "MKL_", "MLIR_", "MPL", "NPY_", "NUMEXPR_", "NUMPY_", "NVIDIA_TF32_OVERRIDE",
    "OMP_", "ONEDNN_", "OPENBLAS_", "PANDAS_", "PYTHONINSPECT", "PYTHONWARNINGS", "SCIPY_", "SKLEARN_", "TF2_", "TF_",
    "TQDM_", "VECLIB_", "XLA_",
)  # fmt: skip

# These make libraries treat the processor as another type, or as one with fewer instructions. Results record them.
PROCESSOR = (
    "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NPY_DISABLE_CPU_FEATURES",
    "GLIBC_TUNABLES",
)  # fmt: skip

# These choose a device, the use of GPU memory and the folder of the font cache. Results do not depend on them.
KEPT = (
    *PROCESSOR, "JAX_PLATFORMS", "MPLCONFIGDIR", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_ALLOCATOR",
    "XLA_PYTHON_CLIENT_ALLOCATOR", "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE",
)  # fmt: skip

# Without KERAS_HOME and MATPLOTLIBRC, Keras and matplotlib would read the user's ~/.keras/keras.json and matplotlibrc.
FORCED_VARIABLES = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": os.devnull,
    "MATPLOTLIBRC": os.devnull,
    "MPLBACKEND": "agg",
    "OMP_NUM_THREADS": "1",  # until `stages.base.threads.use_threads`
    "OPENBLAS_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime would tell Microsoft of its use, and write a device ID into ~/.cache
    "TF_CPP_MIN_LOG_LEVEL": "3",  # failures are still raised as exceptions
}

PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "matplotlib", "scikit-learn")


def ignore_user_settings() -> list[str]:
    """Set the environment variables of this process. Returns the names of the removed variables, sorted."""
    ignored = [
        name
        for name in os.environ
        if name.startswith(PREFIXES) and name not in KEPT and FORCED_VARIABLES.get(name) != os.environ[name]
    ]
    for name in ignored:
        del os.environ[name]
    if "PYTHONWARNINGS" in ignored:
        sys.warnoptions.clear()
        warnings.resetwarnings()
        warnings.simplefilter("default")
    os.environ.update(FORCED_VARIABLES)
    return sorted(ignored)


def refuse_another_python() -> None:
    """Exit with an error if this Python lacks packages, for example because the environment is not activated."""
    missing = [name for name in ("numpy", "pydantic", "tensorflow", "keras") if find_spec(name) is None]
    if missing:
        sys.exit(
            f"error: {sys.executable} has no package {', '.join(missing)}. Type `make installed`, which installs "
            "them, and before single commands `. .venv/bin/activate`."
        )


def threads() -> int:
    """The number of threads on which each library computes: see `stages.base.threads`."""
    return int(os.environ.get("OMP_NUM_THREADS") or cores())


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name and type, followed by the variables of `PROCESSOR` that are set: `NAME=VALUE`."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()]
        known = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    except OSError:  # not Linux
        known = {}
    if "model name" in known:
        name = known["model name"]
        if "cpu family" in known:
            name += f", family {known['cpu family']}, model {known.get('model', '?')}"
    elif sys.platform == "darwin":
        name = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, encoding="utf-8", check=False
        ).stdout.strip()
    else:
        name = " ".join(known[key] for key in ("CPU implementer", "CPU part") if key in known)
    stand_ins = [f"{name}={os.environ[name]}" for name in PROCESSOR if os.environ.get(name)]
    return ", ".join([re.sub(r"\s+", " ", name) or platform.machine(), *stand_ins])


def versions() -> dict[str, str]:
    """Versions of Python and of the packages in `PACKAGES`, which results depend on; `none` if one is not installed."""
    from importlib import metadata  # here: not every process needs it

    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def machine() -> dict:
    """What results depend on besides code, data and parameters: `processor`, `threads` and `versions`."""
    return {"processor": processor(), "threads": threads(), "versions": versions()}
