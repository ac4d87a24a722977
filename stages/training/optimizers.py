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

    def update_step(self, gradient, variable, learning_rate):
        if variable.name.split("/")[-1].split(":")[0] in {"bias", "beta"}:  # TensorFlow says LAYER/bias:0, others bias
            learning_rate = learning_rate * self.bias_factor
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return super().get_config() | {"bias_factor": self.bias_factor}


def optimizer(parameters: ModelParameters, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer that `parameters` asks for, with its schedule over `steps` updates."""
    rate = parameters.learning_rate
    if parameters.schedule != "constant":
        rate = WarmupThenDecay(rate, steps, parameters.warmup, parameters.schedule)
    decay = parameters.weight_decay or None
    if parameters.optimizer == "adam":
        return keras.optimizers.Adam(rate, beta_1=parameters.momentum, weight_decay=decay)
    return SGD(
        rate,
        momentum=parameters.momentum,
        nesterov=True,
        weight_decay=decay,
        bias_factor=parameters.bias_factor,
    )
