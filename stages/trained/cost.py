"""The cost of a model: its multiply-adds, and a summary of its layers as text."""

import contextlib
import io
import os

import keras

from stages.trained import on_tensorflow
from stages.trained.saving import copied


def multiply_adds(model: keras.Model) -> int | None:
    """The number of multiply-adds that classify one image: those of all convolutions and matrix products.

    They are counted in TensorFlow's graph of the model, so that layers of any kind, nested or custom, count as often as
    they are called. What only scales, shifts or adds, such as a normalization, does not count.

    Returns:
        The number, or None if it is unknown, because the graph has loops, as of recurrent layers.
    """
    return on_tensorflow.multiply_adds(copied(model))  # to which no optimizer belongs


def describe(model: keras.Model) -> str:
    """Keras's summary of the layers as text, 80 columns wide, followed by the multiply-adds."""
    lines: list[str] = []
    anew = copied(model)  # whose layers were called once, and that no optimizer belongs to
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # else the terminal's width and encoding decide on the lines
            anew.summary(line_length=80, expand_nested=True, print_fn=lines.append)
    finally:
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    work = multiply_adds(model)
    return "\n".join([*lines, f" Multiply-adds per image: {'unknown' if work is None else f'{work:,}'}", ""])
