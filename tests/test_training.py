"""Training learns, stops when it should, and saves what it trained."""

import gc
import json
import re
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest

from stages import models
from stages.environment import processor, threads
from stages.errors import InputError
from stages.evaluation.inference import in_batches, predict, views_of
from stages.evaluation.scores import scores
from stages.parameters import read_parameters
from stages.training.devices import use_bfloat16
from stages.training.fit import SeedDropout, mixed, said_by_teachers, train
from stages.training.optimizers import SGD, Muon, WarmupThenDecay, orthogonalised
from stages.training.saving import conditions, describe, load_model, multiply_adds, save_model
from tests.conftest import ROOT


def block(name: str, **changes: object):
    """A model's parameters as committed, but for one epoch of small batches, and `changes`."""
    parameters = read_parameters(f"models.{name}", path=ROOT / "params.yaml")
    return parameters.model_copy(update={"epochs": 1, "batch_size": 50} | changes)


def fit(name: str, pictures: tuple[np.ndarray, np.ndarray], seed: int = 0, **changes: object):
    images, labels = pictures[0][..., None], pictures[1]
    return train(
        models.load(name), block(name, **changes), seed, images[200:], labels[200:], images[:200], labels[:200]
    )


def test_keras_is_first_imported_by_the_package_that_loads_it_quickly():
    notebook = ROOT / "stages" / "benchmark" / "notebook.py"  # which shows what a user would write
    others = {path for path in ROOT.glob("stages/**/*.py") if "training" not in path.parts} - {notebook}
    assert others
    assert [path for path in others if re.search(r"^(import|from) keras\b", path.read_text(), re.M)] == []


def test_what_was_loaded_is_spared_by_the_garbage_collector_which_goes_on_with_the_rest():
    assert gc.get_freeze_count() > 10_000
    assert gc.isenabled()


@pytest.mark.parametrize("name", models.names())
def test_every_model_learns_and_gives_logits_of_ten_classes(name, drawn_pictures):
    trained = fit(name, drawn_pictures, epochs=4, patience=None)
    assert trained.model.output_shape == (None, 10)
    losses = trained.history["loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert list(trained.history.columns) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert len(trained.history) == len(trained.seconds) == 4


@pytest.mark.parametrize("name", models.names())
def test_every_model_trained_twice_is_the_same_file(name, drawn_pictures, tmp_path):
    for place in ("once.keras", "again.keras"):
        keras.utils.clear_session()  # the names of layers start anew
        save_model(fit(name, drawn_pictures, epochs=2, patience=None).model, tmp_path / place, {})
    assert (tmp_path / "once.keras").read_bytes() == (tmp_path / "again.keras").read_bytes()


def test_resnet_as_committed_has_at_most_300_000_parameters(drawn_pictures):
    assert models.load("resnet").build(block("resnet"), drawn_pictures[0][..., None]).count_params() <= 300_000


def test_a_stem_of_stride_2_leaves_sprint_about_a_quarter_of_the_work(drawn_pictures):
    images = drawn_pictures[0][..., None]
    dense, sparse = (models.load("sprint").build(block("sprint", stem_stride=stride), images) for stride in (1, 2))
    assert 0.2 < multiply_adds(sparse) / multiply_adds(dense) < 0.3
    assert sparse(images[:2]).shape == (2, 10)


def test_another_seed_gives_other_weights(drawn_pictures):
    first, second = (fit("logistic", drawn_pictures, seed=seed).model.get_weights()[0] for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("ema", [0, 0.5])
def test_small_epochs_come_first_and_train_the_same_weights(ema, drawn_pictures, monkeypatch):
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
        "small_epochs": 0.4,
        "small_size": 17,
        "epoch_size": 1,
        "patience": 9,
        "ema": ema,
        "precision": "float32",
    }
    trained = fit("sprint", drawn_pictures, epochs=5, **changes)
    small, full = fitted
    assert small[:3] == ([17, 17], range(2), False)
    assert full[:3] == ([28, 28], range(2, 5), True)
    assert (small[3][1], full[3][1]) == (0, 2 * 16)  # steps: the schedule and the momentum go on
    assert not np.array_equal(small[3][0], small[4])
    np.testing.assert_array_equal(small[4], full[3][0])
    assert list(trained.history["epoch"]) == list(trained.seconds["epoch"]) == [1, 2, 3, 4, 5]
    assert trained.model.input_shape == (None, 28, 28, 1)
    assert "(None, 27, 27, 8)" in describe(trained.model)
    assert "(None, 16, 16, 8)" not in describe(trained.model)  # the shapes of shrunk pictures
    answers = predict(trained.model, drawn_pictures[0][:200, ..., None], "plain").probabilities.argmax(axis=1)
    best = trained.history["val_loss"][2:].idxmin()
    assert (answers == drawn_pictures[1][:200]).mean() == pytest.approx(trained.history["val_accuracy"][best], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "size", "why"),
    [
        ("logistic", 14, ".*received input"),
        ("cnn", 14, ".*received input"),
        ("sprint", 8, "Computed output size would be zero or negative"),
    ],
)
def test_pictures_that_a_network_cannot_take_are_refused(name, size, why, drawn_pictures):
    with pytest.raises(
        InputError, match=f"asks {name} .*{size}x{size} pixels first, which it cannot take: set .*{why}"
    ):
        fit(name, drawn_pictures, epochs=2, small_epochs=0.5, small_size=size)


