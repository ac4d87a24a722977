"""The multiply-adds of a model are those counted by hand, or are said to be unknown."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from stages.layers import fast
from stages.trained import on_tensorflow
from stages.trained.cost import describe, multiply_adds


@pytest.fixture(autouse=True)
def float32():
    """Other tests train in bfloat16."""
    keras.config.set_dtype_policy("float32")


def network(*steps, shape: tuple[int, ...] = (28, 28, 1)) -> keras.Model:
    """Images (B, H, W, C) through `steps`."""
    inputs = x = keras.Input(shape)
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x)


class Residual(layers.Layer):
    """A layer that calls others: a convolution twice, and a dense layer."""

    def __init__(self, filters: int, **options):
        super().__init__(**options)
        self.filters = filters
        self.convolution = layers.Conv2D(filters, 3, padding="same")
        self.dense = layers.Dense(filters)

    def call(self, inputs):
        return inputs + self.dense(self.convolution(self.convolution(inputs)))

    def get_config(self):
        return super().get_config() | {"filters": self.filters}


class OwnKernel(layers.Layer):
    """Multiplies by weights in a way of its own."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3))

    def call(self, inputs):
        return ops.matmul(inputs, self.kernel)


class Gate(layers.Layer):
    """Multiplies images with each other, without weights."""

    def call(self, inputs):
        rows = ops.reshape(inputs, (-1, 28, 28))
        return ops.reshape(ops.matmul(rows, ops.transpose(rows, (0, 2, 1))), (-1, 28, 28, 1))


class Twice(layers.Dense):
    """A dense layer that is called twice by itself."""

    def call(self, inputs):
        return super().call(inputs) + super().call(-inputs)


class Both(OwnKernel):
    """A kernel of its own beside a layer that is known."""

    def build(self, shape):
        super().build(shape)
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return super().call(inputs) + self.dense(inputs)


def attended(inputs):
    x = layers.Reshape((49, 16))(inputs)
    return layers.MultiHeadAttention(2, 8)(x, x)


COUNTED = {
    "dense": ([layers.Flatten(), layers.Dense(10)], 784 * 10),
    "dense on channels": ([layers.Dense(5)], 784 * 1 * 5),  # at each of 28 x 28 places
    "convolutions": (
        [layers.Conv2D(8, 3, padding="same"), layers.Conv2D(4, 2, strides=2)],
        28 * 28 * (3 * 3 * 1 * 8) + 14 * 14 * (2 * 2 * 8 * 4),
    ),
    "padding": ([layers.Conv2D(4, (5, 3))], 24 * 26 * (5 * 3 * 1 * 4)),
    "dilation": ([layers.Conv2D(4, 3, dilation_rate=2)], 24 * 24 * (3 * 3 * 1 * 4)),
    "groups": (
        [layers.Conv2D(6, 1), layers.Conv2D(12, 3, groups=3, strides=2, padding="same")],
        28 * 28 * (1 * 6) + 14 * 14 * (3 * 3 * 2 * 12),  # each of 12 sees 2 of 6 channels
    ),
    "the project's own": (
        [fast.Conv2D(6, 3, padding="same"), fast.BatchNormalization()],
        28 * 28 * (3 * 3 * 1 * 6),
    ),
    "depthwise": (
        [layers.Conv2D(4, 1), layers.DepthwiseConv2D(3, depth_multiplier=2)],
        28 * 28 * (1 * 4) + 26 * 26 * (3 * 3 * 4 * 2),
    ),
    "separable": (
        [layers.Conv2D(4, 1), layers.SeparableConv2D(10, 3, depth_multiplier=2, strides=2, padding="same")],
        28 * 28 * (1 * 4) + 14 * 14 * (3 * 3 * 4 * 2 + 8 * 10),
    ),
    "transpose": (
        [layers.Conv2DTranspose(6, 3, strides=2, padding="same")],
        28 * 28 * (3 * 3 * 1 * 6),  # each input is spread over 3 x 3 outputs
    ),
    "within another": (
        [network(layers.Conv2D(4, 3), layers.ReLU()), network(layers.Dense(2), shape=(26, 26, 4))],
        26 * 26 * (3 * 3 * 1 * 4) + 26 * 26 * (4 * 2),
    ),
    "two levels within": (
        [network(network(layers.Conv2D(4, 3)), layers.Flatten(), layers.Dense(10))],
        26 * 26 * (3 * 3 * 1 * 4) + 26 * 26 * 4 * 10,
    ),
    "a layer that calls others": (
        [layers.Conv2D(6, 1), Residual(6)],
        28 * 28 * (6 + 2 * (3 * 3 * 6 * 6) + 6 * 6),
    ),
    "a layer of its own within another": (
        [layers.Conv2D(2, 1), network(Residual(2), shape=(28, 28, 2))],
        28 * 28 * (2 + 2 * (3 * 3 * 2 * 2) + 2 * 2),
    ),
    "a kernel of its own": ([OwnKernel()], 28 * 28 * 1 * 3),
    "a kernel beside a known layer": ([Both()], 28 * 28 * 1 * 3 * 2),
    "a product of images": ([Gate()], 28 * 28 * 28),
    "a known layer that calls itself twice": ([Twice(5)], 28 * 28 * 5 * 2),
    "einsum": ([layers.EinsumDense("bhwc,cd->bhwd", output_shape=(28, 28, 3))], 28 * 28 * 1 * 3),
    "attention": ([attended], 4 * (49 * 16 * 16) + 2 * (2 * 49 * 49 * 8)),  # four projections; two products, two heads
    "at each time": ([layers.TimeDistributed(layers.Dense(3))], 28 * 28 * 3),
    "only scaled and shifted": (
        [
            layers.Rescaling(1 / 255),
            layers.BatchNormalization(),
            layers.LayerNormalization(axis=(1, 2)),  # has weights (28, 28)
            layers.GroupNormalization(1),
            layers.PReLU(),
            layers.Dropout(0.5),
            layers.MaxPooling2D(),
        ],
        0,
    ),
}


