"""Train one model: the same few steps for every architecture."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType, ModuleType

import keras
import numpy as np
import pandas as pd

from stages.errors import InputError
from stages.evaluation.inference import predict
from stages.parameters import ModelParameters
from stages.training.augmentation import shrunk
from stages.training.devices import several_devices, use_bfloat16
from stages.training.epochs import Epochs, NextEpoch, RemembersLosses, for_tensorflow, small_epochs
from stages.training.optimizers import optimizer

STEPS_PER_EXECUTION = 16  # steps that the backend takes before it comes back to Python: a small model feels each return


@dataclass(frozen=True)
class Trained:
    """A trained model and what was seen on the way.

    Attributes:
        model: With `patience`, the weights of the epoch of the lowest validation loss, of those that show the pictures at
            their full size; without, of the last epoch.
        history: A row an epoch: epoch (from 1), accuracy and loss on the training pictures as they were shown (changed,
            under dropout), val_accuracy and val_loss. Losses are the mean negative log-likelihood, nats. With teachers or
            `cutmix`, accuracy and loss are against the mixed targets, val_accuracy and val_loss against the labels. In
            small epochs the validation pictures are shrunk too.
        seconds: A row an epoch: epoch, seconds that it took, validation included. Epoch 0, where there are teachers: all
            of theirs.
        training_seconds: The seconds of each epoch without validation.
        ends: When each epoch ended, seconds since 1970.
    """

    model: keras.Model
    history: pd.DataFrame
    seconds: pd.DataFrame
    training_seconds: list[float]
    ends: list[float]


def train(
    architecture: ModuleType,
    parameters: ModelParameters,
    seed: int,
    train_images: np.ndarray,
    train_labels: np.ndarray,
    val_images: np.ndarray,
    val_labels: np.ndarray,
    devices: int = 1,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
) -> Trained:
    """Build and fit one model. The same arguments on the same machine give the same weights, to the byte.

    Args:
        architecture: A module of `stages.models`.
        parameters: Its block of `params.yaml`.
        seed: Of the initial weights, the order, the augmentation and the dropout.
        train_images: uint8 (N, 28, 28, 1); `train_labels` uint8 (N,), 0-9. Likewise `val_images`, `val_labels`.
        devices: How many GPUs share each batch.
        on_epoch: Called after each epoch with the history so far: see `Trained`.

    Raises:
        InputError: A batch is larger than an epoch, there are fewer devices, a batch cannot be shared evenly, small epochs
            ask for a size of pictures that the network cannot take, or the loss is no longer a finite number.
    """
    selects = parameters.epoch_size < 1 and parameters.hardest > 0
    for name, count in (("batch_size", parameters.batch_size), ("the number of validation images", len(val_images))):
        if count % devices:
            raise InputError(f"{name} is {count}, which {devices} devices cannot share evenly: set another `devices`.")
    started = time.perf_counter()
    targets, smoothing = np.eye(10, dtype=np.float32)[train_labels], parameters.label_smoothing
    if parameters.teachers:
        parts = train_images, train_labels, val_images, val_labels
        said = said_by_teachers(architecture, parameters, seed, *parts, devices=devices)
        targets, smoothing = mixed(targets, said, parameters.taught, smoothing)
    teaching = time.perf_counter() - started
    make_deterministic(seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if use_bfloat16(parameters.precision) else "float32")
    data = Epochs(train_images, targets, parameters, seed)
    clock, history = EpochClock(), KeepHistory(on_epoch)
    callbacks = [clock, history, StopIfNotFinite(), NextEpoch(data), SeedDropout(len(data))]
    if parameters.ema:
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    with several_devices(devices):
        model = architecture.build(parameters, train_images)
        update = optimizer(parameters, len(data) * parameters.epochs)
        # Variables that the first step creates make TensorFlow trace it a second time; now it creates none.
        update.build(model.trainable_variables)
        small = small_epochs(parameters)
        for first, last, size in ((0, small, parameters.small_size), (small, parameters.epochs, 28)):
            if first == last:
                continue
            network, validation = model, (val_images, np.eye(10, dtype=np.float32)[val_labels])
            if size < 28:
                print(f"epochs {first + 1} to {last} show pictures of {size}x{size} pixels", flush=True)
                network, validation = at_size(model, size), (shrunk(val_images, size), validation[1])
            elif parameters.patience is not None:
                callbacks.append(
                    keras.callbacks.EarlyStopping(
                        "val_nll", mode="min", patience=parameters.patience, restore_best_weights=True
                    )
                )
            trainer = RemembersLosses(network, data, devices) if selects else network
            trainer.compile(
                optimizer=update,
                loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing),
                metrics=[
                    keras.metrics.CategoricalAccuracy(name="accuracy"),
                    keras.metrics.CategoricalCrossentropy(name="nll", from_logits=True),
                ],
                steps_per_execution=STEPS_PER_EXECUTION if devices == 1 else 1,  # on several TensorFlow fails
            )
            fit(trainer, data, validation, range(first, last), callbacks, devices)
    if devices > 1:  # the same model on one device
        weights = model.get_weights()
        model = architecture.build(parameters, train_images)
        model.set_weights(weights)
    seconds = pd.DataFrame({"epoch": history.table()["epoch"], "seconds": clock.seconds})
    if parameters.teachers:
        seconds = pd.concat([pd.DataFrame({"epoch": [0], "seconds": [round(teaching, 3)]}), seconds], ignore_index=True)
    return Trained(model, history.table(), seconds, clock.training_seconds, clock.ends)


def fit(
    trainer: keras.Model,
    data: Epochs,
    validation: tuple[np.ndarray, np.ndarray],
    epochs: range,
    callbacks: list[keras.callbacks.Callback],
    devices: int,
) -> None:
    """Keras's `fit` of a compiled model for `epochs`, counted from 0."""
    batches = data
    # Not on several devices: there a validation that came in batches was now and then wrong, the weights being the same.
    if keras.backend.backend() == "tensorflow" and devices == 1:
        batches = for_tensorflow(data)
        validation = for_tensorflow(
            [tuple(part[start : start + 1000] for part in validation) for start in range(0, len(validation[0]), 1000)]
        )
    trainer.fit(
        batches,
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        validation_data=validation,
        validation_batch_size=devices * (1000 // devices),  # of arrays
        callbacks=callbacks,
        shuffle=False,  # the epochs are shuffled already
        verbose=1 if sys.stdout.isatty() else 2,
    )


def said_by_teachers(
    architecture: ModuleType,
    parameters: ModelParameters,
    seed: int,
    *data: np.ndarray,
    devices: int,
) -> np.ndarray:
    """The mean probabilities that networks of the same block, trained first, give the training pictures: float32 (N, 10).

    A network that learns them beside the labels sees which pictures are doubtful, and what they might be instead. Source:
    Hinton et al., "Distilling the Knowledge in a Neural Network" (2015); with teachers of the student's own size,
    Furlanello et al., "Born-Again Neural Networks" (2018). The arguments are those of `train`; `data` are its four arrays.
    """
    said = []
    for number, epochs in enumerate(parameters.teachers):
        own_seed = int(np.random.SeedSequence(seed, spawn_key=(2, number)).generate_state(1)[0])
        block = parameters.model_copy(update={"teachers": [], "epochs": epochs, "patience": None})
        print(f"teacher {number + 1} of {len(parameters.teachers)}", flush=True)
        teacher = train(architecture, block, own_seed, *data, devices=devices).model
        said.append(predict(teacher, data[0], parameters.views).probabilities)
        keras.utils.clear_session()  # the names of layers start anew
    return np.mean(said, axis=0, dtype=np.float32)


def mixed(one_hot: np.ndarray, said: np.ndarray, taught: float, smoothing: float) -> tuple[np.ndarray, float]:
    """Targets and label smoothing that together make `taught` of what the teachers say, and the rest of smoothed labels.

    Smoothing spreads a share of all that it is given, but what the teachers say is smooth already: here it takes the share
    `smoothing` of the labels' part alone, (1 - taught) x smoothing of the whole.

    Args:
        one_hot: The labels, float32 (N, 10); `said`, of the same shape, the teachers' probabilities.
        taught: Their share, 0 to 1.
        smoothing: From 0 to below 1.
    """
    smoothing *= 1 - taught
    share = taught / (1 - smoothing)
    return (1 - share) * one_hot + share * said, smoothing


def at_size(model: keras.Model, size: int) -> keras.Model:
    """The same layers, with the same weights, for pictures of `size` x `size` pixels.

    Raises:
        InputError: A layer cannot take what comes to it, or the last pixel is pooled away.
    """

    def call(layer, *inputs, **others):
        outputs = layer(*inputs, **others)
        if 0 in outputs.shape:
            raise ValueError(f"Nothing is left of them behind the layer {layer.name}.")
        return outputs

    pixels = keras.Input((size, size, 1))
    try:
        return keras.models.clone_model(model, pixels, clone_function=lambda layer: layer, call_function=call)
    except ValueError as error:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()  # Keras prints the reason bold
        reason = next(line for line in lines if line and not line.startswith("Exception encountered"))
        raise InputError(
            f"small_epochs asks {model.name} to train on pictures of {size}x{size} pixels first, which it cannot take: set "
            f"small_epochs to 0, or another small_size, in its block in params.yaml. {reason}"
        ) from None


def make_deterministic(seed: int) -> None:
    """Seed Python, NumPy and the backend, and ask TensorFlow for operations that give the same bits every time."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


class SeedDropout(keras.callbacks.Callback):
    """Makes each epoch's dropout a function of the seed and the epoch, whatever came before, as the batches are.

    Keras counts the draws of a layer in its seed generator; here the count starts at epoch x `steps`.
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
    """Keeps a row an epoch, and hands all so far to `on_epoch`, if given; see `Trained`."""

    COLUMNS = MappingProxyType(
        {"accuracy": "accuracy", "loss": "nll", "val_accuracy": "val_accuracy", "val_loss": "val_nll"}
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
    """Takes the wall time of every epoch, from the end of the one before, with and without its validation."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []
        self.training_seconds: list[float] = []
        self.ends: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        if not self.ends:
            self.started = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.training_seconds.append(time.perf_counter() - self.started)

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        self.seconds.append(round(now - self.started, 3))
        self.started = now
        self.ends.append(time.time())


class StopIfNotFinite(keras.callbacks.Callback):
    """Ends the run with an error as soon as the loss is NaN or infinite."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.refuse("training", logs["loss"], f"in epoch {self.epoch + 1}, by step {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        self.refuse("validation", logs["val_nll"], f"after epoch {epoch + 1}")

    def refuse(self, kind: str, loss: float, when: str) -> None:
        if not np.isfinite(loss):
            raise InputError(
                f"the {kind} loss became {loss} {when}; no model was kept. Lower this model's learning_rate in params.yaml."
            )
