"""Faster versions of Keras layers for TensorFlow on a CPU, with the same arguments, weights and results."""

import keras
from keras import ops

from stages.layers import on_tensorflow


@keras.saving.register_keras_serializable("fashion_mnist")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalization. For images (B, H, W, C) it uses TensorFlow's fused operation."""

    def call(self, inputs, training=None, mask=None):
        if len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        return on_tensorflow.fused_batch_normalization(self, inputs, bool(training) and self.trainable)


@keras.saving.register_keras_serializable("fashion_mnist")
class Conv2D(keras.layers.Conv2D):
    """Keras's convolution, with a faster gradient of the kernel for small feature maps on a CPU.

    The gradient sums the same products in another order. It is used with stride 1, no dilation, one group, padding "same",
    odd kernel sizes and feature maps of at most `SMALL` x `SMALL` pixels. All other cases use Keras's operation.
    """

    SMALL = 8

    def convolution_op(self, inputs, kernel):
        odd = all(size % 2 for size in self.kernel_size)
        plain = self.padding == "same" and set(self.strides) == set(self.dilation_rate) == {1} and self.groups == 1
        if odd and plain and max(inputs.shape[1:3]) <= self.SMALL and not on_tensorflow.has_gpu():
            return on_tensorflow.convolution(inputs, ops.cast(kernel, inputs.dtype))
        return super().convolution_op(inputs, kernel)
