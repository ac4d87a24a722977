"""Training learns, stops when it should, and is the same every time."""

import re
from types import ModuleType, SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from stages import models
from stages.common.errors import InputError
from stages.evaluation.scores import scores
from stages.models.block import Block
from stages.trained.cost import describe, multiply_adds
from stages.trained.prediction import predict
from stages.trained.saving import save_model
from stages.training import doubts
from stages.training.callbacks import SeedDropout
from stages.training.fit import Trained, mixed_targets, soft_targets, train
from stages.training.optimizers import SGD, Muon, WarmupThenDecay, orthogonalised
from tests.conftest import ROOT, block_of, edit, run
from tests.models import nested, plain, small

_, BLOCKS = models.read_all(ROOT / "params.yaml")


def block(architecture: ModuleType, **changes: object) -> Block:
    """A model's parameters as they stand in its block, but for one epoch of small batches, and `changes`."""
    name = architecture.__name__.rpartition(".")[2]
    parameters = block_of(name) if architecture in (plain, small) else BLOCKS[name]
    return parameters.model_copy(update={"epochs": 1, "batch_size": 50} | changes)


def split(drawn_images: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """800 training images and their labels, 200 validation images and theirs."""
    images, labels = drawn_images[0][..., None], drawn_images[1]
    return images[200:], labels[200:], images[:200], labels[:200]


def fit(architecture: ModuleType, drawn_images: tuple[np.ndarray, np.ndarray], seed: int = 0, **changes: object):
    return train(architecture, block(architecture, **changes), seed, *split(drawn_images))


def architecture(build) -> SimpleNamespace:
    """A model's module with a function that builds the network."""
    return SimpleNamespace(build=lambda parameters, images: build(), __name__="stages.models.own")


def only_if(name: str):
    """Skips a test about one model's architecture where that model was removed."""
    return pytest.mark.skipif(name not in models.names(), reason=f"no model {name} here")


@pytest.mark.parametrize("name", models.names())
def test_every_model_learns_and_gives_logits_of_ten_classes(name, drawn_images):
    trained = fit(models.load(name), drawn_images, epochs=4, patience=None)
    assert trained.model.output_shape == (None, 10)
    losses = trained.history["loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert list(trained.history.columns) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert len(trained.history) == len(trained.seconds) == 4


@pytest.mark.parametrize("name", models.names())
def test_every_model_trained_twice_is_the_same_file(name, drawn_images, tmp_path):
    for place in ("once.keras", "again.keras"):
        keras.utils.clear_session()  # the names of layers start anew
        save_model(fit(models.load(name), drawn_images, epochs=2, patience=None).model, tmp_path / place, {})
    assert (tmp_path / "once.keras").read_bytes() == (tmp_path / "again.keras").read_bytes()


@only_if("resnet")
def test_resnet_as_committed_has_at_most_300_000_parameters(drawn_images):
    resnet = models.load("resnet")
    assert resnet.build(block(resnet), drawn_images[0][..., None]).count_params() <= 300_000


@only_if("sprint")
def test_a_stem_of_stride_2_leaves_sprint_about_a_quarter_of_the_work(drawn_images):
    images, sprint = drawn_images[0][..., None], models.load("sprint")
    dense, sparse = (sprint.build(block(sprint, stem_stride=stride), images) for stride in (1, 2))
    assert 0.2 < multiply_adds(sparse) / multiply_adds(dense) < 0.3
    assert sparse(images[:2]).shape == (2, 10)


def test_another_seed_gives_other_weights(drawn_images):
    first, second = (fit(plain, drawn_images, seed=seed).model.get_weights()[0] for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("ema_momentum", [0, 0.5])
def test_low_resolution_epochs_come_first_and_train_the_same_weights(ema_momentum, drawn_images, monkeypatch):
    fitted = []
    plain_fit = keras.Model.fit

    def spied(model, batches, validation_data, callbacks, initial_epoch, epochs, **others):
        shapes = [data.element_spec[0].shape[1] for data in (batches, validation_data)]
        stops = any(isinstance(callback, keras.callbacks.EarlyStopping) for callback in callbacks)
        before = model.layers[4].get_weights()[0], int(model.optimizer.iterations)
        others |= {"validation_data": validation_data, "callbacks": callbacks, "epochs": epochs}
        history = plain_fit(model, batches, initial_epoch=initial_epoch, **others)
        fitted.append((shapes, range(initial_epoch, epochs), stops, before, model.layers[4].get_weights()[0]))
        return history

    monkeypatch.setattr(keras.Model, "fit", spied)
    changes = {
        "low_resolution_fraction": 0.4,
        "low_resolution_size": 17,
        "epoch_fraction": 1,
        "patience": 9,
        "ema_momentum": ema_momentum,
        "precision": "float32",
    }
    trained = fit(small, drawn_images, epochs=5, **changes)
    low, full = fitted
    assert low[:3] == ([17, 17], range(2), False)
    assert full[:3] == ([28, 28], range(2, 5), True)
    assert (low[3][1], full[3][1]) == (0, 2 * 16)  # steps: the schedule and the momentum go on
    assert not np.array_equal(low[3][0], low[4])
    np.testing.assert_array_equal(low[4], full[3][0])
    assert list(trained.history["epoch"]) == list(trained.seconds["epoch"]) == [1, 2, 3, 4, 5]
    assert trained.model.input_shape == (None, 28, 28, 1)
    assert "(None, 27, 27, 8)" in describe(trained.model)
    assert "(None, 16, 16, 8)" not in describe(trained.model)  # the shapes of downscaled images
    answers = predict(trained.model, drawn_images[0][:200, ..., None], "none").probabilities.argmax(axis=1)
    best = trained.history["val_loss"][2:].idxmin()
    assert (answers == drawn_images[1][:200]).mean() == pytest.approx(trained.history["val_accuracy"][best], abs=1e-6)


@pytest.mark.parametrize(
    ("architecture", "size", "why", "changes"),
    [
        (plain, 14, ".*received input", {}),
        (small, 8, "Computed output size would be zero or negative", {"widths": [8, 8, 8, 8]}),
    ],
)
def test_images_that_a_network_cannot_take_are_refused(architecture, size, why, changes, drawn_images):
    name = architecture.__name__.rpartition(".")[2]
    sentence = f"asks {name} .*{size}x{size} pixels first, which it cannot take: set .*{why}"
    with pytest.raises(InputError, match=sentence):
        fit(architecture, drawn_images, epochs=2, low_resolution_fraction=0.5, low_resolution_size=size, **changes)


def called_with_two_sizes():
    """A network with a model inside that is called twice, with images of other sizes."""
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(4, 1)(keras.layers.Rescaling(1 / 255)(inputs))
    inner = keras.Sequential([keras.Input((None, None, 4)), keras.layers.Conv2D(4, 3, padding="same")])
    x = inner(inner(x)[:, :14, :14])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, dtype="float32")(x))


def a_sequence():
    """A network as a `keras.Sequential`."""
    steps = (keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(8, 3), keras.layers.GlobalMaxPooling2D())
    return keras.Sequential([keras.Input((28, 28, 1)), *steps, keras.layers.Dense(10, dtype="float32")])


def two_outputs_inside():
    """A network with a model inside that has two outputs."""
    inputs = keras.Input((28, 28, 1))
    within = keras.Input((None, None, 1))
    both = [keras.layers.Conv2D(4, 3)(within), keras.layers.Conv2D(4, 3)(within)]
    x = keras.layers.Add()(keras.Model(within, both)(keras.layers.Rescaling(1 / 255)(inputs)))
    return keras.Model(inputs, keras.layers.Dense(10, dtype="float32")(keras.layers.GlobalMaxPooling2D()(x)))


@pytest.mark.parametrize(
    "build", [lambda: nested.build(None, None), called_with_two_sizes, a_sequence, two_outputs_inside]
)
def test_sequences_and_models_within_models_train_on_low_resolution_too(build, drawn_images):
    parameters = block(plain, epochs=4, learning_rate=0.01, epoch_fraction=0.5, hard_example_fraction=0.5)
    parameters = parameters.model_copy(update={"low_resolution_fraction": 0.5, "low_resolution_size": 16})
    trained = train(architecture(build), parameters, 0, *split(drawn_images))
    assert trained.history["loss"].iloc[-1] < trained.history["loss"].iloc[0]
    assert trained.model.input_shape == (None, 28, 28, 1)


@pytest.mark.parametrize("weight", [0.2, 0.8])
def test_a_network_learns_from_the_soft_targets_beside_the_labels(weight, drawn_images, monkeypatch):
    labels = drawn_images[1]
    other = (labels + 1) % 10
    monkeypatch.setattr("stages.training.fit.soft_targets", lambda *_, **__: np.eye(10, dtype=np.float32)[other[200:]])
    trained = fit(plain, drawn_images, epochs=8, teachers=[1], distillation_weight=weight, learning_rate=0.002)
    answers = predict(trained.model, drawn_images[0][:200, ..., None], "none").probabilities.argmax(axis=1)
    assert (answers == (labels if weight < 0.5 else other)[:200]).mean() > 0.7
    assert list(trained.seconds["epoch"]) == list(range(9))  # what teachers take counts, as epoch 0
    assert list(trained.history["epoch"]) == list(range(1, 9))


def test_soft_targets_are_not_smoothed_again(drawn_images, monkeypatch):
    soft = np.eye(10, dtype=np.float32)[drawn_images[1][200:]]
    monkeypatch.setattr("stages.training.fit.soft_targets", lambda *_, **__: soft)
    sharp, smooth, labels_too = (
        fit(plain, drawn_images, teachers=[1], distillation_weight=weight, label_smoothing=share).model.get_weights()[0]
        for weight, share in ((1.0, 0.0), (1.0, 0.5), (0.5, 0.5))
    )
    np.testing.assert_array_equal(sharp, smooth)
    assert not np.array_equal(sharp, labels_too)


@pytest.mark.parametrize("smoothing", [0, 0.1, 0.5])
@pytest.mark.parametrize("weight", [0, 0.3, 0.7, 1])
def test_smoothing_and_soft_targets_have_the_shares_that_the_parameters_say(weight, smoothing):
    one_hot = np.eye(10, dtype=np.float32)[[3, 7]]
    soft = np.random.default_rng(0).dirichlet(np.ones(10), size=2).astype(np.float32)
    targets, share = mixed_targets(one_hot, soft, weight, smoothing)
    found = (1 - share) * targets + share / 10  # what Keras makes of them
    labels = (1 - smoothing) * one_hot + smoothing / 10
    np.testing.assert_allclose(found, (1 - weight) * labels + weight * soft, rtol=1e-5)
    assert targets.dtype == np.float32


def taught(drawn_images: tuple[np.ndarray, np.ndarray], **changes: object) -> np.ndarray:
    """The soft targets for the training images."""
    return soft_targets(plain, block(plain, distillation_weight=0.5, **changes), 0, *split(drawn_images), devices=1)


def test_soft_targets_are_the_mean_of_networks_with_seeds_of_their_own(drawn_images):
    labels = drawn_images[1]
    first, again, both, longer = (taught(drawn_images, teachers=teachers) for teachers in ([2], [2], [2, 2], [8]))
    np.testing.assert_array_equal(first, again)
    second = 2 * both - first
    np.testing.assert_allclose(second.sum(axis=1), 1, atol=1e-5)
    assert second.min() > -1e-6
    assert np.abs(second - first).max() > 0.05
    shown = np.arange(800), labels[200:]
    assert first[shown].mean() + 0.1 < longer[shown].mean()  # each is trained for its own number of epochs


def test_a_teacher_is_not_stopped_early(drawn_images):
    impatient, patient = (
        taught(drawn_images, teachers=[8], patience=patience, learning_rate=0.05) for patience in (1, None)
    )
    np.testing.assert_array_equal(impatient, patient)


@pytest.mark.fault(
    "A training that runs shows nothing until it ends.", "Its history is there, whole, after each epoch."
)
def test_the_history_is_told_after_each_epoch(drawn_images):
    told = []
    parameters = block(small, epochs=4, teachers=[1], distillation_weight=0.5)
    trained = train(small, parameters, 0, *split(drawn_images), on_epoch=told.append)
    shown = int(len(split(drawn_images)[0]) * parameters.epoch_fraction)
    assert trained.steps == len(trained.history) * (shown // parameters.batch_size)
    assert [len(history) for history in told] == [1, 2, 3, 4]  # those of a teacher are not told
    for history in told:
        pd.testing.assert_frame_equal(history, trained.history[: len(history)])


def test_early_stopping_goes_back_to_the_best_epoch(drawn_images):
    trained = fit(plain, drawn_images, epochs=30, learning_rate=0.02, patience=1, label_smoothing=0.3)
    best = trained.history["val_loss"].idxmin()
    assert len(trained.history) == best + 2  # one epoch more, and then the end
    labels = drawn_images[1][:200]
    probabilities = predict(trained.model, drawn_images[0][:200, ..., None], "none").probabilities
    assert (probabilities.argmax(axis=1) == labels).mean() == pytest.approx(
        trained.history["val_accuracy"][best], abs=1e-6
    )


def test_the_best_epoch_is_that_of_the_plain_loss_not_of_the_smoothed_one(drawn_images):
    trained = fit(plain, drawn_images, epochs=25, learning_rate=0.005, patience=25, label_smoothing=0.6)
    probabilities = predict(trained.model, drawn_images[0][:200, ..., None], "none").probabilities
    assert scores(probabilities, probabilities, drawn_images[1][:200])["loss"] == pytest.approx(
        trained.history["val_loss"].min(), abs=1e-3
    )


def test_a_loss_that_is_not_finite_ends_the_run(drawn_images):
    with pytest.raises(
        InputError, match=r"the training loss became (nan|inf) in epoch [123], by step \d+; no model was kept"
    ):
        fit(plain, drawn_images, optimizer="sgd", learning_rate=1e38, epochs=3)


@pytest.mark.fault(
    "A training ends because its loss is not a number, and leaves a history with that number.",
    "The history ends with the last epoch that was right.",
)
def test_a_last_step_that_ruins_the_model_ends_the_run_too_and_leaves_no_row(drawn_images):
    told = []
    parameters = block(plain, optimizer="sgd", learning_rate=1e38, batch_size=800, momentum=0.0)
    with pytest.raises(InputError, match="the validation loss became nan after epoch 1; no model was kept"):
        train(plain, parameters, 0, *split(drawn_images), on_epoch=told.append)
    assert told == []


class HidesItsWeight(keras.layers.Layer):
    """Its weight, 0, gets the gradient NaN (of a square root at 0), and never shows in the outputs."""

    def build(self, shape):
        self.hidden = self.add_weight(shape=(), initializer="zeros", name="hidden")

    def call(self, inputs):
        return inputs + keras.ops.nan_to_num(keras.ops.sqrt(self.hidden))


@pytest.mark.fault(
    "A gradient or a weight is not a number, and the loss does not show it.",
    "The training stops, and names the weight, the epoch and, on one device under TensorFlow, the step.",
)
def test_a_weight_that_is_not_finite_ends_the_run(drawn_images):
    def build():
        inputs = keras.Input((28, 28, 1))
        x = HidesItsWeight(name="mine")(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs)))
        return keras.Model(inputs, keras.layers.Dense(10, dtype="float32")(x))

    with pytest.raises(
        InputError, match=r"the variable mine/hidden became nan in epoch 1, by step 16; no model was kept"
    ):
        train(architecture(build), block(plain, epochs=3, batch_size=20), 0, *split(drawn_images))


