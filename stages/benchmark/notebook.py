"""A plain Keras notebook: data from `keras.datasets`, `Sequential`, Adam, `fit`, and no code of this project.

`python -m stages.benchmark.notebook STARTED EPOCHS KERAS_HOME` prints one line of JSON per epoch, with the seconds since
STARTED and the validation accuracy, and a last line with the other measurements.
"""

import json
import os
import sys
import time

os.environ["KERAS_HOME"] = sys.argv[3]  # the folder that holds the data

import keras
from keras import layers

started, epochs = float(sys.argv[1]), int(sys.argv[2])  # the start of the process, in seconds since 1970

(x_train, y_train), _ = keras.datasets.fashion_mnist.load_data()
x_train = x_train[..., None].astype("float32") / 255

model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Dropout(0.25),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]
)
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])


class Clock(keras.callbacks.Callback):
    """Prints the line of each epoch, and records when the epoch and its validation began."""

    def __init__(self):
        super().__init__()
        self.began, self.trained = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.began.append(time.time())

    def on_test_begin(self, logs=None):
        self.trained.append(time.time())

    def on_epoch_end(self, epoch, logs=None):
        print(json.dumps({"seconds": time.time() - started, "val_accuracy": logs["val_accuracy"]}), flush=True)


clock = Clock()
model.fit(x_train, y_train, batch_size=64, epochs=epochs, validation_split=0.1, callbacks=[clock], verbose=2)

from stages.benchmark.measure import measured  # noqa: E402  imported late: its loading time is not the notebook's

seconds = [after - before for before, after in zip(clock.began, clock.trained, strict=True)]
last = {"precision": "float32", "seconds_to_load": clock.began[0] - started}
print(json.dumps(last | measured(model, 54_000, seconds[1:])))
