"""Training learns, stops when it should, refuses what cannot be trained, and is the same every time."""

from types import ModuleType, SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from stages import models
from stages.base.errors import InputError
from stages.models.block import Block
from stages.scoring.scores import scores
from stages.trained.prediction import predict
from stages.trained.saving import save_model
from stages.training import fit
from stages.training.callbacks import SeedDropout
from stages.training.epochs import Epochs, RemembersLosses
from tests.conftest import block_of
from tests.models import nested, plain, small


@pytest.fixture(autouse=True)
def as_of_many_images(monkeypatch):
    """Batches and epochs of few images are as those of many."""
    monkeypatch.setattr("stages.training.epochs.MIN_STEPS", 1)
    for module in ("epochs", "fit"):
        monkeypatch.setattr(f"stages.training.{module}.batch_size", lambda block, count: block.batch_size)


def block(architecture: ModuleType, **changes: object) -> Block:
    """A model's block, but for one epoch of small batches in float32, on any processor, and `changes`."""
    name = architecture.__name__.rpartition(".")[2]
    parameters = block_of(name) if architecture in (plain, small) else models.read_block(name)
    return parameters.model_copy(update={"epochs": 1, "batch_size": 50, "precision": "float32"} | changes)


def split(images: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """800 training images and their labels, 200 validation images and theirs."""
    images, labels = images[0][..., None], images[1]
    return images[200:], labels[200:], images[:200], labels[:200]


def train(architecture: ModuleType, images: tuple[np.ndarray, np.ndarray], on_epoch=None, **changes: object):
    return fit.train(architecture, block(architecture, **changes), 0, *split(images), on_epoch=on_epoch)


def validated(model: keras.Model, images: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """The scores of a model on the validation images."""
    *_, val_images, val_labels = split(images)
    probabilities = predict(model, val_images, "none").probabilities
    return scores(probabilities, probabilities, val_labels)


def own(build) -> SimpleNamespace:
    """A model's module with a function that builds the network."""
    return SimpleNamespace(build=lambda parameters, images, classes: build(), __name__="stages.models.own")


def sequence(*steps: keras.layers.Layer) -> keras.Sequential:
    return keras.Sequential([keras.Input((28, 28, 1)), *steps])


def flat(units: int, *steps: keras.layers.Layer) -> keras.Sequential:
    """A softmax regression on the outputs of some layers."""
    return sequence(*steps, keras.layers.Flatten(), keras.layers.Dense(units))


def trained_twice(architecture: ModuleType, images, folder, **changes: object) -> pd.DataFrame:
    """Train twice, compare the files, and return the history."""
    for name in ("once.keras", "again.keras"):
        keras.utils.clear_session()  # the names of layers start anew
        trained = train(architecture, images, epochs=2, patience=None, precision="auto", **changes)
        save_model(trained.model, folder / name, {})
    assert (folder / "once.keras").read_bytes() == (folder / "again.keras").read_bytes()
    return trained.history


def test_a_training_repeats(images, tmp_path):
    """With the whitening, fused normalization, dropout, muon, augmentation and hard examples of `small`."""
    trained_twice(small, images, tmp_path, widths=[8], low_resolution_fraction=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_every_model_of_the_project_learns_and_repeats(name, images, tmp_path):
    losses = trained_twice(models.load(name), images, tmp_path)["loss"]
    assert losses.iloc[-1] < losses.iloc[0]


def test_what_is_told_of_a_training(images):
    """Of a network with a normalization in a model within it, whose last layer computes in bfloat16."""
    architecture = own(lambda: flat(10, sequence(keras.layers.BatchNormalization(momentum=0.9))))
    told, half = [], {"epoch_fraction": 0.5, "hard_example_fraction": 0.5, "precision": "bfloat16"}
    parameters = block(plain, epochs=3, teachers=[1], distillation_weight=0.5, **half)
    trained = fit.train(architecture, parameters, 0, *split(images), on_epoch=told.append)
    assert [len(history) for history in told] == [1, 2, 3]  # after each epoch; those of a teacher are not told
    for history in told:
        pd.testing.assert_frame_equal(history, trained.history[: len(history)])
    assert list(trained.history.columns) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert trained.history["loss"].iloc[-1] < trained.history["loss"].iloc[0]
    assert list(trained.seconds["epoch"]) == [0, 1, 2, 3]  # what teachers take counts, as epoch 0
    assert len(trained.training_seconds) == len(trained.ends) == 3
    assert 0 < trained.teachers_accuracy <= 1
    known = {"steps": 3 * 8, "teachers_accuracy": trained.teachers_accuracy, "batch_norm_momentum": 0.9}
    assert fit.facts(trained) == known  # half of 800 images are 8 batches


def test_with_class_weights_a_step_follows_the_gradient_of_the_weighted_loss():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1, 2], [60, 30, 10])
    images = rng.integers(0, 256, (100, 4, 4, 1), dtype=np.uint8)
    keras.config.set_dtype_policy("float32")  # other tests train in bfloat16
    steps = keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3)
    network = keras.Sequential([keras.Input((4, 4, 1)), *steps])
    kernel, bias = network.get_weights()
    sgd = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.5, "label_smoothing": 0.2}
    data = images, labels, images[:9], labels[:9]
    trained = fit.train(own(lambda: network), block(plain, batch_size=100, **sgd), 0, *data, class_weights=True)

    pixels, targets = images.reshape(100, 16) / 255, 0.8 * np.eye(3)[labels] + 0.2 / 3
    weights = np.array([100 / (3 * count) for count in (60, 30, 10)])[labels]  # all classes together count the same
    slope = weights[:, None] * (softmax(pixels @ kernel + bias, axis=1) - targets) / 100
    for found, before, gradient in zip(
        trained.model.get_weights(), (kernel, bias), (pixels.T @ slope, slope.sum(axis=0)), strict=True
    ):
        np.testing.assert_allclose(found, before - 0.5 * gradient, atol=1e-5)


