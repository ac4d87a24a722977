"""The state of a training in a checkpoint: what has to be kept so that it goes on as if it had not been interrupted."""

import json

import keras
import numpy as np

from stages.trained.on_tensorflow import capabilities, gpu_names
from stages.training.callbacks import EpochClock, KeepHistory
from stages.training.checkpoint import Arrays, Checkpoint
from stages.training.epochs import Epochs

STOPPING = ("wait", "stopped_epoch", "best", "best_epoch")  # attributes of Keras's EarlyStopping, besides best_weights


class Resume(keras.callbacks.Callback):
    """Puts the state of a training into a checkpoint before an epoch, if it is time, and goes on from there.

    It has to be the last callback, so that all others have begun the epoch: then the averaged weights are swapped back.
    What depends on the seed and the number of the epoch alone (order, augmentation, dropout) needs no state.

    Args:
        checkpoint: None: nothing is kept.
        name: Of this training in the checkpoint.
        model: The network that is fitted, or one that shares its variables.
        optimizer: Its variables exist already.
        data, clock, history, stopping: Of this training.

    Attributes:
        epoch: The number, from 0, of the epoch with which the training goes on; the number of epochs if it had ended.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        name: str,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        data: Epochs,
        clock: EpochClock,
        history: KeepHistory,
        stopping: keras.callbacks.EarlyStopping,
    ):
        super().__init__()
        self.checkpoint, self.name, self.network, self.optimizer = checkpoint, name, model, optimizer
        self.data, self.clock, self.history, self.stopping = data, clock, history, stopping
        found = checkpoint.restore(name) if checkpoint else None
        self.found = found if found and str(found["conditions"]) == conditions() else None
        self.epoch = int(self.found["epoch"]) if self.found else 0
        if self.found:
            self.records = json.loads(str(self.found["records"]))
            history.rows = self.records["history"]
            clock.seconds, clock.training_seconds, clock.ends = self.records["clock"]
            data.losses = self.found["losses"]
            data.begin(min(self.epoch, data.parameters.epochs - 1))
            print(f"{name} goes on after epoch {self.epoch} of {data.parameters.epochs}", flush=True)

    def on_epoch_begin(self, epoch, logs=None):
        if self.found:
            for place, variable in enumerate(variables_of(self.network, self.optimizer)):
                variable.assign(self.found[f"variable-{place}"])
            vars(self.stopping).update(self.records["stopping"])
            self.stopping.best_weights = arrays_of(self.found, "best") or None
            self.found = None
        elif self.checkpoint and epoch:
            self.checkpoint.keep(self.name, lambda: self.state(epoch))

    def finish(self, model: keras.Model) -> None:
        """Keep the weights of the trained model; or load them, if the training had ended before it was interrupted."""
        if self.found:
            model.set_weights(arrays_of(self.found, "trained"))
        elif self.checkpoint:
            ended = self.records_at(self.data.parameters.epochs) | numbered("trained", model.get_weights())
            self.checkpoint.keep(self.name, lambda: ended, ended=True)

    def state(self, epoch: int) -> Arrays:
        """What has to be kept before an epoch."""
        variables = [keras.ops.convert_to_numpy(one) for one in variables_of(self.network, self.optimizer)]
        best = getattr(self.stopping, "best_weights", None) or []
        return self.records_at(epoch) | numbered("variable", variables) | numbered("best", best)

    def records_at(self, epoch: int) -> Arrays:
        """What has to be kept besides variables. JSON keeps every digit of a float."""
        records = {
            "history": self.history.rows,
            "clock": [self.clock.seconds, self.clock.training_seconds, self.clock.ends],
            "stopping": {name: getattr(self.stopping, name, None) for name in STOPPING},
        }
        return {
            "conditions": np.array(conditions()),
            "epoch": np.array(epoch),
            "records": np.array(json.dumps(records, default=float)),
            "losses": self.data.losses.copy(),
        }


def conditions() -> str:
    """What a training depends on besides what its stage reads: the devices."""
    return json.dumps([keras.distribution.list_devices(), gpu_names(), capabilities()])


def seconds_of(found: Arrays | None) -> float:
    """The seconds of the epochs that a training in a checkpoint has ended."""
    return sum(json.loads(str(found["records"]))["clock"][0]) if found else 0.0


def variables_of(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> list:
    """All variables of a training: weights, statistics, states of random generators, momentum, averaged weights."""
    return [*model.variables, *optimizer.variables]


def numbered(name: str, arrays: list[np.ndarray]) -> Arrays:
    """Arrays by the names `NAME-0`, `NAME-1` ...; types that NumPy cannot save become float32, which holds them exactly."""
    known = [array if array.dtype.kind in "biuf" else array.astype(np.float32) for array in map(np.asarray, arrays)]
    return {f"{name}-{place}": array for place, array in enumerate(known)}


def arrays_of(found: Arrays, name: str) -> list[np.ndarray]:
    """The arrays that `numbered` named."""
    count = sum(key.startswith(f"{name}-") for key in found)
    return [found[f"{name}-{place}"] for place in range(count)]
