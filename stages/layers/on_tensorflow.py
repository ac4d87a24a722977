"""TensorFlow's own operations for the faster layers, if TensorFlow is the backend."""

import keras
import tensorflow as tf


def has_gpu() -> bool:
    """Whether TensorFlow finds a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def fused_batch_normalization(layer: keras.layers.BatchNormalization, inputs, training: bool):
    """Keras's batch normalization of images (B, H, W, C) in one operation, in float32 or bfloat16.

    Keras 3 computes the moments and the normalization as separate operations in float32. The fused operation reads its
    input once. In training, the layer's moving statistics are updated as in Keras.
    """
    channels = inputs.shape[-1]
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=tf.convert_to_tensor(layer.gamma) if layer.scale else tf.ones(channels),
        offset=tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros(channels),
        mean=tf.zeros(0) if training else tf.convert_to_tensor(layer.moving_mean),
        variance=tf.zeros(0) if training else tf.convert_to_tensor(layer.moving_variance),
        epsilon=layer.epsilon,
        is_training=training,
    )
    if training:
        count = tf.cast(tf.size(inputs) / channels, tf.float32)
        variance *= (count - 1) / count  # the operation returns the unbiased estimate, Keras uses the biased one
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            mean, variance = replica.all_reduce(tf.distribute.ReduceOp.MEAN, [mean, variance])
        for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + batch * (1 - layer.momentum))
    return outputs


@tf.custom_gradient
def convolution(inputs, kernel):
    """TensorFlow's convolution with stride 1 and padding "same", whose kernel gradient is computed as a convolution.

    The gradient at (dy, dx, in, out) is the sum of inputs[b, y + dy, x + dx, in] * upstream[b, y, x, out] over b, y and x.
    This is a convolution of the inputs with the upstream gradient as its kernel, where images and channels change places.
    On small feature maps, oneDNN's own operation for this gradient leaves most of the processor unused.

    Args:
        inputs: (B, H, W, in).
        kernel: (height, width, in, out), height and width odd.

    Returns:
        (B, H, W, out).
    """

    def gradient(upstream):
        to_inputs = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
        )
        border = [[0, 0], *([size // 2, size // 2] for size in kernel.shape[:2]), [0, 0]]
        images_as_channels = tf.transpose(inputs, [3, 1, 2, 0])  # (in, H, W, B)
        upstream_as_kernel = tf.transpose(upstream, [1, 2, 0, 3])  # (H, W, B, out)
        to_kernel = tf.nn.conv2d(images_as_channels, upstream_as_kernel, 1, border)  # (in, height, width, out)
        return to_inputs, tf.transpose(to_kernel, [1, 2, 0, 3])

    return tf.nn.conv2d(inputs, kernel, 1, "SAME"), gradient
