"""Optimizers and learning-rate schedules, from a model's parameters."""

import keras
from keras import ops

from stages.parameters import ModelParameters


@keras.saving.register_keras_serializable("fashion_mnist")
class WarmupThenDecay(keras.optimizers.schedules.LearningRateSchedule):
    """From near 0 up to `peak` in a line, then down to 0 in a line (`triangular`) or half a cosine (`cosine`).

    Args:
        peak: The highest learning rate.
        steps: Updates in the whole run.
        warmup: The share of the steps that climb, 0 to 1.
        shape: `"triangular"` or `"cosine"`.
    """

    def __init__(self, peak: float, steps: int, warmup: float, shape: str):
        self.peak, self.steps, self.warmup, self.shape = peak, steps, warmup, shape

    def __call__(self, step):
        done = (ops.cast(step, "float32") + 1) / (self.steps + 1)  # in (0, 1): the first and last rate are not 0
        left = ops.clip((1 - done) / (1 - self.warmup), 0, 1)
        if self.shape == "cosine":
            left = 0.5 - 0.5 * ops.cos(left * 3.141592653589793)
        return self.peak * (ops.minimum(done / self.warmup, left) if self.warmup else left)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup, "shape": self.shape}


@keras.saving.register_keras_serializable("fashion_mnist")
class SGD(keras.optimizers.SGD):
    """Keras's SGD, but biases (`bias` of any layer, `beta` of a normalisation) learn `bias_factor` times faster.

    Source: Page, "How to train your ResNet" (2019), who found that biases bear, and short runs need, a far higher rate.
    """

    def __init__(self, *args, bias_factor: float = 1, **kwargs):
        super().__init__(*args, **kwargs)
        self.bias_factor = bias_factor

    def build(self, variables):
        self.biases = {index for index, variable in enumerate(variables) if variable.name in {"bias", "beta"}}
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        if self._get_variable_index(variable) in self.biases:
            learning_rate = learning_rate * self.bias_factor
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return super().get_config() | {"bias_factor": self.bias_factor}


@keras.saving.register_keras_serializable("fashion_mnist")
class Muon(SGD):
    """Momentum, orthogonalised, for matrices and convolutions; plain SGD, `bias_factor` times faster, for biases.

    The averaged gradient of a kernel, seen as a matrix (height x width x in, out), is replaced by the nearest matrix
    with singular values near 1, so that every direction learns at the same pace. A convolution's kernel is first scaled
    to the norm sqrt(out): a normalisation behind it makes its scale meaningless but for the pace. Weight decay leaves
    kernels of convolutions alone for the same reason. Keras's own Muon takes only matrices.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); Jordan, "94 % on CIFAR-10 in
    2.59 seconds" (2024).
    """

    def build(self, variables):
        self.exclude_from_weight_decay([variable for variable in variables if len(variable.shape) == 4])
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        if len(variable.shape) < 2:
            super().update_step(gradient, variable, learning_rate)
            return
        learning_rate = ops.cast(learning_rate, variable.dtype)
        averaged = gradient = ops.cast(gradient, variable.dtype)
        if self.momentum:
            momentum = self.momentums[self._get_variable_index(variable)]
            averaged = self.momentum * momentum + gradient
            self.assign(momentum, averaged)
            if self.nesterov:
                averaged = self.momentum * averaged + gradient
        outputs = variable.shape[-1]
        update = ops.reshape(orthogonalised(ops.reshape(averaged, (-1, outputs))), variable.shape)
        kernel = ops.convert_to_tensor(variable)
        if len(variable.shape) == 4:
            kernel = kernel * (outputs**0.5 / (ops.sqrt(ops.sum(ops.square(kernel))) + 1e-7))
        self.assign(variable, kernel - learning_rate * update)


def orthogonalised(matrix):
    """A matrix with the singular vectors of `matrix` (M, N) and singular values between about 0.7 and 1.2.

    Five Newton-Schulz steps with the quintic's coefficients of Jordan et al. (2024). Each multiplies by a polynomial of the
    small Gram matrix, so only that one, of side min(M, N), goes through the steps, and `matrix` is multiplied once.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix / (ops.sqrt(ops.sum(ops.square(matrix))) + 1e-7)
    gram = ops.matmul(ops.transpose(x), x) if tall else ops.matmul(x, ops.transpose(x))
    product = identity = ops.eye(gram.shape[0], dtype=matrix.dtype)
    for _ in range(5):
        step = 3.4445 * identity - 4.7750 * gram + 2.0315 * ops.matmul(gram, gram)
        product = ops.matmul(step, product)
        gram = ops.matmul(step, ops.matmul(gram, step))
    return ops.matmul(x, product) if tall else ops.matmul(product, x)


def optimizer(parameters: ModelParameters, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer that `parameters` asks for, with its schedule over `steps` updates."""
    rate = parameters.learning_rate
    if parameters.schedule != "constant":
        rate = WarmupThenDecay(rate, steps, parameters.warmup, parameters.schedule)
    common: dict = {"weight_decay": parameters.weight_decay or None}
    if parameters.ema:
        common |= {"use_ema": True, "ema_momentum": parameters.ema}
    if parameters.optimizer == "adam":
        return keras.optimizers.Adam(rate, beta_1=parameters.momentum, **common)
    kind = Muon if parameters.optimizer == "muon" else SGD
    return kind(rate, momentum=parameters.momentum, nesterov=True, bias_factor=parameters.bias_factor, **common)