@pytest.mark.parametrize("taught", [0.2, 0.8])
def test_a_taught_network_learns_what_its_teachers_say_beside_the_labels(taught, drawn_pictures, monkeypatch):
    labels = drawn_pictures[1]
    other = (labels + 1) % 10
    monkeypatch.setattr(
        "stages.training.fit.said_by_teachers", lambda *_, **__: np.eye(10, dtype=np.float32)[other[200:]]
    )
    trained = fit("mlp", drawn_pictures, epochs=8, teachers=[1], taught=taught)
    answers = predict(trained.model, drawn_pictures[0][:200, ..., None], "plain").probabilities.argmax(axis=1)
    assert (answers == (labels if taught < 0.5 else other)[:200]).mean() > 0.7
    assert list(trained.seconds["epoch"]) == list(range(9))  # what teachers take counts, as epoch 0
    assert list(trained.history["epoch"]) == list(range(1, 9))


def test_what_teachers_say_is_not_smoothed_again(drawn_pictures, monkeypatch):
    said = np.eye(10, dtype=np.float32)[drawn_pictures[1][200:]]
    monkeypatch.setattr("stages.training.fit.said_by_teachers", lambda *_, **__: said)
    sharp, smooth, labels_too = (
        fit("mlp", drawn_pictures, teachers=[1], taught=taught, label_smoothing=share).model.get_weights()[0]
        for taught, share in ((1.0, 0.0), (1.0, 0.5), (0.5, 0.5))
    )
    np.testing.assert_array_equal(sharp, smooth)
    assert not np.array_equal(sharp, labels_too)


@pytest.mark.parametrize("smoothing", [0, 0.1, 0.5])
@pytest.mark.parametrize("taught", [0, 0.3, 0.7, 1])
def test_smoothing_and_teachers_have_the_shares_that_the_parameters_say(taught, smoothing):
    one_hot = np.eye(10, dtype=np.float32)[[3, 7]]
    said = np.random.default_rng(0).dirichlet(np.ones(10), size=2).astype(np.float32)
    targets, share = mixed(one_hot, said, taught, smoothing)
    found = (1 - share) * targets + share / 10  # what Keras makes of them
    labels = (1 - smoothing) * one_hot + smoothing / 10
    np.testing.assert_allclose(found, (1 - taught) * labels + taught * said, rtol=1e-5)
    assert targets.dtype == np.float32


def test_what_teachers_say_is_the_mean_of_networks_with_seeds_of_their_own(drawn_pictures):
    images, labels = drawn_pictures[0][..., None], drawn_pictures[1]
    data = images[200:], labels[200:], images[:200], labels[:200]
    first, again, both, longer = (
        said_by_teachers(models.load("mlp"), block("mlp", teachers=teachers, taught=0.5), 0, *data, devices=1)
        for teachers in ([2], [2], [2, 2], [8])
    )
    np.testing.assert_array_equal(first, again)
    second = 2 * both - first
    np.testing.assert_allclose(second.sum(axis=1), 1, atol=1e-5)
    assert second.min() > -1e-6
    assert np.abs(second - first).max() > 0.05
    shown = np.arange(800), labels[200:]
    assert first[shown].mean() + 0.1 < longer[shown].mean()  # each is trained for its own number of epochs


