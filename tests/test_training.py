"""Training learns, stops when it should, refuses what cannot be trained, and is the same every time."""

from types import ModuleType, SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

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


def block(architecture: ModuleType, **changes: object) -> Block:
    """A model's block, but for one epoch of small batches in float32, on any processor, and `changes`."""
    name = architecture.__name__.rpartition(".")[2]
    parameters = block_of(name) if architecture in (plain, small) else models.read_block(name)
    return parameters.model_copy(update={"epochs": 1, "batch_size": 50, "precision": "float32"} | changes)


def split(images: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """800 training images and their labels, 200 validation images and theirs."""
    images, labels = images[0][..., None], images[1]
    return images[200:], labels[200:], images[:200], labels[:200]


def train(architecture: ModuleType, images: tuple[np.ndarray, np.ndarray], seed: int = 0, **changes: object):
    return fit.train(architecture, block(architecture, **changes), seed, *split(images))


def validated(model: keras.Model, images: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """The scores of a model on the validation images."""
    *_, val_images, val_labels = split(images)
    probabilities = predict(model, val_images, "none").probabilities
    return scores(probabilities, probabilities, val_labels)


def own(build) -> SimpleNamespace:
    """A model's module with a function that builds the network."""
    return SimpleNamespace(build=lambda parameters, images: build(), __name__="stages.models.own")


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


@pytest.mark.parametrize("name", models.names())
def test_every_model_of_the_project_gives_logits_of_ten_classes(name, images):
    architecture, pixels = models.load(name), images[0][..., None]
    assert fit.build(architecture, block(architecture), pixels)(pixels[:2]).shape == (2, 10)


def test_what_is_told_of_a_training(images):
    told, half = [], {"epoch_fraction": 0.5, "hard_example_fraction": 0.5}
    parameters = block(plain, epochs=3, teachers=[1], distillation_weight=0.5, **half)
    trained = fit.train(plain, parameters, 0, *split(images), on_epoch=told.append)
    assert [len(history) for history in told] == [1, 2, 3]  # after each epoch; those of a teacher are not told
    for history in told:
        pd.testing.assert_frame_equal(history, trained.history[: len(history)])
    assert list(trained.history.columns) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert trained.history["loss"].iloc[-1] < trained.history["loss"].iloc[0]
    assert list(trained.seconds["epoch"]) == [0, 1, 2, 3]  # what teachers take counts, as epoch 0
    assert len(trained.training_seconds) == len(trained.ends) == 3
    assert 0 < trained.teachers_accuracy <= 1
    known = {"steps": 3 * 8, "teachers_accuracy": trained.teachers_accuracy, "batch_norm_momentum": 0}
    assert fit.facts(trained) == known  # half of 800 images are 8 batches


def test_the_facts_know_a_normalization_inside_a_nested_model():
    inner = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.BatchNormalization(momentum=0.9)])
    outer = keras.Sequential([keras.Input((28, 28, 1)), inner, keras.layers.BatchNormalization(momentum=0.5)])
    for model, momentum in ((outer, 0.9), (a_sequence(), 0)):
        found = fit.facts(SimpleNamespace(model=model, steps=7, teachers_accuracy=None))
        assert found == {"steps": 7, "teachers_accuracy": None, "batch_norm_momentum": momentum}


@pytest.mark.parametrize(("fraction", "hard", "mines"), [(0.5, 0.5, True), (1, 1, False), (0.5, 0, False)])
def test_losses_are_remembered_only_where_they_select_images(fraction, hard, mines, images):
    pixels, labels, *_ = split(images)
    data = Epochs(pixels, np.eye(10)[labels], block(plain, epoch_fraction=fraction, hard_example_fraction=hard), 0)
    model = fit.functional(a_sequence())
    trainer = fit.compiled(model, keras.optimizers.SGD(), 0.25, data, 1)
    assert (isinstance(trainer, RemembersLosses), trainer is model) == (mines, not mines)
    assert trainer.loss.label_smoothing == 0.25
    assert trainer.trainable_weights[0] is model.trainable_weights[0]


