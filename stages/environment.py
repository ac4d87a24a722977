"""The process's environment, settled before any library is loaded: what a user exported elsewhere changes no result.

TensorFlow, Keras, matplotlib, NumPy, their libraries and JAX read environment variables and files in the user's home
directory; some train fewer epochs, round otherwise or draw with other fonts, and DVC would lock the result. So importing
`stages` takes out every variable that they heed but those of `KEPT`, and points the others at nothing. What is left and
may change digits is recorded with the results: see `machine`.
"""

import os
import platform
import re
import subprocess
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from stages.errors import InputError

PREFIXES = (
    "AUTOGRAPH_", "BLIS_", "CUBLAS_", "CUDNN_", "DNNL_", "EIGEN_", "FREETYPE_", "GOMP_", "GOTO_", "JAX_", "JOBLIB_",
    "KERAS_", "KMP_", "LOKY_", "MATPLOTLIB", "MKL_", "MLIR_", "MPL", "NPY_", "NUMEXPR_", "NUMPY_", "NVIDIA_TF32_OVERRIDE",
    "OMP_", "ONEDNN_", "OPENBLAS_", "PANDAS_", "PYTHONINSPECT", "PYTHONWARNINGS", "SCIPY_", "SKLEARN_", "TF2_", "TF_",
    "TQDM_", "VECLIB_", "XLA_",
)  # fmt: skip

# Stand in for a part of the processor: another one, or one with fewer instructions. Recorded, since digits depend on it.
PROCESSOR = (
    "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NPY_DISABLE_CPU_FEATURES",
    "GLIBC_TUNABLES",
)  # fmt: skip

# Where to compute, how much of a GPU's memory to take, where to keep a cache of fonts: no result depends on it.
KEPT = (
    *PROCESSOR, "JAX_PLATFORMS", "MPLCONFIGDIR", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_ALLOCATOR",
    "XLA_PYTHON_CLIENT_ALLOCATOR", "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE",
)  # fmt: skip

# Without KERAS_HOME and MATPLOTLIBRC, a user's ~/.keras/keras.json and matplotlibrc would be read.
SET = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": os.devnull,
    "MATPLOTLIBRC": os.devnull,
    "MPLBACKEND": "agg",
    "TF_CPP_MIN_LOG_LEVEL": "3",  # failures still come as exceptions
}

PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "matplotlib", "scikit-learn")


def settle() -> list[str]:
    """Make the environment the same for every user. Returns the names of variables that were taken out, sorted."""
    ignored = [
        name
        for name in os.environ
        if name.startswith(PREFIXES) and name not in KEPT and SET.get(name) != os.environ[name]
    ]
    for name in ignored:
        del os.environ[name]
    if "PYTHONWARNINGS" in ignored:
        sys.warnoptions.clear()
        warnings.resetwarnings()
        warnings.simplefilter("default")
    os.environ.update(SET)
    return sorted(ignored)


def refuse_another_python() -> None:
    """End with a sentence where this Python has none of the packages: most often, the environment is not activated."""
    missing = [name for name in ("numpy", "pydantic", "tensorflow", "keras") if find_spec(name) is None]
    if missing:
        sys.exit(
            f"error: {sys.executable} has no package {', '.join(missing)}. Type `make run`, which installs what is needed; "
            "for single commands type `. .venv/bin/activate` first."
        )


def use_backend(name: str) -> None:
    """Have Keras compute with `"tensorflow"` or `"jax"`; before it is loaded. Raises `InputError` where there is no JAX."""
    if find_spec(name) is None:
        raise InputError(
            f"backend is {name}, but the package is not installed: type `pip install -r requirements-dev.txt`, or set "
            "`backend: tensorflow` in params.yaml."
        )
    os.environ["KERAS_BACKEND"] = name


def threads() -> int:
    """How many processors this process may use, and so how many threads TensorFlow starts for one operation."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name and type, with what stands in for a part of it: see `PROCESSOR`."""
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
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        ).stdout.strip()
    else:
        name = " ".join(known[key] for key in ("CPU implementer", "CPU part") if key in known)
    stand_ins = [f"{name}={os.environ[name]}" for name in PROCESSOR if os.environ.get(name)]
    return ", ".join([re.sub(r"\s+", " ", name) or platform.machine(), *stand_ins])


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that digits depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def machine() -> dict:
    """What digits depend on beside code, data and parameters: `processor`, `threads` and `versions`."""
    return {"processor": processor(), "threads": threads(), "versions": versions()}