@pytest.mark.fault(
    "All images are the same: division by zero in one model, chance in another.",
    "A sentence says it before the training.",
)
@pytest.mark.parametrize("level", [0, 7])
def test_images_that_are_all_the_same_are_refused(level, drawn_images):
    images, *others = split(drawn_images)
    with pytest.raises(InputError, match="all 800 training images are the same"):
        train(plain, block(plain), 0, np.full_like(images, level), *others)


def test_a_batch_larger_than_the_training_set_is_refused(drawn_images):
    with pytest.raises(InputError, match="batch_size is 5000, but an epoch shows only 800 training images"):
        fit(plain, drawn_images, batch_size=5000)


@pytest.mark.parametrize("shape", ["triangular", "cosine"])
def test_the_learning_rate_climbs_to_its_peak_and_falls_to_nearly_nothing(shape):
    schedule = WarmupThenDecay(peak=0.5, steps=99, warmup=0.2, shape=shape)
    rates = np.array([float(schedule(step)) for step in range(99)])
    assert rates.argmax() == 19
    assert rates.max() == pytest.approx(0.5)
    assert (np.diff(rates[:20]) > 0).all()
    assert (np.diff(rates[19:]) < 0).all()
    assert 0 < rates[-1] < 0.01
    if shape == "triangular":
        np.testing.assert_allclose(np.diff(rates[20:], n=2), 0, atol=1e-6)
    else:
        assert rates[59] == pytest.approx(0.25)