def test_low_resolution_epochs_come_first_and_train_the_same_weights(images, monkeypatch):
    fitted, keras_fit = [], keras.Model.fit

    def spied(model, batches, validation_data, callbacks, initial_epoch, epochs, **others):
        sizes = [data.element_spec[0].shape[1] for data in (batches, validation_data)]
        stops = any(isinstance(callback, keras.callbacks.EarlyStopping) for callback in callbacks)
        before = model.layers[4].get_weights()[0], int(model.optimizer.iterations)
        others |= {"validation_data": validation_data, "callbacks": callbacks, "epochs": epochs}
        keras_fit(model, batches, initial_epoch=initial_epoch, **others)
        fitted.append((sizes, range(initial_epoch, epochs), stops, before, model.layers[4].get_weights()[0]))

    monkeypatch.setattr(keras.Model, "fit", spied)
    low = {"low_resolution_fraction": 0.4, "low_resolution_size": 17, "epoch_fraction": 1}
    trained = train(small, images, epochs=5, patience=9, ema_momentum=0.5, optimizer="adam", widths=[8], **low)
    low, full = fitted
    assert low[:3] == ([17, 17], range(2), False)
    assert full[:3] == ([28, 28], range(2, 5), True)
    assert (low[3][1], full[3][1]) == (0, 2 * 16)  # steps: the schedule and the momentum go on
    assert not np.array_equal(low[3][0], low[4])
    np.testing.assert_array_equal(low[4], full[3][0])
    assert trained.model.input_shape == (None, 28, 28, 1)
    best = trained.history["val_loss"][2:].idxmin()  # an epoch of downscaled images is never the best
    assert validated(trained.model, images)["loss"] == pytest.approx(trained.history["val_loss"][best], rel=1e-3)


@pytest.mark.parametrize(
    ("architecture", "size", "why", "changes"),
    [
        (plain, 14, ".*received input", {}),
        (small, 8, "Computed output size would be zero or negative", {"widths": [8, 8, 8, 8]}),
    ],
)
def test_images_that_a_network_cannot_take_are_refused(architecture, size, why, changes, images):
    sentence = f"asks {architecture.__name__[13:]} .*{size}x{size} pixels first, which it cannot take: set .*{why}"
    with pytest.raises(InputError, match=sentence):
        train(architecture, images, epochs=2, low_resolution_fraction=0.5, low_resolution_size=size, **changes)


def called_with_two_sizes() -> keras.Model:
    """A network with a model inside that is called twice, with images of other sizes."""
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(4, 1)(inputs)
    inner = keras.Sequential([keras.Input((None, None, 4)), keras.layers.Conv2D(4, 3, padding="same")])
    x = keras.layers.GlobalAveragePooling2D()(inner(inner(x)[:, :14, :14]))
    return keras.Model(inputs, keras.layers.Dense(10, dtype="float32")(x))


def a_sequence() -> keras.Model:
    steps = (keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(8, 3), keras.layers.GlobalMaxPooling2D())
    return keras.Sequential([keras.Input((28, 28, 1)), *steps, keras.layers.Dense(10, dtype="float32")])


def two_outputs_inside() -> keras.Model:
    """A network with a model inside that has two outputs."""
    inputs, within = keras.Input((28, 28, 1)), keras.Input((None, None, 1))
    both = keras.Model(within, [keras.layers.Conv2D(4, 3)(within), keras.layers.Conv2D(4, 3)(within)])
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.Add()(both(inputs)))
    return keras.Model(inputs, keras.layers.Dense(10, dtype="float32")(x))


@pytest.mark.parametrize(
    "build", [lambda: nested.build(None, None), called_with_two_sizes, a_sequence, two_outputs_inside]
)
def test_sequences_and_models_within_models_take_smaller_images(build, images):
    model = fit.functional(build())
    smaller = fit.at_size(model, 16)
    assert smaller(images[0][:2, :16, :16, None]).shape == (2, 10)
    assert [id(weight) for weight in smaller.weights] == [id(weight) for weight in model.weights]


def test_a_network_learns_from_soft_targets(images, monkeypatch):
    other = (images[1] + 1) % 10
    taught = np.eye(10, dtype=np.float32)[other[200:]], 1.5
    monkeypatch.setattr(fit, "soft_targets", lambda *_, **__: taught)
    changes = {"teachers": [1], "distillation_weight": 0.8, "learning_rate": 0.002}
    trained = train(plain, images, epochs=6, **changes)
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
        return SimpleNamespace(model=architecture.build(parameters, pixels))

    monkeypatch.setattr(fit, "train", trained)
    keep = SimpleNamespace(restore=kept.get, keep=lambda name, state, ended: kept.update({name: state()}))
    arguments = plain, block(plain, teachers=[4, 2], patience=1), 0, *split(images)
    soft, seconds = fit.soft_targets(*arguments, devices=1, checkpoint=keep)
    assert [rest for _, *rest in asked] == [[4, None, []], [2, None, []]]  # patience is the student's
    assert len({0, *(seed for seed, *_ in asked)}) == 3
    first, second = (kept[f"teacher {number} of 2"] for number in (1, 2))
    np.testing.assert_allclose(soft, (first["probabilities"] + second["probabilities"]) / 2, atol=1e-6)
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-5)
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