@pytest.mark.parametrize(("fraction", "hard", "mines"), [(0.5, 0.5, True), (1, 1, False), (0.5, 0, False)])
def test_losses_are_remembered_only_where_they_select_images(fraction, hard, mines, images):
    pixels, labels, *_ = split(images)
    data = Epochs(pixels, np.eye(10)[labels], block(plain, epoch_fraction=fraction, hard_example_fraction=hard), 0)
    model = fit.functional(flat(10))
    trainer = fit.compiled(model, keras.optimizers.SGD(), 0.25, data, 1)
    assert (isinstance(trainer, RemembersLosses), trainer is model) == (mines, not mines)
    assert trainer.loss.label_smoothing == 0.25
    assert trainer.trainable_weights[0] is model.trainable_weights[0]


def test_low_resolution_epochs_come_first(images, monkeypatch):
    fitted, keras_fit = [], keras.Model.fit

    def spied(model, batches, validation_data, callbacks, initial_epoch, epochs, **others):
        sizes = {data.element_spec[0].shape[1] for data in (batches, validation_data)}
        stops = any(isinstance(callback, keras.callbacks.EarlyStopping) for callback in callbacks)
        fitted.append((sizes, range(initial_epoch, epochs), stops, int(model.optimizer.iterations)))
        others |= {"validation_data": validation_data, "callbacks": callbacks, "epochs": epochs}
        keras_fit(model, batches, initial_epoch=initial_epoch, **others)

    monkeypatch.setattr(keras.Model, "fit", spied)
    low = {"low_resolution_fraction": 0.4, "low_resolution_size": 17, "epoch_fraction": 1}
    trained = train(small, images, epochs=5, patience=9, ema_momentum=0.5, optimizer="adam", widths=[8], **low)
    assert fitted == [({17}, range(2), False, 0), ({28}, range(2, 5), True, 2 * 16)]  # the schedule goes on
    assert trained.model.input_shape == (None, 28, 28, 1)
    best = trained.history["val_loss"][2:].idxmin()  # an epoch of downscaled images is never the best
    assert validated(trained.model, images)["loss"] == pytest.approx(trained.history["val_loss"][best], rel=1e-3)


