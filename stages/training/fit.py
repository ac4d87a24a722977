"""Train one model: the fit loop, the same for all architectures, and knowledge distillation."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import keras
import numpy as np
import pandas as pd

from stages.base.errors import InputError
from stages.data.transforms import downscale
from stages.models.block import Block
from stages.trained.precision import use_bfloat16
from stages.trained.prediction import predict
from stages.trained.saving import copied, set_precision
from stages.training import on_tensorflow
from stages.training.callbacks import EpochClock, KeepHistory, SeedDropout, StopIfNotFinite
from stages.training.checkpoint import Checkpoint
from stages.training.devices import several_devices
from stages.training.epochs import (
    Epochs,
    NextEpoch,
    RemembersLosses,
    batch_size,
    low_resolution_epochs,
    low_resolution_size,
)  # fmt: skip
from stages.training.optimizers import optimizer
from stages.training.resume import Resume, seconds_of

STEPS_PER_EXECUTION = 16  # steps before the backend returns to Python; returns are slow for small models


@dataclass(frozen=True)
class Trained:
    """A trained model and its history.

    Attributes:
        model: With `patience`, it has the weights of the full-resolution epoch with the lowest validation loss; without,
            those of the last epoch.
        history: One row per epoch: epoch (from 1), accuracy and loss on the training images as they were shown (augmented,
            with dropout), val_accuracy and val_loss. Losses are the mean negative log-likelihood, nats. With teachers or
            `cutmix`, accuracy and loss are against the mixed targets, val_accuracy and val_loss against the labels. In
            low-resolution epochs the validation images are downscaled, too.
        seconds: One row per epoch: epoch, seconds including validation. Epoch 0, if there are teachers, is all of theirs.
        training_seconds: The seconds of each epoch without validation.
        ends: When each epoch ended, seconds since 1970.
        steps: Updates of the weights.
        teachers_accuracy: The share of the training images that the teachers, by their mean probabilities, classify right;
            None without teachers.
    """

    model: keras.Model
    history: pd.DataFrame
    seconds: pd.DataFrame
    training_seconds: list[float]
    ends: list[float]
    steps: int
    teachers_accuracy: float | None


def train(
    architecture: ModuleType,
    parameters: Block,
    seed: int,
    train_images: np.ndarray,
    train_labels: np.ndarray,
    val_images: np.ndarray,
    val_labels: np.ndarray,
    devices: int = 1,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
    checkpoint: Checkpoint | None = None,
    name: str = "training",
    class_weights: bool = False,
) -> Trained:
    """Build and fit one model. The same arguments on the same machine give byte-identical weights.

    So does a training that was interrupted and goes on from a checkpoint.

    Args:
        architecture: A module of `stages.models`.
        parameters: Its block of `params.yaml`.
        seed: The seed of the initial weights, the order, the augmentation and the dropout.
        train_images: uint8 (N, H, W, C).
        train_labels: Integers (N,), from 0; each class has an image.
        val_images: uint8 (M, H, W, C).
        val_labels: Integers (M,).
        devices: The number of GPUs that share each batch.
        on_epoch: Called after each epoch with the history so far: see `Trained`.
        checkpoint: If given, it keeps what the training has reached, and the training goes on from there.
        name: Of this training in the checkpoint.
        class_weights: Whether the loss of an image is divided by the share of its class, so that classes count the same.

    Raises:
        InputError: All images are the same, the machine has fewer devices, the devices
            cannot share a batch evenly, the network has other inputs or outputs, or a layer that cannot be saved, it cannot
            take low-resolution images, or the loss or a weight is not finite.
    """
    refuse_input(batch_size(parameters, len(train_images)), train_images, val_images, devices)
    classes = int(train_labels.max()) + 1  # stage `prepare` refuses a class without training images
    targets, smoothing = np.eye(classes, dtype=np.float32)[train_labels], parameters.label_smoothing
    teaching, teachers_accuracy = 0.0, None
    if parameters.teachers:
        parts = train_images, train_labels, val_images, val_labels
        options = {"devices": devices, "checkpoint": checkpoint, "class_weights": class_weights}
        soft, teaching = soft_targets(architecture, parameters, seed, *parts, **options)
        targets, smoothing = mixed_targets(targets, soft, parameters.distillation_weight, smoothing)
        teachers_accuracy = float((soft.argmax(axis=1) == train_labels).mean())
    make_deterministic(seed)
    set_precision("bfloat16" if use_bfloat16(parameters.precision) else "float32")
    weights = len(train_labels) / (classes * np.bincount(train_labels)) if class_weights else None
    data = Epochs(train_images, targets, parameters, seed, weights)
    clock, history = EpochClock(), KeepHistory(on_epoch)
    with several_devices(devices):
        model = build(architecture, parameters, train_images, classes)
        copied(model)  # a layer that could not be saved is refused here, not after the training
        update = optimizer(parameters, len(data) * parameters.epochs)
        # Create the optimizer's variables now: if the first step creates them, TensorFlow traces it a second time.
        update.build(model.trainable_variables)
        stopping = keras.callbacks.EarlyStopping(
            "val_cross_entropy", mode="min", patience=parameters.patience or 0, restore_best_weights=True
        )
        callbacks = [
            clock,
            StopIfNotFinite(update, often=devices == 1),
            history,
            NextEpoch(data),
            SeedDropout(len(data)),
        ]
        if parameters.ema_momentum:
            callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
        resume = Resume(checkpoint, name, model, update, data, clock, history, stopping)
        val_targets = np.eye(classes, dtype=np.float32)[val_labels]
        small, size = low_resolution_epochs(parameters, train_images), low_resolution_size(parameters, train_images)
        if resume.epoch < small:
            print(f"epochs {resume.epoch + 1} to {small} show images of {size}x{size} pixels", flush=True)
            trainer = compiled(at_size(model, size), update, smoothing, data, devices)
            validation = downscale(val_images, size), val_targets
            fit(trainer, data, validation, range(resume.epoch, small), [*callbacks, resume], devices)
        if max(small, resume.epoch) < parameters.epochs:
            if parameters.patience is not None:
                callbacks.append(stopping)
            trainer = compiled(model, update, smoothing, data, devices)
            epochs = range(max(small, resume.epoch), parameters.epochs)
            fit(trainer, data, (val_images, val_targets), epochs, [*callbacks, resume], devices)
    if devices > 1:
        model = copied(model)  # on one device
    resume.finish(model)
    seconds = pd.DataFrame({"epoch": history.table()["epoch"], "seconds": clock.seconds})
    if parameters.teachers:
        seconds = pd.concat([pd.DataFrame({"epoch": [0], "seconds": [round(teaching, 3)]}), seconds], ignore_index=True)
    steps = len(clock.ends) * len(data)
    return Trained(model, history.table(), seconds, clock.training_seconds, clock.ends, steps, teachers_accuracy)


def facts(trained: Trained) -> dict:
    """What `stages.scoring.training_warnings` has to know of a training besides its history.

    Returns:
        `steps`; `teachers_accuracy`, 0 to 1, None without teachers; `batch_norm_momentum`, the largest of the model's batch
        normalizations, 0 without.
    """
    layers = [layer for layer in trained.model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momentum = max((float(layer.momentum) for layer in layers), default=0.0)
    return {"steps": trained.steps, "teachers_accuracy": trained.teachers_accuracy, "batch_norm_momentum": momentum}


def refuse_input(batch: int, train_images: np.ndarray, val_images: np.ndarray, devices: int) -> None:
    """Raise `InputError` if devices cannot share batches evenly, or all training images are the same."""
    for what, count in (("batch_size", batch), ("the number of validation images", len(val_images))):
        if count % devices:
            raise InputError(f"{what} is {count}, which {devices} devices cannot share evenly: set another `devices`.")
    if (train_images == train_images[0]).all():
        raise InputError(
            f"all {len(train_images)} training images are the same, so that there is nothing to learn. If they are not the "
            "images that you meant, type `dvc repro eda` and look at reports/eda/samples.png."
        )


def compiled(
    model: keras.Model, update: keras.optimizers.Optimizer, smoothing: float, data: Epochs, devices: int
) -> keras.Model:
    """The model, ready for `fit`; with hard-example mining, one that shares its weights and remembers losses."""
    trainer = RemembersLosses(model, data, devices) if data.mines_examples else model
    trainer.compile(
        optimizer=update,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing),
        metrics=[
            keras.metrics.CategoricalAccuracy(name="accuracy"),
            keras.metrics.CategoricalCrossentropy(name="cross_entropy", from_logits=True),
        ],
        steps_per_execution=STEPS_PER_EXECUTION if devices == 1 else 1,  # TensorFlow fails on several
    )
    return trainer


def fit(
    trainer: keras.Model,
    data: Epochs,
    validation: tuple[np.ndarray, np.ndarray],
    epochs: range,
    callbacks: list[keras.callbacks.Callback],
    devices: int,
) -> None:
    """Call Keras's `fit` of a compiled model for the epochs `epochs`, counted from 0."""
    batches = data
    # Not on several devices: there, validation results from batches were sometimes wrong, with the same weights.
    if devices == 1:
        batches = on_tensorflow.as_dataset(data)
        validation = on_tensorflow.as_dataset(
            [tuple(part[start : start + 1000] for part in validation) for start in range(0, len(validation[0]), 1000)]
        )
    trainer.fit(
        batches,
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        validation_data=validation,
        validation_batch_size=devices * (1000 // devices),  # only used for arrays
        callbacks=callbacks,
        shuffle=False,  # the epochs are shuffled already
        verbose=1 if sys.stdout.isatty() else 2,
    )


def soft_targets(
    architecture: ModuleType,
    parameters: Block,
    seed: int,
    *data: np.ndarray,
    checkpoint: Checkpoint | None = None,
    **options: object,
) -> tuple[np.ndarray, float]:
    """Soft targets for knowledge distillation: the mean probabilities of teachers for the training images.

    Teachers are networks with the same block of parameters, trained first. Their probabilities show which images are
    ambiguous, and between which classes. Sources: Hinton et al., "Distilling the Knowledge in a Neural Network" (2015);
    with teachers of the student's size, Furlanello et al., "Born-Again Neural Networks" (2018).

    Args:
        architecture: As for `train`.
        parameters: As for `train`.
        seed: As for `train`; each teacher gets its own seed, derived from it.
        data: The four arrays of `train`.
        checkpoint: As for `train`; it keeps the probabilities of each teacher that is trained.
        options: Others of `train`.

    Returns:
        Probabilities, float32 (N, classes), rows sum to 1; and the seconds that the teachers took, before an interruption,
        too.
    """
    found, took = [], 0.0
    for number, epochs in enumerate(parameters.teachers):
        own_seed = int(np.random.SeedSequence(seed, spawn_key=(2, number)).generate_state(1)[0])
        block = parameters.model_copy(update={"teachers": [], "epochs": epochs, "patience": None})
        name = f"teacher {number + 1} of {len(parameters.teachers)}"
        known = checkpoint.restore(name) if checkpoint else None
        if known is None or "probabilities" not in known:
            print(name, flush=True)
            started, before = time.perf_counter(), seconds_of(known)
            teacher = train(architecture, block, own_seed, *data, checkpoint=checkpoint, name=name, **options).model
            known = {"probabilities": predict(teacher, data[0], parameters.test_time_augmentation).probabilities}
            known["seconds"] = np.array(before + time.perf_counter() - started)
            if checkpoint:
                checkpoint.keep(name, known.copy, ended=True)
            keras.utils.clear_session()  # restart the numbers in the names of layers
        found.append(known["probabilities"])
        took += float(known["seconds"])
    return np.mean(found, axis=0, dtype=np.float32), took


def mixed_targets(one_hot: np.ndarray, soft: np.ndarray, weight: float, smoothing: float) -> tuple[np.ndarray, float]:
    """Mix labels and soft targets for distillation, so that label smoothing applies only to the labels.

    Keras smooths all of a target, but soft targets are smooth already. With the returned targets and the returned, smaller
    smoothing, the loss uses `weight` x soft + (1 - `weight`) x smoothed labels.

    Args:
        one_hot: The labels, one-hot, float32 (N, classes).
        soft: The soft targets, float32 (N, classes), rows sum to 1.
        weight: The weight of the soft targets, 0 to 1.
        smoothing: The label smoothing, from 0 to below 1.

    Returns:
        Targets, float32 (N, classes), and the label smoothing to use with them.
    """
    smoothing *= 1 - weight
    share = weight / (1 - smoothing)
    return (1 - share) * one_hot + share * soft, smoothing


def at_size(model: keras.Model, size: int) -> keras.Model:
    """A model with the same layers and weights, for images of `size` x `size` pixels.

    Raises:
        InputError: A layer cannot take its input at this size, or pooling leaves no pixel.
    """
    nested: dict[tuple, keras.Model] = {}

    def smaller(network: keras.Model, pixels) -> keras.Model:
        return keras.models.clone_model(
            functional(network), pixels, clone_function=lambda layer: layer, call_function=call
        )

    def call(layer, *inputs, **others):
        name = layer.name
        if (
            isinstance(layer, keras.Model)
            and hasattr(layer, "inputs")
            and len(inputs) == 1
            and hasattr(inputs[0], "shape")
        ):
            shape = inputs[0].shape[1:]
            key = id(layer), shape
            if key not in nested:
                nested[key] = smaller(layer, keras.Input(shape, dtype=inputs[0].dtype))
                nested[key].name = f"{name}_{len(nested)}"  # names must be unique within a model
            layer = nested[key]
        outputs = layer(*inputs, **others)
        if any(0 in output.shape for output in keras.tree.flatten(outputs)):
            raise ValueError(f"The output of layer {name} is empty.")
        return outputs

    try:
        return smaller(model, keras.Input((size, size, model.input_shape[-1])))
    except ValueError as error:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()  # Keras prints the reason bold
        reason = next(line for line in lines if line and not line.startswith("Exception encountered"))
        raise InputError(
            f"low_resolution_fraction asks {model.name} to train on images of {size}x{size} pixels first, which it cannot "
            f"take: set low_resolution_fraction to 0, or another low_resolution_size, in its block of params.yaml. {reason}"
        ) from None


def build(architecture: ModuleType, parameters: Block, images: np.ndarray, classes: int) -> keras.Model:
    """Build a network: from images, (N, H, W, C), to logits, (N, classes).

    Raises:
        InputError: It has other inputs or outputs, or Keras cannot tell which.
    """
    model = architecture.build(parameters, images, classes)
    if not isinstance(model, keras.Model) or not (getattr(model, "inputs", None) and getattr(model, "outputs", None)):
        raise InputError(
            f"build in {architecture.__name__} returns a {type(model).__name__} whose inputs and outputs are unknown: it "
            "must return `keras.Model(inputs, outputs)`, or a `keras.Sequential` that starts with `keras.Input(...)`."
        )
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (model.inputs, model.outputs)]
    expected = [[(None, *images.shape[1:])], [(None, classes)]]
    if shapes != expected:
        raise InputError(
            f"build in {architecture.__name__} returns a model from {spelled(shapes[0])} to {spelled(shapes[1])}, but it "
            f"must be from {spelled(expected[0])} to {spelled(expected[1])}: pixels to one logit per class."
        )
    return functional(model)


def spelled(shapes: list[tuple]) -> str:
    """Shapes as text: `(N, 28, 28, 1)`."""
    return " and ".join(str(shape).replace("None", "N") for shape in shapes)


def functional(model: keras.Model) -> keras.Model:
    """A `keras.Sequential` as a functional model with the same layers; any other model as it is."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model


def make_deterministic(seed: int) -> None:
    """Seed Python, NumPy and the backend, and make TensorFlow use deterministic operations."""
    keras.utils.set_random_seed(seed)
    on_tensorflow.make_deterministic()
