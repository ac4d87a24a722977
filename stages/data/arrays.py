"""Read images that are stored as arrays: IDX files, as of MNIST, and .npz files, as of Keras and MedMNIST."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from stages.base.errors import InputError
from stages.base.files import DAMAGED
from stages.data.idx import read_idx
from stages.data.image_file import without_transparency
from stages.data.resize import fitted
from stages.data.source import SPLITS, Source, some
from stages.parameters.dataset import Dataset

IDX_IMAGES = re.compile(r"(.*?)(train|test|t10k)-images[-.]idx3-ubyte(\.gz)?")
NPZ_KEYS = ("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("images", "labels")
CHANNELS = (1, 3, 4)  # grey, RGB, RGB with transparency
DARK = 64  # where the brightest pixel is below it, 255 is not white
BATCH = 10000  # images that are converted at a time

Parts = dict[str, tuple[np.ndarray, np.ndarray]]  # images and labels by split


def read_idx_files(files: list[Path]) -> Parts:
    """The arrays of images files and of the labels files beside them. EMNIST's are turned: their columns come first."""
    sets = {IDX_IMAGES.fullmatch(file.name)[1] for file in files}
    names = {file: file.name.replace("images", "labels").replace("idx3", "idx1") for file in files}
    if missing := [name for file, name in names.items() if not file.with_name(name).exists()]:
        raise InputError(f"{files[0].parent} has no {', '.join(missing)}, which must lie beside the images.")
    if len(sets) > 1:
        raise InputError(
            f"{files[0].parent} holds several sets of IDX files, {some(sorted(sets))}: move one elsewhere."
        )
    parts = {}
    for file in sorted(files, key=lambda file: "train" not in file.name):
        images = read_idx(file, 3)
        turned = images.swapaxes(1, 2) if file.name.startswith("emnist") else images
        parts[SPLITS[IDX_IMAGES.fullmatch(file.name)[2]]] = turned, read_idx(file.with_name(names[file]), 1)
    return parts


def read_npz(path: Path) -> tuple[Parts, list[str]]:
    """The arrays of an .npz file with the keys of `keras.datasets` or of MedMNIST, and the names of those not read.

    Raises `InputError` if it has no such keys.
    """
    try:
        with np.load(path) as arrays:
            for keys in NPZ_KEYS:
                words = SPLITS if "{}" in keys[0] else {"": "train"}
                pairs: dict[str, list[str]] = {}
                for word, split in words.items():
                    if all(key.format(word) in arrays for key in keys):
                        pairs.setdefault(split, [key.format(word) for key in keys])
                if "train" in pairs:
                    unread = sorted(set(arrays.files) - {key for pair in pairs.values() for key in pair})
                    return {split: (arrays[pair[0]], arrays[pair[1]]) for split, pair in pairs.items()}, unread
            names = some(arrays.files)
    except DAMAGED as error:
        advice = " Labels that are text must be stored as labels.astype(str)." if "Object arrays" in str(error) else ""
        raise InputError(f"{path} cannot be read as an .npz file: {str(error).rstrip('.')}.{advice}") from None
    raise InputError(f"{path} holds {names}, but x_train and y_train are needed, or train_images and train_labels.")


def from_arrays(parts: Parts, dataset: Dataset) -> Source:
    """The source of arrays: images (N, H, W), (N, H, W, C) or (N, C, H, W), and labels (N,) or (N, 1), of each split.

    Raises:
        InputError: The arrays have another shape, or hold something else.
    """
    source = Source()
    if dataset.groups:
        raise InputError("dataset.groups needs files with names: for arrays it must be null.")
    parts = {split: arrays for split, arrays in parts.items() if split == "train" or any(map(len, arrays))}
    labels = [one_per_image(*arrays, split) for split, arrays in parts.items()]
    arrays = [with_channels_last(images, source) for images, _ in parts.values()]
    whites = {white_of(images, source) for images in arrays}
    if len(whites) > 1:
        raise InputError(
            f"train and test count differently: white is {' and '.join(f'{white:g}' for white in whites)}."
        )
    white = whites.pop()
    size, channels = dataset.size, 3 if dataset.colors == "rgb" else 1
    source.images = np.empty((sum(map(len, arrays)), size, size, channels), np.uint8)
    start = 0
    for images in arrays:
        source.sizes[images.shape[1:3]] += len(images)
        for batch in np.split(images, range(BATCH, len(images), BATCH)):
            levels = (batch if white == 255 else np.rint(batch * (255 / white))).astype(np.uint8)
            if levels.shape[1:] != source.images.shape[1:]:
                levels = [fitted(as_photo(image), size, channels) for image in levels]
            source.images[start : start + len(batch)] = levels
            start += len(batch)
    source.labels = np.concatenate(labels)
    source.splits = np.repeat(list(parts), list(map(len, labels)))
    source.names = np.char.add(
        np.char.add(source.splits, " image "), np.concatenate([*map(np.arange, map(len, labels))]).astype(str)
    )
    return source


def one_per_image(images: np.ndarray, labels: np.ndarray, split: str) -> np.ndarray:
    """The labels, integers or text (N,). Raises `InputError` if they are not one class per image."""
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or len(flat) != len(images):
        raise InputError(
            f"there are {len(images)} {split} images, and {split} labels of the shape {labels.shape}: one label per "
            "image is needed, (N,); for one-hot labels, store labels.argmax(axis=1)."
        )
    if flat.dtype.kind == "f" and not (flat % 1 == 0).all():
        raise InputError(f"the {split} labels hold {flat[flat % 1 != 0][0]}, but must be whole numbers or names.")
    return flat.astype(int) if flat.dtype.kind in "buif" else flat.astype(str)


def with_channels_last(images: np.ndarray, source: Source) -> np.ndarray:
    """Images as (N, H, W, C), C 1, 3 or 4. Raises `InputError` if they have another shape."""
    given = images.shape
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and given[-1] not in CHANNELS and given[1] in CHANNELS:
        images = np.moveaxis(images, 1, -1)
        source.notes.append(f"images of the shape {given} have their channels first: these were put last")
    if images.ndim != 4 or images.shape[-1] not in CHANNELS or not images.size:
        raise InputError(f"the images have the shape {given}, but (N, H, W) or (N, H, W, 3) is needed: reshape them.")
    return images


def white_of(images: np.ndarray, source: Source) -> float:
    """The value that is white: 255, 65535 or, where all values are low, 1 or the highest of them.

    Raises `InputError` if the values are no levels of brightness.
    """
    if images.dtype.kind not in "buif":
        raise InputError(f"the images hold {images.dtype}, but must hold numbers from 0 to 255.")
    low, high = images.min(), images.max()
    if not (low >= 0 and 0 < high <= 65535):  # also if there is a NaN
        raise InputError(
            f"the images hold {low:g} to {high:g}, but must hold 0 to 255, or 0 to 1: undo their normalization."
        )
    white = float(1 if high <= 1 else high if high < DARK else 255 if high <= 255 else 65535)
    if white != 255:
        source.notes.append(f"the images hold {low:g} to {high:g}: {white:g} was taken for white")
    return white


def as_photo(image: np.ndarray) -> np.ndarray:
    """An image, uint8 (H, W, C), C 1, 3 or 4, as uint8 (H, W, 3), without transparency."""
    if image.shape[-1] == 4:
        return without_transparency(Image.fromarray(image))
    return image.repeat(4 - image.shape[-1], axis=-1)
