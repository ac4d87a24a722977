"""Optimizers and learning-rate schedules."""

import keras
from keras import ops

from stages.models.block import Block


@keras.saving.register_keras_serializable("fashion_mnist")
class WarmupThenDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule with linear warmup from near 0 to `peak`, then linear (`triangular`) or cosine (`cosine`) decay to near 0.

    Args:
        peak: The highest learning rate.
        steps: Updates in the whole run.
        warmup: The share of the steps in which the rate rises, from 0 to below 1.
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
    """Keras's SGD with a learning rate that is `bias_factor` times higher for biases.

    Biases are the `bias` of any layer and the `beta` of a normalization. Source: Page, "How to train your ResNet" (2019),
    who uses a far higher rate for biases in short runs.
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
    """Muon: orthogonalized momentum for kernels of dense layers and convolutions; `SGD` above for biases.

    The momentum of a kernel, as a matrix (height x width x in, out), is replaced by a matrix with the same singular vectors
    and singular values near 1, so that all directions learn equally fast. Before each update, a convolution's kernel is
    scaled to the norm sqrt(out). If a normalization follows, this scale only affects how fast the kernel changes. For the
    same reason, weight decay does not apply to these kernels. Keras's own Muon only supports matrices.

    The kernel of the classifier is orthogonalized, too. The sources use another optimizer for it. On validation, the two
    are not significantly different (`reports/experiments.md`), so the simpler rule is used.

    Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); Jordan, "94 % on CIFAR-10 in
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
    """Orthogonalize a matrix: the singular vectors of `matrix` (M, N) with singular values between about 0.7 and 1.2.

    Five Newton-Schulz steps with the coefficients of Jordan et al. (2024). Each step multiplies by a polynomial of the Gram
    matrix. Therefore the steps are computed on the Gram matrix, min(M, N) x min(M, N), and `matrix` is multiplied once.
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


def optimizer(parameters: Block, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a model's block `parameters`, with its schedule over `steps` updates."""
    rate = parameters.learning_rate
    if parameters.schedule != "constant":
        rate = WarmupThenDecay(rate, steps, parameters.warmup, parameters.schedule)
    common: dict = {"weight_decay": parameters.weight_decay or None}
    if parameters.ema_momentum:
        common |= {"use_ema": True, "ema_momentum": parameters.ema_momentum}
    if parameters.optimizer == "adam":
        return keras.optimizers.Adam(rate, beta_1=parameters.momentum, **common)
    kind = {"sgd": SGD, "muon": Muon}[parameters.optimizer]
    return kind(rate, momentum=parameters.momentum, nesterov=True, bias_factor=parameters.bias_factor, **common)
