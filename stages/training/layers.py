"""Layers and initial values that Keras lacks, or has only in a slower form."""

from functools import cache

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("fashion_mnist")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation, by TensorFlow's fused operation where TensorFlow is the backend.

    Same weights, same numbers, same arguments. Keras 3 computes the moments and the normalisation as separate
    operations in float32; the fused one reads its input once, in float32 or bfloat16. Pictures only: (B, H, W, C).
    """

    def call(self, inputs, training=None, mask=None):
        if keras.backend.backend() != "tensorflow" or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        channels = inputs.shape[-1]
        training = bool(training) and self.trainable
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma) if self.scale else tf.ones(channels),
            offset=tf.convert_to_tensor(self.beta) if self.center else tf.zeros(channels),
            mean=tf.zeros(0) if training else tf.convert_to_tensor(self.moving_mean),
            variance=tf.zeros(0) if training else tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            count = tf.cast(tf.size(inputs) / channels, tf.float32)
            variance *= (count - 1) / count  # the operation returns the unbiased estimate, Keras keeps the biased one
            replica = tf.distribute.get_replica_context()
            if replica.num_replicas_in_sync > 1:
                mean, variance = replica.all_reduce(tf.distribute.ReduceOp.MEAN, [mean, variance])
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable("fashion_mnist")
class Conv2D(keras.layers.Conv2D):
    """Keras's convolution, with a gradient of the kernel that is quicker on small maps on a CPU under TensorFlow.

    Same weights, same arguments, same sums in another order. Only with stride 1, padding "same", odd kernels and maps of at
    most `SMALL` pixels in height and width; everything else is left to Keras.
    """

    SMALL = 8

    def convolution_op(self, inputs, kernel):
        odd = all(size % 2 for size in self.kernel_size)
        plain = self.padding == "same" and set(self.strides) == set(self.dilation_rate) == {1} and self.groups == 1
        if odd and plain and max(inputs.shape[1:3]) <= self.SMALL and on_tensorflows_cpu():
            return convolution()(inputs, ops.cast(kernel, inputs.dtype))
        return super().convolution_op(inputs, kernel)


def on_tensorflows_cpu() -> bool:
    """Whether TensorFlow is the backend, and has no GPU."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


@cache
def convolution():
    """TensorFlow's convolution (stride 1, same size), whose kernel's gradient is itself a convolution.

    The gradient at (dy, dx, in, out) sums inputs[b, y + dy, x + dx, in] * upstream[b, y, x, out] over b, y and x: a
    convolution of the inputs with the upstream gradient as its kernel, pictures in the place of channels and channels in
    the place of pictures. On maps of few pixels oneDNN's own operation for it leaves most of the processor unused.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def convolve(inputs, kernel):
        def gradient(upstream):
            to_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs),
                filter=kernel,
                out_backprop=upstream,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
            border = [[0, 0], *([size // 2, size // 2] for size in kernel.shape[:2]), [0, 0]]
            pictures_as_channels = tf.transpose(inputs, [3, 1, 2, 0])  # (in, H, W, B)
            upstream_as_kernel = tf.transpose(upstream, [1, 2, 0, 3])  # (H, W, B, out)
            to_kernel = tf.nn.conv2d(pictures_as_channels, upstream_as_kernel, 1, border)  # (in, height, width, out)
            return to_inputs, tf.transpose(to_kernel, [1, 2, 0, 3])

        return tf.nn.conv2d(inputs, kernel, 1, "SAME"), gradient

    return convolve


@keras.saving.register_keras_serializable("fashion_mnist")
class Dirac(keras.initializers.Initializer):
    """Identity convolution: output channel i starts as input channel i, for as many channels as both have.

    The remaining output channels are drawn by He's uniform rule. Kernels are (height, width, in, out), height and width
    odd. Source: Zagoruyko and Komodakis, "DiracNets" (2017); partial form as in Jordan, "94 % on CIFAR-10 in 3.29
    seconds" (2024).
    """

    def __init__(self, seed=None):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        height, width, channels_in, channels_out = shape
        kernel = np.array(keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=self.seed)(shape))
        square = min(channels_in, channels_out)
        kernel[:, :, :, :square] = 0
        kernel[height // 2, width // 2, range(square), range(square)] = 1
        return ops.convert_to_tensor(kernel, dtype=dtype)

    def get_config(self):
        return {"seed": self.seed}


def mean_and_deviation(images: np.ndarray) -> tuple[float, float]:
    """Of all pixels of uint8 pictures; no copy of them in floating point is made."""
    mean = images.mean()
    mean_square = np.square(images, dtype=np.uint16).sum(dtype=np.int64) / images.size  # 255 squared fits into uint16
    return float(mean), float(np.sqrt(mean_square - mean**2))


def whitened(inputs, images: np.ndarray, stride: int = 1):
    """The first layers of a network: pixels scaled by the statistics of `images`, fixed whitening of 2x2 patches, ReLU.

    Args:
        inputs: Symbolic pixels 0-255, (B, H, W, 1).
        images: Training pictures, uint8 (N, H, W, 1); patches are those of the first 5,000.
        stride: Pixels from patch to patch: 1, or 2, for patches that do not overlap and still keep every pixel.

    Returns:
        (B, H - 1, W - 1, 8), or (B, H // 2, W // 2, 8) with stride 2.
    """
    mean, deviation = mean_and_deviation(images)
    x = keras.layers.Rescaling(1 / deviation, -mean / deviation)(inputs)
    whiten = keras.layers.Conv2D(8, 2, strides=stride, use_bias=False, trainable=False, name="whiten")
    x = keras.layers.ReLU()(whiten(x))
    whiten.set_weights([whitening_kernel((images[:5000] - mean) / deviation)])
    return x


def whitening_kernel(images: np.ndarray, size: int = 2, epsilon: float = 5e-4) -> np.ndarray:
    """A kernel whose outputs are uncorrelated with variance near 1: the scaled eigenvectors of the patches' covariance.

    Args:
        images: Pictures scaled to mean 0 and deviation 1, float32, (N, H, W, 1).
        size: Height and width of a patch, pixels.
        epsilon: Added to the eigenvalues, so that faint directions are not blown up.

    Returns:
        float32 of shape (size, size, 1, 2 * size * size): the eigenvectors, then their negatives (a ReLU behind the
        convolution then loses nothing). Source: Page, "How to train your ResNet" (2019); Jordan (2024), as above.
    """
    patches = np.lib.stride_tricks.sliding_window_view(images[..., 0], (size, size), axis=(1, 2))  # (N, H', W', s, s)
    patches = patches.reshape(-1, size * size)
    eigenvalues, eigenvectors = np.linalg.eigh(patches.T @ patches / len(patches))
    kernels = (eigenvectors / np.sqrt(eigenvalues + epsilon)).T.reshape(-1, size, size)  # (s*s, s, s)
    kernels = np.concatenate([kernels, -kernels])
    return kernels.transpose(1, 2, 0)[:, :, None, :].astype(np.float32)
