"""The data of each epoch: the choice of images, their order and their augmentation."""

import keras
import numpy as np

from stages.data.transforms import TUNED_SIZE, downscale
from stages.models.block import Block
from stages.training import on_tensorflow
from stages.training.augmentation import augmented, cutmix

MIN_STEPS = 14  # of an epoch; as many times more, up to four, as batches are smaller than `batch_size`


def low_resolution_epochs(parameters: Block, images: np.ndarray) -> int:
    """The number of epochs, the first ones, that show downscaled images; at least the last one does not."""
    share = (
        parameters.low_resolution_fraction if images.shape[1] >= TUNED_SIZE else 0
    )  # smaller images are quick anyway
    return min(round(share * parameters.epochs), parameters.epochs - 1)


def low_resolution_size(parameters: Block, images: np.ndarray) -> int:
    """The height and width of low-resolution images, pixels: `low_resolution_size`, in proportion to the images."""
    return round(parameters.low_resolution_size * images.shape[1] / TUNED_SIZE)


def batch_size(parameters: Block, images: int) -> int:
    """The number of images per step: `batch_size`, but of few training images only about a twentieth, at least 16."""
    return min(parameters.batch_size, max(16, images // 160 * 8))


class Epochs(keras.utils.PyDataset):
    """The batches of each epoch, for `model.fit`, with hard-example mining and progressive resizing.

    Hard-example mining: an epoch shows the share `epoch_fraction` of the images. Of these, the share
    `hard_example_fraction` are the images that had the highest loss when they were last shown; images that were never shown
    come first. The rest are drawn at random. Early in training, most images are already classified correctly, and showing
    them again gains little. Source: Jordan, "94 % on CIFAR-10 in 3.29 seconds" (2024), section on 96 %, who takes the
    losses from a small network; here they are the network's own from earlier epochs, at no cost.

    Few images: an epoch has at least `MIN_STEPS` batches, so that it may show each image several times.

    Progressive resizing: the first epochs, a share `low_resolution_fraction` of all, show images downscaled to
    `low_resolution_size`, which takes less arithmetic. Source: Howard, in fast.ai's entry to DAWNBench (2018).

    Everything random depends on the seed and the number of the epoch alone.

    Args:
        images: uint8 (N, H, W, C).
        targets: float32 (N, classes), rows sum to 1: one-hot labels, or mixed with soft targets.
        parameters: The model's block.
        seed: Of the order and the augmentation.
        weights: Of the loss of each class, (classes,); None: all count the same.

    Attributes:
        steps, batch_size: Batches of an epoch, and images of a batch.
        mines_examples: Whether an epoch shows a part of the images only, and chooses it by their losses.
        losses: float32 (N,), nats: the loss of each image when it was last shown unmixed; infinite if it never was.
        order: The indices of the images of this epoch, in the order shown.
        mixed: bool, one value per image of this epoch: whether CutMix put a part of another image into it.
    """

    def __init__(self, images: np.ndarray, targets: np.ndarray, parameters: Block, seed: int, weights=None):
        super().__init__()
        self.images, self.targets, self.parameters, self.seed, self.weights = images, targets, parameters, seed, weights
        self.batch_size = batch_size(parameters, len(images))
        least = MIN_STEPS * min(4, parameters.batch_size // self.batch_size)
        self.steps = max(least, int(len(images) * parameters.epoch_fraction) // self.batch_size)
        chooses = parameters.epoch_fraction < 1 and self.steps * self.batch_size < len(images)
        self.mines_examples = chooses and parameters.hard_example_fraction > 0
        self.losses = np.full(len(images), np.inf, np.float32)
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Make the batches of epoch `epoch`, counted from 0."""
        parameters = self.parameters
        shown = self.steps * self.batch_size
        rng = np.random.default_rng([self.seed, epoch])
        order = np.concatenate([rng.permutation(len(self.images)) for _ in range(-(-shown // len(self.images)))])
        if parameters.epoch_fraction < 1 and shown < len(order):
            by_loss = order[np.argsort(-self.losses[order], kind="stable")]
            hard = round(parameters.hard_example_fraction * shown)
            order = rng.permutation(np.concatenate([by_loss[:hard], rng.permutation(by_loss[hard:])[: shown - hard]]))
        self.order = order[:shown]
        self.shown = augmented(
            self.images,
            self.order,
            self.seed,
            epoch,
            random_shift=round(parameters.random_shift * self.images.shape[1] / TUNED_SIZE),
            random_flip=parameters.random_flip,
            erasing=parameters.random_erasing,
        )
        self.mixed = rng.random(shown) < parameters.cutmix
        self.shown, self.shown_targets = cutmix(self.shown, self.targets[self.order], self.mixed, rng)
        if epoch < low_resolution_epochs(parameters, self.images):
            self.shown = downscale(self.shown, low_resolution_size(parameters, self.images))

    def __len__(self) -> int:
        """Batches per epoch. The incomplete last batch is left out; these are other images in each epoch."""
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Images, uint8 (batch_size, H, W, C), targets, float32 (batch_size, classes), and weights, if there are any."""
        batch = slice(index * self.batch_size, (index + 1) * self.batch_size)
        shown = self.shown[batch], self.shown_targets[batch]
        return shown if self.weights is None else (*shown, (shown[1] @ self.weights).astype(np.float32))


class RemembersLosses(keras.Model):
    """`model`, which in training keeps the loss of each image of the epoch, in the order shown.

    Args:
        devices: The number of devices that share each batch, in parts of the same size, one after another.

    Attributes:
        seen: Losses, nats, float32 (steps of an epoch, replicas, images of a batch per replica).
    """

    def __init__(self, model: keras.Model, data: Epochs, devices: int = 1):
        super().__init__(model.input, model.output, name=model.name)
        self.replicas = devices
        shape = (len(data), devices, data.batch_size // devices)
        kept = {"initializer": "zeros", "trainable": False}
        self.seen = self.add_weight(shape=shape, aggregation="sum", name="seen", **kept)
        self.step = self.add_weight(shape=(), dtype="int32", aggregation="only_first_replica", name="step", **kept)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if training:
            losses = keras.losses.categorical_crossentropy(y, keras.ops.cast(y_pred, "float32"), from_logits=True)
            replica = keras.ops.convert_to_tensor(on_tensorflow.this_replica(), "int32")
            place = keras.ops.stack([self.step.value, replica])[None]
            own = keras.ops.one_hot(replica, self.replicas)[:, None]
            self.seen.assign(keras.ops.scatter_update(self.seen, place, losses[None]) * own)  # summed over replicas
            self.step.assign((self.step + 1) % self.seen.shape[0])
        return super().compute_loss(x, y, y_pred, sample_weight, training)


class NextEpoch(keras.callbacks.Callback):
    """Stores the epoch's losses by image, and makes the batches of the next epoch."""

    def __init__(self, data: Epochs):
        super().__init__()
        self.data = data

    def on_epoch_end(self, epoch, logs=None):
        if isinstance(self.model, RemembersLosses):
            seen = keras.ops.convert_to_numpy(self.model.seen).ravel()
            whole = ~self.data.mixed  # the loss of a mixed image is the loss of neither image
            self.data.losses[self.data.order[whole]] = seen[whole]
        if epoch + 1 < self.data.parameters.epochs:
            self.data.begin(epoch + 1)