def called_with_two_sizes() -> keras.Model:
    """A network with a model inside that is called twice, with images of other sizes."""
    inputs = keras.Input((28, 28, 1))
    inner = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(1, 3, padding="same")])
    x = keras.layers.GlobalAveragePooling2D()(inner(inner(inputs)[:, :14, :14]))
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def a_sequence() -> keras.Model:
    return sequence(keras.layers.Conv2D(8, 3), keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(10))


EMPTY = np.zeros((1, 28, 28, 1), np.uint8)


@pytest.mark.parametrize("build", [lambda: nested.build(None, EMPTY, 10), called_with_two_sizes, a_sequence])
def test_a_network_takes_smaller_images_with_the_same_weights(build, images):
    model = fit.functional(build())
    smaller = fit.at_size(model, 16)
    assert smaller(images[0][:2, :16, :16, None]).shape == (2, 10)
    assert [id(weight) for weight in smaller.weights] == [id(weight) for weight in model.weights]


def test_images_that_a_network_cannot_take_are_refused(images):
    pixels = images[0][..., None]
    tiny = small.build(block(small, widths=[8, 8, 8, 8]), pixels, 10)
    for model, size, why in (
        (plain.build(block(plain), pixels, 10), 14, ".*received input"),
        (tiny, 8, "Computed output size would be zero or negative"),
    ):
        sentence = f"asks {model.name} .*{size}x{size} pixels first, which it cannot take: set .*{why}"
        with pytest.raises(InputError, match=sentence):
            fit.at_size(model, size)


def test_a_network_learns_from_soft_targets(images, monkeypatch):
    other = (images[1] + 1) % 10
    taught = np.eye(10, dtype=np.float32)[other[200:]], 1.5
    monkeypatch.setattr(fit, "soft_targets", lambda *_, **__: taught)
    trained = train(plain, images, epochs=6, teachers=[1], distillation_weight=0.8, learning_rate=0.002)
    predicted = predict(trained.model, images[0][:200, ..., None], "none").probabilities.argmax(axis=1)
    assert (predicted == other[:200]).mean() > 0.5  # not the labels, which weigh less
    assert trained.seconds["seconds"][0] == 1.5


@pytest.mark.parametrize(("weight", "smoothing"), [(0, 0.1), (0.3, 0.5), (0.7, 0), (1, 0.5)])
def test_smoothing_and_soft_targets_have_the_shares_that_the_parameters_say(weight, smoothing):
    one_hot = np.eye(10, dtype=np.float32)[[3, 7]]
    soft = np.random.default_rng(0).dirichlet(np.ones(10), size=2).astype(np.float32)
    targets, share = fit.mixed_targets(one_hot, soft, weight, smoothing)
    found = (1 - share) * targets + share / 10  # what Keras makes of them
    labels = (1 - smoothing) * one_hot + smoothing / 10
    np.testing.assert_allclose(found, (1 - weight) * labels + weight * soft, rtol=1e-5)
    assert targets.dtype == np.float32


def test_soft_targets_are_the_mean_of_teachers_with_seeds_and_epochs_of_their_own(images, monkeypatch):
    asked, kept = [], {}

    def trained(architecture, parameters, seed, pixels, *others, **options):
        asked.append((seed, parameters.epochs, parameters.patience, parameters.teachers))
        keras.utils.set_random_seed(seed)
        return SimpleNamespace(model=architecture.build(parameters, pixels, 10))

    monkeypatch.setattr(fit, "train", trained)
    keep = SimpleNamespace(restore=kept.get, keep=lambda name, state, ended: kept.update({name: state()}))
    arguments = plain, block(plain, teachers=[4, 2], patience=1), 0, *split(images)
    soft, seconds = fit.soft_targets(*arguments, devices=1, checkpoint=keep)
    assert [rest for _, *rest in asked] == [[4, None, []], [2, None, []]]  # patience is the student's
    assert len({0, *(seed for seed, *_ in asked)}) == 3
    first, second = (kept[f"teacher {number} of 2"] for number in (1, 2))
    np.testing.assert_allclose(soft, (first["probabilities"] + second["probabilities"]) / 2, atol=1e-6)
    assert seconds == first["seconds"] + second["seconds"] > 0
    again, again_seconds = fit.soft_targets(*arguments, devices=1, checkpoint=keep)
    assert len(asked) == 2  # teachers that have ended are not trained again
    assert (again_seconds, *again.ravel()) == (seconds, *soft.ravel())