def test_a_teacher_is_not_stopped_early(drawn_pictures):
    images, labels = drawn_pictures[0][..., None], drawn_pictures[1]
    data = images[200:], labels[200:], images[:200], labels[:200]
    impatient, patient = (
        said_by_teachers(models.load("mlp"), parameters, 0, *data, devices=1)
        for patience in (1, None)
        for parameters in [block("mlp", teachers=[8], taught=0.5, patience=patience, learning_rate=0.05)]
    )
    np.testing.assert_array_equal(impatient, patient)


@pytest.mark.fault(
    "A training that runs shows nothing until it ends.", "Its history is there, whole, after each epoch."
)
def test_the_history_is_told_after_each_epoch(drawn_pictures):
    images, labels = drawn_pictures[0][..., None], drawn_pictures[1]
    told = []
    parts = images[200:], labels[200:], images[:200], labels[:200]
    parameters = block("sprint", epochs=4, teachers=[1], taught=0.5)
    trained = train(models.load("sprint"), parameters, 0, *parts, on_epoch=told.append)
    assert [len(history) for history in told] == [1, 2, 3, 4]  # those of a teacher are not told
    for history in told:
        pd.testing.assert_frame_equal(history, trained.history[: len(history)])


def test_early_stopping_goes_back_to_the_best_epoch(drawn_pictures):
    changes = {"patience": 1, "epoch_size": 1, "learning_rate": 0.02, "label_smoothing": 0.3, "precision": "float32"}
    trained = fit("cnn", drawn_pictures, epochs=30, **changes)
    best = trained.history["val_loss"].idxmin()
    assert len(trained.history) == best + 2  # one epoch more, and then the end
    labels = drawn_pictures[1][:200]
    probabilities = predict(trained.model, drawn_pictures[0][:200, ..., None], "plain").probabilities
    assert (probabilities.argmax(axis=1) == labels).mean() == pytest.approx(
        trained.history["val_accuracy"][best], abs=1e-6
    )


def test_the_best_epoch_is_that_of_the_plain_loss_not_of_the_smoothed_one(drawn_pictures):
    changes = {"label_smoothing": 0.6, "dropout": 0.0, "learning_rate": 0.005, "patience": 25, "precision": "float32"}
    changes["epoch_size"] = 1
    trained = fit("cnn", drawn_pictures, epochs=25, **changes)
    probabilities = predict(trained.model, drawn_pictures[0][:200, ..., None], "plain").probabilities
    assert scores(probabilities, probabilities, drawn_pictures[1][:200])["loss"] == pytest.approx(
        trained.history["val_loss"].min(), abs=1e-3
    )


def test_a_loss_that_is_not_finite_ends_the_run(drawn_pictures):
    with pytest.raises(
        InputError, match=r"the training loss became (nan|inf) in epoch [123], by step \d+; no model was kept"
    ):
        fit("logistic", drawn_pictures, optimizer="sgd", learning_rate=1e38, epochs=3)


def test_a_last_step_that_ruins_the_model_ends_the_run_too(drawn_pictures):
    changes = {"optimizer": "sgd", "learning_rate": 1e38, "batch_size": 800, "momentum": 0.0}
    with pytest.raises(InputError, match="the validation loss became nan after epoch 1; no model was kept"):
        fit("logistic", drawn_pictures, **changes)


def test_a_batch_larger_than_the_training_set_is_refused(drawn_pictures):
    with pytest.raises(InputError, match="batch_size is 5000, but an epoch shows only 800 training images"):
        fit("logistic", drawn_pictures, batch_size=5000)


@pytest.mark.fault(
    "Nobody knows which processor, precision and versions a number belongs to.",
    "The model's `origin.json`, the metrics and the report tell.",
)
def test_a_saved_model_predicts_the_same_and_says_where_it_comes_from(drawn_pictures, tmp_path):
    model = fit("sprint", drawn_pictures, precision="auto").model
    save_model(model, tmp_path / "model.keras", {"model": "sprint", "seed": 0})
    images = drawn_pictures[0][:20, ..., None]
    np.testing.assert_array_equal(load_model(tmp_path / "model.keras").predict(images), model.predict(images))
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        origin = json.loads(archive.read("origin.json"))
    assert origin == {"model": "sprint", "seed": 0, **conditions(model)}
    assert origin["precision"] == ("bfloat16" if use_bfloat16("auto") else "float32")
    assert origin["processor"] == processor()
    assert origin["threads"] == threads()
    assert origin["versions"]["keras"] == keras.__version__


