"""Functions for TensorFlow as the backend: the GPUs of the machine."""

import tensorflow as tf


def capabilities() -> list[float]:
    """The compute capability of each GPU, such as 8.0; 0 if it is not an NVIDIA GPU."""
    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [float(".".join(map(str, gpu.get("compute_capability", (0,))))) for gpu in details]
