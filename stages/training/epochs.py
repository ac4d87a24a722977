"""What each epoch shows: which pictures, in which order, changed how."""

import keras
import numpy as np

from stages.errors import InputError
from stages.parameters import ModelParameters
from stages.training.augmentation import augmented, cutmix, shrunk


def small_epochs(parameters: ModelParameters) -> int:
    """How many epochs, the first ones, show the pictures shrunk; at least the last one does not."""
    return min(round(parameters.small_epochs * parameters.epochs), parameters.epochs - 1)


class Epochs(keras.utils.PyDataset):
    """The batches of one epoch after another, for `model.fit`; the losses on pictures decide which are shown again.

    An epoch shows the share `epoch_size` of the pictures. Of these, the share `hardest` are those with the highest loss
    when they were last shown, and pictures that were never shown come before all; the rest are drawn at random. Early in
    training most pictures are already classified with ease, and what they still teach is not worth their time. Source:
    selection of the hardest as in Jordan, "94 % on CIFAR-10 in 3.29 seconds" (2024), section on 96 %, who takes the
    losses from a small network; here they are the network's own from earlier epochs, and cost nothing.

    The first epochs, a share `small_epochs` of all, show the pictures shrunk to `small_size`: what a network learns first
    is still to be seen there, for a part of the arithmetic. Source: Howard's progressive resizing, in fast.ai's entry
    to DAWNBench (2018).

    All that is random is a function of the seed and the number of the epoch.

    Args:
        images: uint8 (N, H, W, C).
        targets: float32 (N, 10), rows sum to 1: the labels, one-hot, or what teachers make of them.
        parameters: Of these, epochs, batch_size, epoch_size, hardest, small_epochs, small_size, shift, flip, erase, cutmix.
        seed: Of order and changes.

    Attributes:
        losses: float32 (N,): infinite for a picture that was never shown whole.
        order: The indices of the pictures of this epoch, as they are shown.
        mixed: bool, one a picture of this epoch: whether a part of another stands in it.
    """

    def __init__(self, images: np.ndarray, targets: np.ndarray, parameters: ModelParameters, seed: int):
        super().__init__()
        self.images, self.targets, self.parameters, self.seed = images, targets, parameters, seed
        if not len(self):
            raise InputError(
                f"batch_size is {parameters.batch_size}, but an epoch shows only "
                f"{int(len(images) * parameters.epoch_size)} training images: set a smaller batch_size in params.yaml."
            )
        self.losses = np.full(len(images), np.inf, np.float32)
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Make the batches of epoch `epoch`, counted from 0."""
        parameters = self.parameters
        shown = len(self) * parameters.batch_size
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.images))
        if parameters.epoch_size < 1:
            by_loss = order[np.argsort(-self.losses[order], kind="stable")]
            hard = round(parameters.hardest * shown)
            order = rng.permutation(np.concatenate([by_loss[:hard], rng.permutation(by_loss[hard:])[: shown - hard]]))
        self.order = order[:shown]
        changes = {"max_shift": parameters.shift, "flips": parameters.flip, "erased": parameters.erase}
        self.shown = augmented(self.images, self.order, self.seed, epoch, **changes)
        self.mixed = rng.random(shown) < parameters.cutmix
        self.shown, self.shown_targets = cutmix(self.shown, self.targets[self.order], self.mixed, rng)
        if epoch < small_epochs(parameters):
            self.shown = shrunk(self.shown, parameters.small_size)

    def __len__(self) -> int:
        """Batches an epoch. An incomplete last one is left out: a different few pictures every time."""
        return int(len(self.images) * self.parameters.epoch_size) // self.parameters.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pictures, uint8 (batch_size, H, W, C), and targets, float32 (batch_size, 10)."""
        batch = slice(index * self.parameters.batch_size, (index + 1) * self.parameters.batch_size)
        return self.shown[batch], self.shown_targets[batch]


def for_tensorflow(data: keras.utils.PyDataset | list[tuple[np.ndarray, ...]]):
    """Batches, tuples of arrays, as a `tf.data.Dataset` that hands them over as they come.

    Keras would make one of `data` itself, but with the tuning of its buffers, which holds up every start: no loss in hours
    of training, a part of the time where an epoch, and a validation after each, take a few seconds.
    """
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in data[0]]
    batches = tf.data.Dataset.from_generator(
        lambda: map(data.__getitem__, range(len(data))), output_signature=(*signature,)
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return batches.apply(tf.data.experimental.assert_cardinality(len(data))).with_options(options)


class RemembersLosses(keras.Model):
    """`model`, which while it is fitted keeps the loss of each picture of the epoch, in the order shown.

    Args:
        devices: That share each batch, in parts of the same size, one after another.

    Attributes:
        seen: Losses, nats, float32 (steps of an epoch, replicas, pictures of a batch that one replica takes).
    """

    def __init__(self, model: keras.Model, data: Epochs, devices: int = 1):
        super().__init__(model.input, model.output, name=model.name)
        self.replicas = devices if keras.backend.backend() == "tensorflow" else 1  # JAX shows each step the whole batch
        shape = (len(data), self.replicas, data.parameters.batch_size // self.replicas)
        kept = {"initializer": "zeros", "trainable": False}
        self.seen = self.add_weight(shape=shape, aggregation="sum", name="seen", **kept)
        self.step = self.add_weight(shape=(), dtype="int32", aggregation="only_first_replica", name="step", **kept)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if training:
            losses = keras.losses.categorical_crossentropy(y, y_pred, from_logits=True)
            replica = keras.ops.convert_to_tensor(this_replica(), "int32")
            place = keras.ops.stack([self.step.value, replica])[None]
            own = keras.ops.one_hot(replica, self.replicas)[:, None]
            self.seen.assign(keras.ops.scatter_update(self.seen, place, losses[None]) * own)  # the sum of all replicas'
            self.step.assign((self.step + 1) % self.seen.shape[0])
        return super().compute_loss(x, y, y_pred, sample_weight, training)


def this_replica():
    """Which of the devices that share a step this is, from 0; under JAX one step is all of theirs."""
    if keras.backend.backend() != "tensorflow":
        return 0
    import tensorflow as tf

    return tf.distribute.get_replica_context().replica_id_in_sync_group


class NextEpoch(keras.callbacks.Callback):
    """Hands the epoch's losses to the pictures, and makes the batches of the epoch that follows."""

    def __init__(self, data: Epochs):
        super().__init__()
        self.data = data

    def on_epoch_end(self, epoch, logs=None):
        if isinstance(self.model, RemembersLosses):
            seen = keras.ops.convert_to_numpy(self.model.seen).ravel()
            whole = ~self.data.mixed  # the loss of a mixture tells of none of its pictures
            self.data.losses[self.data.order[whole]] = seen[whole]
        if epoch + 1 < self.data.parameters.epochs:
            self.data.begin(epoch + 1)
