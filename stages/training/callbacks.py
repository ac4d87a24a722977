"""Callbacks of Keras: dropout seeds, history, wall times, and a stop if the loss is not finite."""

import time
from collections.abc import Callable
from types import MappingProxyType

import keras
import numpy as np
import pandas as pd

from stages.base.errors import InputError


class SeedDropout(keras.callbacks.Callback):
    """Makes the dropout of each epoch depend only on the seed and the number of the epoch, like the batches.

    Keras counts the draws of each layer in its seed generator. At the start of an epoch, the count is set to epoch x
    `steps`.

    Args:
        steps: Steps per epoch.
    """

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def on_epoch_begin(self, epoch, logs=None):
        for variable in self.model.non_trainable_variables:
            if variable.path.endswith("seed_generator_state"):
                layer_seed = keras.ops.convert_to_numpy(variable)[0]
                variable.assign([layer_seed, epoch * self.steps])


class KeepHistory(keras.callbacks.Callback):
    """Records one row per epoch (see `Trained`), and calls `on_epoch`, if given, with the table so far."""

    COLUMNS = MappingProxyType(
        {
            "accuracy": "accuracy",
            "loss": "cross_entropy",
            "val_accuracy": "val_accuracy",
            "val_loss": "val_cross_entropy",
        }
    )

    def __init__(self, on_epoch: Callable[[pd.DataFrame], None] | None):
        super().__init__()
        self.on_epoch = on_epoch
        self.rows: list[dict] = []

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=["epoch", *self.COLUMNS])

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({"epoch": epoch + 1} | {column: logs[key] for column, key in self.COLUMNS.items()})
        if self.on_epoch:
            self.on_epoch(self.table())


class EpochClock(keras.callbacks.Callback):
    """Measures the wall time of each epoch, from the end of the previous one, with and without validation."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []
        self.training_seconds: list[float] = []
        self.ends: list[float] = []
        self.started: float | None = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.started is None:
            self.started = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.training_seconds.append(time.perf_counter() - self.started)

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        self.seconds.append(round(now - self.started, 3))
        self.started = now
        self.ends.append(time.time())


class StopIfNotFinite(keras.callbacks.Callback):
    """Stops the training with an `InputError` if the loss, a weight, or an average of gradients is NaN or infinite.

    A gradient that is not finite makes its weight so in the same step.

    Args:
        optimizer: Its variables are averages of gradients.
        often: Whether to look at the weights whenever the backend returns to Python, and not only after each epoch.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, often: bool):
        super().__init__()
        self.optimizer, self.often = optimizer, often

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        when = f"in epoch {self.epoch + 1}, by step {batch + 1}"
        self.refuse("training loss", logs["loss"], when)
        if self.often:
            self.refuse_variables(self.model.trainable_weights, when)

    def on_epoch_end(self, epoch, logs=None):
        self.refuse("validation loss", logs["val_cross_entropy"], f"after epoch {epoch + 1}")
        self.refuse_variables([*self.model.weights, *self.optimizer.variables], f"by the end of epoch {epoch + 1}")

    def refuse_variables(self, variables: list, when: str) -> None:
        for variable in variables:
            values = keras.ops.convert_to_numpy(variable)
            if values.dtype.kind not in "biu" and not np.isfinite(values).all():
                self.refuse(f"variable {variable.path}", values[~np.isfinite(values)][0], when)

    def refuse(self, what: str, value: float, when: str) -> None:
        if not np.isfinite(value):
            raise InputError(
                f"the {what} became {value} {when}; no model was kept. Lower this model's learning_rate in params.yaml."
            )