def test_biases_learn_so_many_times_faster():
    def step(factor: float) -> list[np.ndarray]:
        layer = keras.layers.Dense(1, kernel_initializer="ones")
        model = keras.Sequential([keras.Input((1,)), layer])
        model.compile(SGD(0.1, bias_factor=factor), loss="mse", jit_compile=False)
        model.fit(np.ones((4, 1)), np.zeros((4, 1)), verbose=0)
        return [1 - layer.kernel.numpy().item(), -layer.bias.numpy().item()]

    (kernel, bias), (same_kernel, faster_bias) = step(1), step(16)
    assert same_kernel == pytest.approx(kernel)
    assert faster_bias == pytest.approx(16 * bias)


def test_muon_turns_a_gradient_into_a_step_of_the_same_size_in_every_direction():
    gradient = np.random.default_rng(0).normal(size=(18, 8)) * np.logspace(0, -1, 8)
    u, _, v = np.linalg.svd(gradient, full_matrices=False)
    singular = np.diag(u.T @ np.array(orthogonalised(gradient.astype(np.float32))) @ v.T)
    assert 0.6 < singular.min() < singular.max() < 1.3
    np.testing.assert_allclose(orthogonalised(gradient.T), np.array(orthogonalised(gradient)).T, atol=1e-5)


