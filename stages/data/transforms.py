"""Shift, flip and downscale arrays of images with NumPy. Images are uint8 (N, H, W, C)."""

import numpy as np

TUNED_SIZE = 28  # pixels, the height and width of the images for which levels in pixels were chosen


def shift(images: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Shift each image by its own offset. What comes in is black or, of images in color, repeats the edge.

    Args:
        images: uint8 (N, H, W, C).
        offsets: Pixels down and pixels to the right, integers (N, 2), each smaller than the image.
    """
    size, border = images.shape[1:3], np.abs(offsets).max(initial=0)
    framed = np.pad(
        images, [(0, 0), (border, border), (border, border), (0, 0)], "edge" if images.shape[-1] == 3 else "constant"
    )
    windows = np.lib.stride_tricks.sliding_window_view(framed, size, axis=(1, 2))  # (N, down, right, C, H, W)
    down, right = (border - offsets).T
    return np.moveaxis(windows[np.arange(len(images)), down, right], 1, -1)


def flip(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Flip the images where `chosen`, bool (N,), is true left to right; the others stay as they are."""
    flipped = images.copy()
    flipped[chosen] = images[chosen, :, ::-1]
    return flipped


def counts_of_levels(images: np.ndarray) -> np.ndarray:
    """How many pixels of uint8 images, (N, ...), have each level: int (256,); in batches, which is faster."""
    return sum(np.bincount(images[at : at + 200].ravel(), minlength=256) for at in range(0, len(images), 200))


def at_most_tuned(images: np.ndarray) -> np.ndarray:
    """Images, uint8 (N, S, S, C), of at most `TUNED_SIZE` pixels, for what grows with the pixels; in batches."""
    if images.shape[1] <= TUNED_SIZE:
        return images
    return np.concatenate([downscale(images[at : at + 1000], TUNED_SIZE) for at in range(0, len(images), 1000)])


def downscale(images: np.ndarray, size: int) -> np.ndarray:
    """Downscale images to `size` x `size` pixels by area averaging: each new pixel is the mean of the area that it covers.

    Args:
        images: uint8 (N, S, S, C), S at least `size`.
        size: The new height and width, pixels.

    Returns:
        uint8 (N, size, size, C).
    """
    full = images.shape[1]
    areas = np.repeat(np.eye(full, dtype=np.float32), size, axis=0).reshape(size, full, full).mean(axis=1)
    means = areas @ np.moveaxis(images, -1, 1).astype(np.float32) @ areas.T  # (N, C, size, size)
    return np.moveaxis(np.rint(means).astype(np.uint8), 1, -1)