@pytest.mark.parametrize(("steps", "count"), COUNTED.values(), ids=COUNTED)
def test_counted_by_hand(steps, count):
    assert multiply_adds(network(*steps)) == count


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras has no such product")
@pytest.mark.parametrize("rank", [2, 3])
def test_a_product_with_a_transposed_matrix(rank):
    class Transposed(layers.Layer):
        def call(self, inputs):
            rows = ops.reshape(inputs, (28, 28) if rank == 2 else (-1, 14, 56))[..., :8]  # (28, 8) or (1, 14, 8)
            return ops.reshape(on_tensorflow.tf.matmul(rows, rows, transpose_a=True), (1, 8, 8))

    assert multiply_adds(network(Transposed())) == 8 * 8 * (28 if rank == 2 else 14)


def test_a_shared_layer_and_a_shared_model_count_as_often_as_they_are_called():
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 1)(inputs)  # 28 * 28 * 4
    shared = layers.Conv2D(4, 3, strides=2, padding="same")
    x = shared(shared(x))  # 14 * 14, then 7 * 7 places
    inner = network(layers.Dense(4), shape=(7, 7, 4))
    x = inner(inner(inner(x)))
    assert multiply_adds(keras.Model(inputs, x)) == 28 * 28 * 4 + (14 * 14 + 7 * 7) * 3 * 3 * 4 * 4 + 3 * 7 * 7 * 4 * 4


def test_a_sequence_counts_as_any_other_model():
    assert multiply_adds(keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)])) == 7840


UNKNOWN = {
    "recurrent": [layers.Reshape((28, 28)), layers.LSTM(4)],
    "recurrent both ways": [layers.Reshape((28, 28)), layers.Bidirectional(layers.GRU(4))],
    "within another": [network(layers.Reshape((28, 28)), layers.LSTM(4))],
}


@pytest.mark.parametrize("steps", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_is_not_guessed(steps):
    model = network(*steps)
    assert multiply_adds(model) is None


def test_the_description_says_that_it_is_not_known():
    assert "Multiply-adds per image: unknown" in describe(network(*UNKNOWN["recurrent"]))


def test_counting_leaves_the_model_as_it_was():
    model = network(layers.Flatten(), layers.Dense(10))
    model.compile("sgd", "mse")
    images = np.random.default_rng(0).normal(size=(5, 28, 28, 1)).astype(np.float32)
    before = model.predict(images, verbose=0)
    for _ in range(2):
        assert multiply_adds(model) == 7840
    np.testing.assert_array_equal(model.predict(images, verbose=0), before)


def test_the_description_is_the_same_whatever_the_terminal_and_whether_the_model_was_trained(monkeypatch):
    model = network(
        layers.Conv2D(4, 3), network(layers.Conv2D(6, 3), shape=(26, 26, 4)), layers.Flatten(), layers.Dense(2)
    )
    told = describe(model)
    assert "(None, 24, 24, 6)" in told  # of the model inside
    assert "Total params: 7,176" in told
    assert "Multiply-adds per image: 155,664" in told
    assert max(map(len, told.splitlines())) <= 80
    monkeypatch.setenv("COLUMNS", "40")
    model.compile("adam", "mse")
    model.fit(np.zeros((4, 28, 28, 1)), np.zeros((4, 2)), verbose=0)
    assert describe(model) == told