def test_muon_works_without_momentum(drawn_images):
    trained = fit(small, drawn_images, momentum=0.0, epochs=3)
    assert trained.history["loss"].iloc[-1] < trained.history["loss"].iloc[0]


def test_muon_scales_convolutions_and_steps_biases_like_sgd():
    keras.config.set_dtype_policy("float32")
    layer = keras.layers.Conv2D(4, 3, kernel_initializer="he_normal")
    model = keras.Sequential([keras.Input((5, 5, 2)), layer, keras.layers.GlobalAveragePooling2D()])
    before = layer.get_weights()
    model.compile(Muon(0.1, momentum=0.5, nesterov=True, bias_factor=3, weight_decay=0.1), "mse", jit_compile=False)
    images = np.random.default_rng(0).normal(size=(8, 5, 5, 2))
    error = 2 * model.predict(images, verbose=0) / 32  # the gradient at the outputs, aim 0
    model.fit(images, np.zeros((8, 4)), batch_size=8, verbose=0)
    kernel, bias = layer.get_weights()
    step = before[0] * 2 / np.linalg.norm(before[0]) - kernel
    singular = np.linalg.svd(step.reshape(18, 4), compute_uv=False)
    assert 0.06 < singular.min() < singular.max() < 0.13
    np.testing.assert_allclose(bias, -0.1 * 3 * 1.5 * error.sum(axis=0), rtol=1e-3)


