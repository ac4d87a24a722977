"""One of this project's models, trained as in `params.yaml` but for `changes`, and then asked to predict.

`python -m stages.benchmark.ours MODEL STARTED SEED CHANGES` prints lines of JSON as `notebook.py` does, but none of small
epochs, and a last one with what else was measured.
"""

import json
import statistics
import sys

from stages import models
from stages.dataset import load_split
from stages.parameters import read_parameters


def main() -> None:
    name, started, seed, changes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    parameters = read_parameters("models")[name].model_copy(update=changes)
    train_part, val_part = load_split("train"), load_split("val")

    from stages.benchmark.measure import measured  # after the data: it loads TensorFlow
    from stages.training.devices import use_bfloat16
    from stages.training.epochs import small_epochs
    from stages.training.fit import train

    trained = train(models.load(name), parameters, seed, *train_part, *val_part)
    small = small_epochs(parameters)  # which count in the seconds, but whose accuracy is that of other pictures
    for ended, accuracy in list(zip(trained.ends, trained.history["val_accuracy"], strict=True))[small:]:
        print(json.dumps({"seconds": ended - started, "val_accuracy": accuracy}))
    shown = int(len(train_part[0]) * parameters.epoch_size) // parameters.batch_size * parameters.batch_size
    epochs, seconds = trained.seconds["epoch"], trained.seconds["seconds"]
    until_first_end = seconds[epochs <= 1].sum()  # teachers included, which are epoch 0
    seconds = seconds[epochs > 0].tolist()
    sizes = [size for size in (seconds[:small], seconds[small:]) if len(size) > 1]
    last = {
        "precision": "bfloat16" if use_bfloat16(parameters.precision) else "float32",
        "seconds_to_load": trained.ends[0] - until_first_end - started,
        "seconds_to_trace": sum(size[0] - statistics.median(size[1:]) for size in sizes),
    }
    full_size = trained.training_seconds[small + 1 :]  # the first of these is also traced
    print(json.dumps(last | measured(trained.model, val_part[0], shown, full_size)))


if __name__ == "__main__":
    main()
