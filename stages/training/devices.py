"""Data-parallel training: several GPUs share each batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from stages.base.errors import InputError
from stages.training import on_tensorflow


@contextmanager
def several_devices(count: int) -> Iterator[None]:
    """A context in which models are built and fitted on the first `count` devices. With 1, it does nothing.

    It uses TensorFlow's `MirroredStrategy`. Gradients are those of the whole batch; batch normalization uses the statistics
    of each device's part of the batch.

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
            f"devices is {count}, but TensorFlow finds {len(found)} here ({', '.join(found)}): "
            f"set `devices: {len(found)}` in params.yaml."
        )
    with on_tensorflow.mirrored(found[:count]):
        yield