def test_the_average_of_the_weights_is_what_is_validated_stopped_on_and_kept(drawn_images):
    for changes in ({"epochs": 40, "patience": 1, "learning_rate": 0.01}, {"epochs": 4, "patience": None}):
        trained = fit(plain, drawn_images, ema_momentum=0.9, **changes)
        best = trained.history["val_loss"].idxmin() if changes["patience"] else 3
        assert len(trained.history) == (best + 2 if changes["patience"] else 4)
        predicted = predict(trained.model, drawn_images[0][:200, ..., None], "none").probabilities
        loss = scores(predicted, predicted, drawn_images[1][:200])["loss"]
        assert loss == pytest.approx(trained.history["val_loss"][best], abs=1e-4)
    without = fit(plain, drawn_images, ema_momentum=0.0, **changes)
    np.testing.assert_allclose(without.history["loss"], trained.history["loss"], rtol=1e-4)  # trained the same
    behind = trained.history["val_loss"] - without.history["val_loss"]
    assert (behind > 0.01).all()


def test_dropout_is_a_function_of_seed_and_epoch():
    def outputs(seed: int, first_epoch: int) -> np.ndarray:
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((50,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        seen = []
        see = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["loss"]))
        ones = np.ones((8, 50)), np.zeros((8, 1))
        model.fit(*ones, 4, 3, 0, initial_epoch=first_epoch, callbacks=[SeedDropout(2), see], shuffle=False)
        return np.array(seen)

    np.testing.assert_array_equal(outputs(0, 0)[1:], outputs(0, 1))
    assert len(set(outputs(0, 0))) == 3
    assert not np.array_equal(outputs(0, 0), outputs(1, 0))