def test_early_stopping_restores_the_best_epoch_by_the_unsmoothed_loss(images):
    trained = train(plain, images, epochs=40, learning_rate=0.01, patience=2, label_smoothing=0.6)
    best = trained.history["val_loss"].idxmin()
    assert len(trained.history) == best + 3 < 40
    found = validated(trained.model, images)
    assert found["loss"] == pytest.approx(trained.history["val_loss"][best], rel=1e-3)
    assert found["accuracy"] == pytest.approx(trained.history["val_accuracy"][best], abs=0.011)


def test_the_average_of_the_weights_is_what_is_validated_and_kept(images):
    trained = train(plain, images, ema_momentum=0.99, epochs=2)
    last = trained.history.iloc[-1]
    assert last["val_loss"] > 1.2 * last["loss"]  # the average is behind
    assert validated(trained.model, images)["loss"] == pytest.approx(last["val_loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 3}, r"the training loss became (nan|inf) in epoch [123], by step \d+; no model was kept"),
        ({"batch_size": 800, "momentum": 0.0}, "the validation loss became nan after epoch 1; no model was kept"),
    ],
)
def test_a_loss_that_is_not_finite_ends_the_training(changes, sentence, images):
    told = []
    with pytest.raises(InputError, match=sentence):
        train(plain, images, told.append, optimizer="sgd", learning_rate=1e38, **changes)
    assert all(np.isfinite(history).all(axis=None) for history in told)


class HidesItsWeight(keras.layers.Layer):
    """Its weight, 0, gets the gradient NaN (of a square root at 0), and never shows in the outputs."""

    def build(self, shape):
        self.hidden = self.add_weight(shape=(), initializer="zeros", name="hidden")

    def call(self, inputs):
        return inputs + keras.ops.nan_to_num(keras.ops.sqrt(self.hidden))


def test_a_weight_that_is_not_finite_ends_the_training(images):
    architecture = own(lambda: flat(10, HidesItsWeight(name="mine")))
    sentence = "the variable .*mine/hidden became nan in epoch 1, by step 16; no model was kept"
    with pytest.raises(InputError, match=sentence):
        fit.train(architecture, block(plain, epochs=3, batch_size=20), 0, *split(images))


def test_images_that_are_all_the_same_are_refused(images):
    images, *others = split(images)
    with pytest.raises(InputError, match="all 800 training images are the same"):
        fit.train(plain, block(plain), 0, np.full_like(images, 7), *others)


def two_inputs() -> keras.Model:
    inputs = [keras.Input((28, 28, 1)), keras.Input((28, 28, 1))]
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(keras.layers.Add()(inputs))))


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: flat(9), r"from \(N, 28, 28, 1\) to \(N, 9\), but it must be .* to \(N, 10\): pixels to one"),
        (two_inputs, r"build in stages\.models\.own returns a model from \(N, 28, 28, 1\) and \(N, 28, 28, 1\) to"),
        (keras.Model, "a Model whose inputs and outputs are unknown"),
        (lambda: keras.Sequential([keras.layers.Dense(10)]), "a Sequential whose inputs and outputs are unknown"),
        (lambda: None, "a NoneType whose inputs"),
        (lambda: flat(10, keras.layers.Lambda(abs, name="own")), "the layer own of .* cannot be saved"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused_before_training(build, why, images, monkeypatch):
    monkeypatch.setattr(fit, "fit", None)
    with pytest.raises(InputError, match=why):
        fit.train(own(build), block(plain), 0, *split(images))


def test_dropout_is_a_function_of_the_epoch():
    model, callback = sequence(keras.layers.Dropout(0.5, seed=0)), SeedDropout(steps=2)
    callback.set_model(model)
    steps = {}
    for epoch in (0, 1, 2, 1):
        callback.on_epoch_begin(epoch)
        seen = [model(np.ones((1, 28, 28, 1)), training=True).numpy().tobytes() for _ in range(2)]
        assert steps.setdefault(epoch, seen) == seen
    assert len({step for seen in steps.values() for step in seen}) == 6  # no two steps are alike