def test_a_loss_that_is_not_finite_ends_the_training(images):
    sentence = r"the training loss became (nan|inf) in epoch [123], by step \d+; no model was kept"
    with pytest.raises(InputError, match=sentence):
        train(plain, images, optimizer="sgd", learning_rate=1e38, epochs=3)


def test_a_last_step_that_ruins_the_model_ends_it_too_and_leaves_no_row(images):
    told, parameters = [], block(plain, optimizer="sgd", learning_rate=1e38, batch_size=800, momentum=0.0)
    with pytest.raises(InputError, match="the validation loss became nan after epoch 1; no model was kept"):
        fit.train(plain, parameters, 0, *split(images), on_epoch=told.append)
    assert told == []


class HidesItsWeight(keras.layers.Layer):
    """Its weight, 0, gets the gradient NaN (of a square root at 0), and never shows in the outputs."""

    def build(self, shape):
        self.hidden = self.add_weight(shape=(), initializer="zeros", name="hidden")

    def call(self, inputs):
        return inputs + keras.ops.nan_to_num(keras.ops.sqrt(self.hidden))


def test_a_weight_that_is_not_finite_ends_the_training(images):
    def build():
        inputs = keras.Input((28, 28, 1))
        x = HidesItsWeight(name="mine")(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs)))
        return keras.Model(inputs, keras.layers.Dense(10, dtype="float32")(x))

    sentence = "the variable mine/hidden became nan in epoch 1, by step 16; no model was kept"
    with pytest.raises(InputError, match=sentence):
        fit.train(own(build), block(plain, epochs=3, batch_size=20), 0, *split(images))


def test_images_that_are_all_the_same_are_refused(images):
    images, *others = split(images)
    with pytest.raises(InputError, match="all 800 training images are the same"):
        fit.train(plain, block(plain), 0, np.full_like(images, 7), *others)


def of_outputs(units: int):
    """A sequence with so many logits."""
    return lambda: keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(units)])


def two_inputs() -> keras.Model:
    inputs = [keras.Input((28, 28, 1)), keras.Input((28, 28, 1))]
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(keras.layers.Add()(inputs))))


def with_a_lambda() -> keras.Model:
    scaled = keras.layers.Lambda(lambda pixels: pixels / 255, name="scaled")
    return keras.Sequential([keras.Input((28, 28, 1)), scaled, keras.layers.Flatten(), keras.layers.Dense(10)])


class Subclassed(keras.Model):
    """A model of which Keras knows no inputs."""

    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (of_outputs(9), r"from \(N, 28, 28, 1\) to \(N, 9\), but it must be from \(N, 28, 28, 1\) to \(N, 10\)"),
        (two_inputs, r"from \(N, 28, 28, 1\) and \(N, 28, 28, 1\) to"),
        (Subclassed, "build in stages.models.own returns a Subclassed whose inputs and outputs are unknown"),
        (lambda: keras.Sequential([keras.layers.Dense(10)]), "a Sequential whose inputs and outputs are unknown"),
        (lambda: None, "a NoneType whose inputs"),
        (with_a_lambda, "the layer scaled of .* cannot be saved"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused_before_training(build, why, images, monkeypatch):
    monkeypatch.setattr(fit, "fit", None)
    with pytest.raises(InputError, match=why):
        fit.train(own(build), block(plain), 0, *split(images))


def test_a_last_layer_that_computes_in_bfloat16_trains(images):
    changes = {"precision": "bfloat16", "epoch_fraction": 0.5, "hard_example_fraction": 0.5}
    trained = fit.train(own(of_outputs(10)), block(plain, **changes), 0, *split(images))
    assert np.isfinite(trained.history["loss"]).all()


def test_dropout_is_a_function_of_seed_and_epoch():
    def outputs(seed: int, first_epoch: int) -> np.ndarray:
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((50,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
        seen = []
        see = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["loss"]))
        ones = np.ones((8, 50)), np.zeros((8, 1))
        model.fit(*ones, 4, 3, 0, initial_epoch=first_epoch, callbacks=[SeedDropout(2), see], shuffle=False)
        return np.array(seen)

    whole = outputs(0, 0)
    np.testing.assert_array_equal(whole[1:], outputs(0, 1))
    assert len(set(whole)) == 3
    assert not np.array_equal(whole, outputs(1, 0))
