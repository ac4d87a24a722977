"""Data-parallel training: several GPUs share each batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from stages.base.errors import InputError
from stages.training import on_tensorflow


@contextmanager
def several_devices(count: int) -> Iterator[None]:
    """A context in which models are built and fitted on the first `count` devices. With 1, it does nothing.

    It uses TensorFlow's `MirroredStrategy` or, with JAX, Keras's `DataParallel`. Gradients are those of the whole batch.
    Batch normalization uses the statistics of each device's part of the batch with TensorFlow, of the whole batch with JAX.

    Args:
        count: The number of devices: GPUs or, on a machine without GPUs, processors.

    Raises:
        InputError: The machine has fewer devices.
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
        with on_tensorflow.mirrored(found[:count]):
            yield
        return
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found[:count]))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)
