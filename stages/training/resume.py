"""The state of a training in a checkpoint: what has to be kept so that it goes on as if it had not been interrupted."""

import json
from importlib.metadata import version

import keras
import numpy as np

from stages.common import progress
from stages.common.checkpoint import Arrays, Checkpoint, open_checkpoint
from stages.common.environment import machine
from stages.trained.precision import gpu_capabilities
from stages.training.callbacks import EpochClock, KeepHistory
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
        self.found = checkpoint.get(name) if checkpoint else None
        self.epoch = int(self.found["epoch"]) if self.found else 0
        if self.found:
            progress.resumed = True
            self.records = json.loads(str(self.found["records"]))
            history.rows = self.records["history"]
            clock.seconds, clock.training_seconds, clock.ends = self.records["clock"]
            data.losses = self.found["losses"]
            data.begin(min(self.epoch, data.parameters.epochs - 1))
            ended = self.epoch == data.parameters.epochs
            how = "has ended already" if ended else f"goes on after epoch {self.epoch} of {data.parameters.epochs}"
            print(f"{name} {how}, according to the checkpoint {checkpoint.path}", flush=True)

    def on_epoch_begin(self, epoch, logs=None):
        if self.found:
            for place, variable in enumerate(variables_of(self.network, self.optimizer)):
                variable.assign(self.found[f"variable-{place}"])
            vars(self.stopping).update(self.records["stopping"])
            self.stopping.best_weights = arrays_of(self.found, "best") or None
            self.found = None
        elif self.checkpoint and epoch and self.checkpoint.is_due():
            variables = [keras.ops.convert_to_numpy(one) for one in variables_of(self.network, self.optimizer)]
            best = getattr(self.stopping, "best_weights", None) or []
            self.checkpoint.put(self.name, self.state(epoch) | numbered("variable", variables) | numbered("best", best))

    def finish(self, model: keras.Model) -> None:
        """Keep the weights of the trained model; or load them, if the training had ended before it was interrupted."""
        if self.found:
            model.set_weights(arrays_of(self.found, "trained"))
        elif self.checkpoint:
            ended = self.state(self.data.parameters.epochs)
            self.checkpoint.put(self.name, ended | numbered("trained", model.get_weights()))

    def state(self, epoch: int) -> Arrays:
        """What has to be kept besides variables. JSON keeps every digit of a float."""
        records = {
            "history": self.history.rows,
            "clock": [self.clock.seconds, self.clock.training_seconds, self.clock.ends],
            "stopping": {name: getattr(self.stopping, name, None) for name in STOPPING},
        }
        return {
            "epoch": np.array(epoch),
            "records": np.array(json.dumps(records, default=float)),
            "losses": self.data.losses.copy(),
        }


def checkpoint_of(name: str) -> Checkpoint | None:
    """The checkpoint of a stage, such as `train@cnn-0`, on this machine with these packages: see `open_checkpoint`."""
    found = {"backend": keras.backend.backend(), "devices": keras.distribution.list_devices(), **machine()}
    found |= {"gpu_capabilities": gpu_capabilities(), **found.pop("versions")}
    if found["backend"] == "jax":
        found |= {name: version(name) for name in ("jax", "jaxlib")}
    return open_checkpoint(name, {key: str(value) for key, value in found.items()})


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
