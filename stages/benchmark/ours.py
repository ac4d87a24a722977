"""One of this project's models, trained with its block of `params.yaml`, in which CHANGES (JSON) replace some values.

`python -m stages.benchmark.ours MODEL STARTED SEED CHANGES THREADS` prints the same lines of JSON as `notebook.py`, without
those of low-resolution epochs.
"""

import json
import statistics
import sys

from stages import models
from stages.base.splits import load_split, load_summary
from stages.benchmark import measure
from stages.trained import precision
from stages.trained.backend import start_keras
from stages.training import epochs, fit


def main() -> None:
    name, started, seed, changes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    threads = int(sys.argv[5])
    block = models.read_block(name, load_summary()["mirror"]).model_copy(update=changes)
    train_split, val_split = load_split("train"), load_split("val")
    start_keras(threads)
    trained = fit.train(models.load(name), block, seed, *train_split, *val_split)
    # Their time counts, but their accuracy is that of smaller images.
    low = epochs.low_resolution_epochs(block, train_split[0])
    for ended, accuracy in list(zip(trained.ends, trained.history["val_accuracy"], strict=True))[low:]:
        print(json.dumps({"seconds": ended - started, "val_accuracy": accuracy}))
    shown = trained.steps // len(trained.ends) * epochs.batch_size(block, len(train_split[0]))
    numbers, seconds = trained.seconds["epoch"], trained.seconds["seconds"]
    until_first_end = seconds[numbers <= 1].sum()  # epoch 0 is the training of the teachers
    seconds = seconds[numbers > 0].tolist()
    sizes = [size for size in (seconds[:low], seconds[low:]) if len(size) > 1]
    last = {
        "precision": "bfloat16" if precision.use_bfloat16(block.precision) else "float32",
        "seconds_to_load": trained.ends[0] - until_first_end - started,
        "seconds_to_trace": sum(size[0] - statistics.median(size[1:]) for size in sizes),
    }
    full_size = trained.training_seconds[low + 1 :]  # without the first one, which includes tracing
    print(json.dumps(last | measure.measured(trained.model, shown, full_size)))


if __name__ == "__main__":
    main()
