"""From the displayed picture to the square that a model sees: rotate, flip, region, resize, crop.

This is CLIP's own test transform: a bicubic (antialiased, Pillow's) resize of the short side to S,
then the centre S×S. Only pixels that end up in the square are resized.
"""

from __future__ import annotations

import numpy as np

from mafsar.video.geometry import Geometry
from mafsar.video.picture import Picture

REDUCING_GAP = 2.0
"""Large pictures are first reduced by whole factors to at least this many times the final size."""


def arrange(picture: Picture, geometry: Geometry) -> Picture:
    """Applies rotate, hflip and roi of a geometry, without resizing.

    Raises:
        InputError: The region reaches outside the picture.
    """
    pixels, width, height = picture.pixels, picture.width, picture.height
    if geometry.rotate:
        pixels = np.rot90(pixels, k=-geometry.rotate // 90)  # rot90 turns anticlockwise
        if geometry.rotate in (90, 270):
            width, height = height, width
    if geometry.hflip:
        pixels = pixels[:, ::-1]
    if geometry.roi is not None:
        left, top, right, bottom = geometry.roi_box(width, height)
        x, y = pixels.shape[1] / width, pixels.shape[0] / height
        rows = slice(int(top * y), max(round(bottom * y), int(top * y) + 1))
        columns = slice(int(left * x), max(round(right * x), int(left * x) + 1))
        pixels, width, height = pixels[rows, columns], right - left, bottom - top
    return Picture(np.ascontiguousarray(pixels), width, height)


def to_square(picture: Picture, size: int, geometry: Geometry) -> np.ndarray:
    """Applies a geometry and fits the picture into a square.

    Args:
        picture: The displayed picture.
        size: S, the model's side in pixels.
        geometry: Fit ``crop``: short side to S, centre crop. ``pad``: long side to S, black bars.

    Returns:
        (S, S, 3) uint8.

    Raises:
        InputError: The region of interest reaches outside the picture.
    """
    picture = arrange(picture, geometry)
    if geometry.fit == "pad":
        return _pad(picture, size)
    return _crop(picture, size)


def resize(picture: Picture, width: int, height: int) -> np.ndarray:
    """Resizes the whole picture: (height, width, 3) uint8, bicubic."""
    return _resample(picture, width, height, (0, 0, width, height))


def fitted(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Fits a picture into a size, with black bars where its shape is another, (H, W, 3) uint8."""
    if pixels.shape[:2] == (height, width):
        return pixels
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    inner_width = max(round(pixels.shape[1] * scale), 1)
    inner_height = max(round(pixels.shape[0] * scale), 1)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = resize(
        Picture.of(pixels), inner_width, inner_height
    )
    return canvas


def short_side_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Returns (width, height) with the short side at ``size``, rounded down as torchvision does."""
    if width <= height:
        return size, max(int(size * height / width), size)
    return max(int(size * width / height), size), size


def _crop(picture: Picture, size: int) -> np.ndarray:
    width, height = short_side_size(picture.width, picture.height, size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return _resample(picture, width, height, (left, top, left + size, top + size))


def _pad(picture: Picture, size: int) -> np.ndarray:
    scale = size / max(picture.width, picture.height)
    width = min(max(round(picture.width * scale), 1), size)
    height = min(max(round(picture.height * scale), 1), size)
    square = np.zeros((size, size, 3), dtype=np.uint8)
    left, top = (size - width) // 2, (size - height) // 2
    square[top : top + height, left : left + width] = resize(picture, width, height)
    return square


def _resample(
    picture: Picture, width: int, height: int, box: tuple[int, int, int, int]
) -> np.ndarray:
    """Resizes the picture to (width, height) and returns the part in ``box`` of the result."""
    from PIL import Image

    pixels = picture.pixels
    left, top, right, bottom = box
    x, y = pixels.shape[1] / width, pixels.shape[0] / height
    if (x, y) == (1, 1):
        return np.ascontiguousarray(pixels[top:bottom, left:right])
    image = Image.fromarray(pixels)
    resized = image.resize(
        (right - left, bottom - top),
        resample=Image.Resampling.BICUBIC,
        box=(left * x, top * y, right * x, bottom * y),
        reducing_gap=REDUCING_GAP,
    )
    return np.asarray(resized)
