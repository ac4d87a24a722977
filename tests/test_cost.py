"""The multiply-adds of a model are those counted by hand, or are said to be unknown."""

import keras
import pytest
from keras import layers

from stages.layers import fast
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


class Twice(layers.Dense):
    """A layer of its own, which calls a known one twice."""

    def call(self, inputs):
        return super().call(inputs) + super().call(-inputs)


def attended(inputs):
    x = layers.Reshape((49, 16))(inputs)
    return layers.MultiHeadAttention(2, 8)(x, x)


COUNTED = {
    "dense": ([layers.Flatten(), layers.Dense(10)], 784 * 10),
    "convolutions": (
        [fast.Conv2D(8, 3, padding="same"), fast.BatchNormalization(), layers.Conv2D(4, (3, 2), strides=2)],
        28 * 28 * (3 * 3 * 1 * 8) + 13 * 14 * (3 * 2 * 8 * 4),
    ),
    "groups": (
        [layers.Conv2D(6, 1), layers.Conv2D(12, 3, groups=3, strides=2, padding="same")],
        28 * 28 * (1 * 6) + 14 * 14 * (3 * 3 * 2 * 12),  # each of 12 sees 2 of 6 channels
    ),
    "separable": (
        [layers.Conv2D(4, 1), layers.SeparableConv2D(10, 3, depth_multiplier=2, strides=2, padding="same")],
        28 * 28 * (1 * 4) + 14 * 14 * (3 * 3 * 4 * 2 + 8 * 10),
    ),
    "transpose": (
        [layers.Conv2DTranspose(6, 3, strides=2, padding="same")],
        28 * 28 * (3 * 3 * 1 * 6),  # each input is spread over 3 x 3 outputs
    ),
    "two levels within": (
        [network(network(layers.Conv2D(4, 3)), layers.Flatten(), layers.Dense(10))],
        26 * 26 * (3 * 3 * 1 * 4) + 26 * 26 * 4 * 10,
    ),
    "a layer of its own within another": ([network(Twice(5))], 28 * 28 * 1 * 5 * 2),
    "attention": ([attended], 4 * (49 * 16 * 16) + 2 * (2 * 49 * 49 * 8)),  # four projections; two products, two heads
    "only scaled and shifted": ([layers.BatchNormalization(), layers.PReLU(), layers.MaxPooling2D()], 0),
    "recurrent": ([layers.Reshape((28, 28)), layers.LSTM(4)], None),
    "recurrent within another": ([network(layers.Reshape((28, 28)), layers.Bidirectional(layers.GRU(4)))], None),
}


@pytest.mark.parametrize(("steps", "count"), COUNTED.values(), ids=COUNTED)
def test_counted_by_hand(steps, count):
    assert multiply_adds(network(*steps)) == count


def test_a_shared_layer_and_a_shared_model_count_as_often_as_they_are_called():
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 1)(inputs)  # 28 * 28 * 4
    shared = layers.Conv2D(4, 3, strides=2, padding="same")
    x = shared(shared(x))  # 14 * 14, then 7 * 7 places
    inner = keras.Sequential([keras.Input((7, 7, 4)), layers.Dense(4)])
    x = inner(inner(inner(x)))
    assert multiply_adds(keras.Model(inputs, x)) == 28 * 28 * 4 + (14 * 14 + 7 * 7) * 3 * 3 * 4 * 4 + 3 * 7 * 7 * 4 * 4


def test_the_description_is_the_same_whatever_the_terminal_and_whether_the_model_was_trained(monkeypatch):
    inside = network(layers.Conv2D(6, 3), shape=(26, 26, 4))
    model = network(layers.Conv2D(4, 3), inside, layers.Flatten(), layers.Dense(2))
    told = describe(model)
    assert "(None, 24, 24, 6)" in told  # of the model inside
    assert "Total params: 7,176" in told
    assert "Multiply-adds per image: 155,664" in told
    assert max(map(len, told.splitlines())) <= 80
    assert "Multiply-adds per image: unknown" in describe(network(*COUNTED["recurrent"][0]))
    monkeypatch.setenv("COLUMNS", "40")
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    assert describe(model) == told
