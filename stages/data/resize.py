"""Scale an image to the size that the models take, whatever its shape. Only NumPy and Pillow are needed."""

import numpy as np
from PIL import Image

GREY = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601, as in Pillow's mode L


def fitted(photo: np.ndarray, size: int, channels: int) -> np.ndarray:
    """An image as an input of the models: the whole of it, centered on the median color of its border.

    Its longer edge becomes `size` pixels, by area averaging where it gets smaller and cubic interpolation where it gets
    larger. An image of `size` x `size` pixels stays as it is.

    Args:
        photo: uint8 (H, W, 3).
        size: Height and width of the result, pixels.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 (size, size, channels).
    """
    if photo.shape[:2] != (size, size):
        photo = center(scale(photo, size), border_of(photo[None]).ravel(), size)
    return photo if channels == 3 else np.rint(grey(photo)).astype(np.uint8)[..., None]


def border_of(images: np.ndarray) -> np.ndarray:
    """The median color of each image's border, float32 (N, 1, 1, C); from (N, H, W, C)."""
    lines = images[:, [0, -1]], images[:, 1:-1, [0, -1]]
    border = np.concatenate([line.reshape(len(images), -1, images.shape[-1]) for line in lines], axis=1)
    return np.median(border, axis=1).astype(np.float32)[:, None, None]


def scale(photo: np.ndarray, size: int) -> np.ndarray:
    """The photo, uint8 (h, w, 3), in proportion, with a longer edge of `size` pixels: see `fitted`."""
    height, width = photo.shape[:2]
    factor = size / max(height, width)
    shape = max(1, round(width * factor)), max(1, round(height * factor))
    filtered = Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(photo).resize(shape, filtered))


def center(photo: np.ndarray, color: np.ndarray, size: int) -> np.ndarray:
    """The photo, uint8 (h, w, 3), h and w at most `size`, in the middle of `size` x `size` pixels of one color."""
    height, width = photo.shape[:2]
    top, left = (size - height) // 2, (size - width) // 2
    canvas = np.broadcast_to(np.rint(color).astype(np.uint8), (size, size, 3)).copy()
    canvas[top : top + height, left : left + width] = photo
    return canvas


def grey(photo: np.ndarray) -> np.ndarray:
    """The grey levels of a photo, uint8 (H, W, 3): float64 (H, W), 0 to 255."""
    return photo @ GREY
