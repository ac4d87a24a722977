"""The number of threads on which libraries compute."""

import os

from threadpoolctl import threadpool_limits


def use_threads(count: int) -> None:
    """Let each library compute on `count` threads, whatever the number of cores: it changes the last digits of results.

    It has to be called before TensorFlow computes anything. Without it, libraries use one thread.
    """
    names = (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    )
    os.environ.update(dict.fromkeys(names, str(count)))
    threadpool_limits(count)  # of libraries that are loaded already; only so does OpenBLAS use more threads than cores
