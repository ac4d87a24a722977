"""The start of Keras and TensorFlow."""

import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from stages.base.threads import use_threads


def start_keras(threads: int) -> None:
    """Load Keras and TensorFlow, without the messages that TensorFlow prints at its start.

    TensorFlow prints messages on processor instructions and missing GPU drivers at any log level. They are discarded unless
    loading fails. The loaded objects are excluded from Python's garbage collection, which would slow down every process,
    most of all its exit. A second call does nothing.

    Args:
        threads: On which each library computes: see `use_threads`.
    """
    if "keras.src" in sys.modules:  # `keras` alone may wait for its first use: see `stages.base.late`
        return
    use_threads(threads)
    # TensorFlow and Keras import these packages if they are installed, for features that this project does not use.
    unused = {"jax", "matplotlib", "pandas", "scipy", "sklearn"} - set(sys.modules)
    sys.modules.update(dict.fromkeys(unused))  # None: importing them fails, and TensorFlow and Keras continue
    collects = gc.isenabled()
    gc.disable()
    try:
        with silent():
            import keras  # here, not at the top: only now may it load

            keras.config.set_floatx("float32")
            keras.config.set_image_data_format("channels_last")
            keras.ops.zeros(1)
            # Each model, fold and image size is traced once on purpose; TensorFlow warns of that as of a mistake.
            logging.getLogger("tensorflow").addFilter(lambda record: "retracing" not in record.getMessage())
    finally:
        for name in unused:
            del sys.modules[name]
        gc.freeze()
        if collects:
            gc.enable()


@contextmanager
def silent(even_on_errors: bool = False) -> Iterator[None]:
    """Discard what is written to stderr, also by libraries in C and C++; after an exception only if `even_on_errors`."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            if not even_on_errors:
                notes.seek(0)
                os.write(stderr, notes.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