def test_a_layer_that_could_not_be_saved_is_refused_before_training(drawn_images):
    def build(parameters, images):
        inputs = keras.Input((28, 28, 1))
        scaled = keras.layers.Lambda(lambda pixels: pixels / 255, name="scaled")(inputs)
        return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(scaled)))

    shown = []
    with pytest.raises(InputError, match=r"the layer scaled of .* cannot be saved"):
        train(architecture(lambda: build(None, None)), block(plain), 0, *split(drawn_images), on_epoch=shown.append)
    assert not shown


def of_outputs(units: int):
    """A sequence with so many logits."""
    return lambda: keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(units, dtype="float32")]
    )


def two_inputs():
    """A network that wants two images."""
    inputs = [keras.Input((28, 28, 1)), keras.Input((28, 28, 1))]
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(keras.layers.Add()(inputs))))


class Subclassed(keras.Model):
    """A model of which Keras knows no inputs."""

    def call(self, inputs):
        return inputs


@pytest.mark.fault(
    "A network of nine outputs, or a subclassed `keras.Model`, ends in a traceback from the depths.",
    "It is refused before training, with what it is and what it must be.",
)
@pytest.mark.parametrize(
    ("build", "why"),
    [
        (of_outputs(9), r"from \(N, 28, 28, 1\) to \(N, 9\), but it must be from \(N, 28, 28, 1\) to \(N, 10\)"),
        (two_inputs, r"from \(N, 28, 28, 1\) and \(N, 28, 28, 1\) to"),
        (Subclassed, "a Subclassed whose inputs and outputs are unknown"),
        (lambda: keras.Sequential([keras.layers.Dense(10)]), "a Sequential whose inputs and outputs are unknown"),
        (lambda: None, "a NoneType whose inputs"),
    ],
)
def test_a_network_with_other_inputs_or_outputs_is_refused_before_training(build, why, drawn_images):
    with pytest.raises(InputError, match=f"build in stages.models.own returns .*{why}"):
        train(architecture(build), block(plain), 0, *split(drawn_images))


def test_a_last_layer_that_computes_in_bfloat16_trains(drawn_images):
    def build():
        inputs = keras.Input((28, 28, 1))
        return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(inputs)))

    parameters = block(plain, epochs=2, precision="bfloat16", epoch_fraction=0.5, hard_example_fraction=0.5)
    trained = train(architecture(build), parameters, 0, *split(drawn_images))
    assert np.isfinite(trained.history["loss"]).all()


# --- Trainings that end without an error, but cannot be right ---

LABELS = np.repeat(np.arange(10), 5)
RIGHT = np.eye(10)[LABELS]
FALLING, RISING = pd.DataFrame({"val_loss": [2.0, 1.0, 1.2]}), pd.DataFrame({"val_loss": [1.0, 2.0, 1.5]})


