"""Training with TensorFlow: input pipeline, distribution strategy, deterministic operations."""

import keras
import numpy as np
import tensorflow as tf


def make_deterministic() -> None:
    """Make TensorFlow use deterministic operations."""
    tf.config.experimental.enable_op_determinism()


def mirrored(devices: list[str]):
    """A context in which models are built and fitted on all of `devices`, which share each batch."""
    return tf.distribute.MirroredStrategy(devices).scope()


def this_replica():
    """The number, from 0, of the device that runs this step."""
    return tf.distribute.get_replica_context().replica_id_in_sync_group


def as_dataset(data: keras.utils.PyDataset | list[tuple[np.ndarray, ...]]):
    """Batches (tuples of arrays) as a `tf.data.Dataset` without autotuning.

    Keras would make a dataset with autotuning, which delays the start of every epoch and every validation. With epochs of a
    few seconds, that is a noticeable part of the time.
    """
    signature = [tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in data[0]]
    batches = tf.data.Dataset.from_generator(
        lambda: map(data.__getitem__, range(len(data))), output_signature=(*signature,)
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return batches.apply(tf.data.experimental.assert_cardinality(len(data))).with_options(options)
