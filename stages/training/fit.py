"""Train one model: the same few steps for every architecture."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pandas as pd

from stages.errors import InputError
from stages.parameters import ModelParameters
from stages.training.augmentation import batches
from stages.training.optimizers import optimizer


@dataclass(frozen=True)
class Trained:
    """A trained model and what was seen on the way.

    Attributes:
        model: With `patience`, the weights of the epoch of the lowest validation loss; without, of the last epoch.
        history: A row an epoch: epoch (from 1), accuracy and loss on the training pictures as they were shown (changed,
            under dropout), val_accuracy and val_loss. Losses are the mean negative log-likelihood, nats.
        seconds: A row an epoch: epoch, seconds that it took, validation included.
    """

    model: keras.Model
    history: pd.DataFrame
    seconds: pd.DataFrame


def train(
    architecture: ModuleType,
    parameters: ModelParameters,
    seed: int,
    train_images: np.ndarray,
    train_labels: np.ndarray,
    val_images: np.ndarray,
    val_labels: np.ndarray,
) -> Trained:
    """Build and fit one model. The same arguments on the same machine give the same weights, to the byte.

    Args:
        architecture: A module of `stages.models`.
        parameters: Its block of `params.yaml`.
        seed: Of the initial weights, the order, the augmentation and the dropout.
        train_images: uint8 (N, 28, 28, 1); `train_labels` uint8 (N,), 0-9. Likewise `val_images`, `val_labels`.

    Raises:
        InputError: A batch is larger than the training set, or the loss is no longer a finite number.
    """
    if parameters.batch_size > len(train_images):
        raise InputError(
            f"batch_size is {parameters.batch_size}, but there are only {len(train_images)} training images: "
            "set a smaller batch_size in params.yaml."
        )
    make_deterministic(seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if use_bfloat16(parameters.precision) else "float32")
    model = architecture.build(parameters, train_images)
    steps = len(train_images) // parameters.batch_size
    cross_entropy = keras.losses.CategoricalCrossentropy
    model.compile(
        optimizer=optimizer(parameters, steps * parameters.epochs),
        loss=cross_entropy(from_logits=True, label_smoothing=parameters.label_smoothing),
        metrics=["accuracy", keras.metrics.CategoricalCrossentropy(name="nll", from_logits=True)],
    )
    clock = EpochClock()
    callbacks = [StopIfNotFinite(), clock]
    if parameters.patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                "val_nll", mode="min", patience=parameters.patience, restore_best_weights=True
            )
        )
    history = model.fit(
        batches(
            train_images,
            train_labels,
            seed=seed,
            batch_size=parameters.batch_size,
            max_shift=parameters.shift,
            flips=parameters.flip,
        ),
        steps_per_epoch=steps,
        epochs=parameters.epochs,
        validation_data=(val_images, np.eye(10, dtype=np.float32)[val_labels]),
        validation_batch_size=1000,
        callbacks=callbacks,
        shuffle=False,  # the generator does it
        verbose=1 if sys.stdout.isatty() else 2,
    ).history
    epochs = range(1, len(history["loss"]) + 1)
    columns = {"accuracy": "accuracy", "loss": "nll", "val_accuracy": "val_accuracy", "val_loss": "val_nll"}
    return Trained(
        model,
        pd.DataFrame({"epoch": epochs} | {column: history[key] for column, key in columns.items()}),
        pd.DataFrame({"epoch": epochs, "seconds": clock.seconds}),
    )


def make_deterministic(seed: int) -> None:
    """Seed Python, NumPy and the backend, and ask TensorFlow for operations that give the same bits every time."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def use_bfloat16(precision: str) -> bool:
    """Whether to compute in bfloat16: as asked or, for `"auto"`, where the processor has instructions for it."""
    if precision != "auto":
        return precision == "bfloat16"
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False


class EpochClock(keras.callbacks.Callback):
    """Takes the wall time of every epoch."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(round(time.perf_counter() - self.started, 3))


class StopIfNotFinite(keras.callbacks.Callback):
    """Ends the run with an error as soon as the loss is NaN or infinite."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.refuse("training", logs["loss"], f"in epoch {self.epoch + 1}, step {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        self.refuse("validation", logs["val_nll"], f"after epoch {epoch + 1}")

    def refuse(self, kind: str, loss: float, when: str) -> None:
        if not np.isfinite(loss):
            raise InputError(
                f"the {kind} loss became {loss} {when}; no model was kept. Lower this model's learning_rate in params.yaml."
            )