def normalized(momentum: float) -> keras.Model:
    pixels = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(keras.layers.BatchNormalization(momentum=momentum, name="norm")(pixels))
    return keras.Model(pixels, keras.layers.Dense(10)(flat))


@pytest.mark.fault(
    "A learning rate of 100 trains to 10 % without a word; so does a batch normalization with too long a memory.",
    "A warning says what is probably wrong.",
)
@pytest.mark.parametrize(
    ("history", "probabilities", "momentum", "sentences"),
    [
        (FALLING, RIGHT, 0.9, []),
        (
            FALLING,
            np.eye(10)[np.zeros(50, int)],
            0.9,
            ["about what guessing gives (10.0 %)", "never predicted .* Trouser, Pull"],
        ),
        (FALLING, np.where(RIGHT[:, [9]] > 0, np.eye(10)[5], RIGHT), 0.9, ["are never predicted .*: Ankle boot"]),
        (
            FALLING,
            np.where(np.arange(50)[:, None] % 5 < 2, np.roll(RIGHT, 1, axis=1), RIGHT),
            0.9,
            ["60.0 % of the validation images are right, but the loss is .* nats, and guessing has 2.3"],
        ),
        (RISING, RIGHT, 0.9, ["the validation loss only rose, from 1.000 after the first epoch to 1.500"]),
        (
            FALLING,
            RIGHT,
            0.999,
            ["the batch normalization norm .momentum 0.999. still has 90 % of its initial statistics"],
        ),
    ],
)
def test_what_cannot_be_right_is_warned_of(history, probabilities, momentum, sentences):
    found = doubts.doubts(Trained(normalized(momentum), history, history, [], [], 100), probabilities, LABELS)
    assert len(found) == len(sentences)
    for sentence, part in zip(found, sentences, strict=True):
        assert re.search(part.replace("(10", r"\(10").replace("%)", r"%\)"), sentence)


@pytest.mark.fault(
    "The teachers of a model learn nothing, and the model learns from what they guess.", "A warning says so."
)
def test_teachers_that_learned_nothing_are_warned_of(drawn_images):
    for taught, sentences in ((None, 0), (0.5, 0), (0.12, 1)):
        trained = Trained(normalized(0.9), FALLING, FALLING, [], [], 100, taught)
        assert len(doubts.doubts(trained, RIGHT, LABELS)) == sentences
    changes = {"teachers": [1], "distillation_weight": 0.5, "epochs": 1, "learning_rate": 1e-9}
    trained = train(plain, block(plain, **changes), 0, *split(drawn_images))
    found = doubts.doubts(trained, RIGHT, LABELS)
    assert any(re.search("teachers classify .* about what guessing gives", sentence) for sentence in found), found
    assert train(plain, block(plain, epochs=1), 0, *split(drawn_images)).taught is None


@pytest.mark.parametrize("rate", [1e-9, 100])
def test_the_stage_warns_of_an_absurd_learning_rate(workspace, rate):
    edit(workspace, lambda content: content["models"]["plain"].update(learning_rate=rate))
    output = run(workspace, "python", "-m", "stages.train", "plain")
    (line,) = re.findall("^warning: plain-0: .*Its learning_rate is.*$", output, re.MULTILINE)
    assert line in run(workspace, "python", "-m", "stages.table")  # also when DVC's cache had the result


def test_a_fold_that_cannot_be_right_is_warned_of(workspace):
    edit(workspace, lambda content: content["models"]["plain"].update(learning_rate=100))
    edit(workspace, lambda content: content["audit"].update(model="plain"))
    output = run(workspace, "python", "-m", "stages.folds")
    assert re.search("warning: fold 1 of .*Its learning_rate is", output), output


@pytest.mark.fault("A class is missing from the training images.", "A warning names it: it is never predicted.")
def test_the_stage_warns_of_a_class_that_is_missing_from_training(workspace):
    path = workspace / "data/prepared/train.npz"
    with np.load(path) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    np.savez(path, images=images[labels != 8], labels=labels[labels != 8])
    output = run(workspace, "python", "-m", "stages.train", "plain")
    assert re.search("warning: plain-0: .*Bag", output), output
