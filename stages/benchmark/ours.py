"""One of this project's models, trained as in `params.yaml` but for `changes`, and then asked to predict.

`python -m stages.benchmark.ours MODEL STARTED SEED CHANGES` prints lines of JSON as `notebook.py` does, but none of small
epochs, and a last one with what else was measured.
"""

import json
import sys
import time

from stages import models
from stages.dataset import load_split
from stages.parameters import read_parameters


def latencies(model, images, times: int) -> list[float]:
    """Seconds of each of `times` predictions of `images` in one batch, after two that do not count."""
    seconds = []
    for _ in range(times + 2):
        before = time.perf_counter()
        model.predict_on_batch(images)
        seconds.append(time.perf_counter() - before)
    return seconds[2:]


def main() -> None:
    name, started, seed, changes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    parameters = read_parameters("models")[name].model_copy(update=changes)
    train_part, val_part = load_split("train"), load_split("val")

    import numpy as np

    from stages.training.devices import use_bfloat16
    from stages.training.epochs import small_epochs
    from stages.training.fit import train
    from stages.training.saving import multiply_adds

    loaded = time.time() - started
    trained = train(models.load(name), parameters, seed, *train_part, *val_part)
    small = small_epochs(parameters)  # which count in the seconds, but whose accuracy is that of other pictures
    for ended, accuracy in list(zip(trained.ends, trained.history["val_accuracy"], strict=True))[small:]:
        print(json.dumps({"seconds": ended - started, "val_accuracy": accuracy}))
    shown = int(len(train_part[0]) * parameters.epoch_size) // parameters.batch_size * parameters.batch_size
    work = 6 * multiply_adds(trained.model) * shown  # 2 operations a multiply-add; backward is twice forward
    full_size = trained.training_seconds[small + 1 :]  # of these, the first one is also traced
    last = {
        "precision": "bfloat16" if use_bfloat16(parameters.precision) else "float32",
        "seconds_to_load": loaded,
        "images_per_second": [shown / seconds for seconds in full_size],
        "operations_per_second": [work / seconds for seconds in full_size],
        "predicted_per_second": 1000 / float(np.median(latencies(trained.model, val_part[0][:1000], 10))),
        "milliseconds_for_one": 1000 * float(np.median(latencies(trained.model, val_part[0][:1], 100))),
    }
    print(json.dumps(last))


if __name__ == "__main__":
    main()
