"""What trains a model: layers, augmentation, optimizer and schedule, the fit, the saved file.

Importing this package loads Keras and its backend, and throws away what TensorFlow writes at its start: notes on
processor instructions and absent GPU drivers, which no log level silences. Where loading fails, they are shown. Python's
garbage collector does not search what was loaded, which would hold up every process, most of all at its end.
"""

import gc
import os
import sys
import tempfile


def load_quietly() -> None:
    """Import Keras and wake its backend, `KERAS_BACKEND`, with the process's stderr set aside."""
    # TensorFlow and Keras load these where they find them, for converters and wrappers that nothing here uses.
    unused = {"jax", "matplotlib", "sklearn"} - {os.environ["KERAS_BACKEND"], *sys.modules}
    sys.modules.update(dict.fromkeys(unused))  # None: an import of it fails, and they go on without
    collects = gc.isenabled()
    gc.disable()
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            import keras

            keras.config.set_floatx("float32")
            keras.config.set_image_data_format("channels_last")
            keras.ops.zeros(1)
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            for name in unused:
                del sys.modules[name]
            os.dup2(kept, 2)
            os.close(kept)
            gc.freeze()
            if collects:
                gc.enable()


load_quietly()
