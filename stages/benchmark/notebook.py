"""The notebook that a Keras user would write: data from `keras.datasets`, `Sequential`, Adam, `fit`; nothing of ours.

For the benchmark it prints time and validation accuracy of every epoch as a line of JSON.
"""

import json
import sys
import time

import keras
from keras import layers

started, epochs = float(sys.argv[1]), int(sys.argv[2])  # when the process was started, seconds since 1970

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


def report(epoch, logs):
    print(json.dumps({"seconds": time.time() - started, "val_accuracy": logs["val_accuracy"]}), flush=True)


model.fit(
    x_train,
    y_train,
    batch_size=64,
    epochs=epochs,
    validation_split=0.1,
    callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=report)],
    verbose=2,
)