@pytest.mark.parametrize("name", models.names())
def test_a_saved_model_is_of_keras_alone_and_loads_as_the_quicker_layers(name, drawn_pictures, tmp_path):
    model = fit(name, drawn_pictures, precision="float32").model
    save_model(model, tmp_path / "model.keras", {})
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert b"stages." not in archive.read("config.json")
    images = drawn_pictures[0][:20, ..., None]
    plain, quick = keras.saving.load_model(tmp_path / "model.keras"), load_model(tmp_path / "model.keras")
    assert all(type(layer).__module__.startswith("keras.") for layer in plain.layers)
    normalisations = [type(layer) for layer in model.layers if "normalization" in layer.name]
    assert [type(layer) for layer in quick.layers if "normalization" in layer.name] == normalisations or name == "mlp"
    np.testing.assert_allclose(plain.predict(images), model.predict(images), atol=1e-4)


def test_multiply_adds_are_those_of_convolutions_and_dense_layers():
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(8, 3, padding="same")(inputs)  # 28*28 places x 3*3*1*8
    x = keras.layers.Conv2D(4, 2, strides=2)(x)  # 14*14 x 2*2*8*4
    x = keras.layers.Dense(10)(keras.layers.Flatten()(x))  # 784 x 10
    assert multiply_adds(keras.Model(inputs, x)) == 784 * 72 + 196 * 128 + 7840


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


def test_muon_works_without_momentum(drawn_pictures):
    trained = fit("sprint", drawn_pictures, momentum=0.0, epochs=3)
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


def test_the_average_of_the_weights_is_what_is_validated_stopped_on_and_kept(drawn_pictures):
    still = {"schedule": "constant", "learning_rate": 0.002, "epoch_size": 1, "precision": "float32"}
    for patience in (1, None):
        trained = fit("cnn", drawn_pictures, epochs=30 if patience else 4, ema=0.9, patience=patience, **still)
        best = trained.history["val_loss"].idxmin() if patience else 3
        assert len(trained.history) == (best + 2 if patience else 4)
        predicted = predict(trained.model, drawn_pictures[0][:200, ..., None], "plain").probabilities
        loss = scores(predicted, predicted, drawn_pictures[1][:200])["loss"]
        assert loss == pytest.approx(trained.history["val_loss"][best], abs=1e-4)
    without = fit("cnn", drawn_pictures, epochs=4, ema=0.0, patience=None, **still)
    np.testing.assert_allclose(without.history["loss"], trained.history["loss"], rtol=1e-4)  # trained the same
    behind = trained.history["val_loss"] - without.history["val_loss"]
    assert (behind[:2] > 0.01).all()  # later the two may cross


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


@pytest.mark.parametrize(("views", "count"), [("plain", 1), ("flips", 2), ("flips_and_shifts", 6)])
def test_views_are_different_pictures_with_weights_that_sum_to_one(views, count, drawn_pictures):
    weighted = views_of(drawn_pictures[0][:3, ..., None], views)
    assert sum(weight for weight, _ in weighted) == pytest.approx(1)
    assert len({pictures.tobytes() for _, pictures in weighted}) == len(weighted) == count


def test_probabilities_are_those_of_the_mean_logits(drawn_pictures):
    model = fit("logistic", drawn_pictures).model
    images = drawn_pictures[0][:50, ..., None]
    predicted = predict(model, images, "flips")
    logits = (model.predict(images) + model.predict(images[:, :, ::-1])) / 2
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predicted.probabilities, expected, rtol=1e-4)
    plain = np.exp(model.predict(images))
    np.testing.assert_allclose(predicted.plain, plain / plain.sum(axis=1, keepdims=True), rtol=1e-4)
    assert len(predicted.seconds) == 2


@pytest.mark.parametrize("count", [1, 1000, 2500])
def test_pictures_go_through_a_model_in_batches_and_come_out_in_order(count):
    inputs = keras.Input((28, 28, 1))
    pixels = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, [pixels, keras.layers.GlobalMaxPooling2D()(inputs)])
    images = np.random.default_rng(0).integers(256, size=(count, 28, 28, 1), dtype=np.uint8)
    flat, highest = in_batches(model, images)
    np.testing.assert_array_equal(flat, images.reshape(count, -1))
    np.testing.assert_array_equal(highest, images.max(axis=(1, 2)))
    np.testing.assert_array_equal(in_batches(keras.Model(inputs, pixels), images), [flat])
