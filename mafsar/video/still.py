"""A still picture to RGB pixels, through Pillow: a picture file, or an image in memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from mafsar.errors import InputError, MissingError, VideoError
from mafsar.video.source import refuse_irregular

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage


def read_still(path: Path) -> np.ndarray:
    """Reads a picture file upright, on black where it is transparent.

    Returns:
        RGB, (H, W, 3), uint8.

    Raises:
        MissingError: There is no such file.
        VideoError: It is not a picture, is truncated or cannot be read.
    """
    from PIL import Image

    refuse_irregular(path)
    try:
        with Image.open(path) as opened:
            return _rgb(opened)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"{path}: no such file; check the path") from None
    except PermissionError as error:
        raise VideoError(
            f"{path}: cannot be read ({error.strerror}); make it readable for this user"
        ) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow repeats the file's name in some messages.
        reason = str(error).replace(f" {str(path)!r}", "").rstrip(".")
        raise VideoError(
            f"{path}: is not a picture that can be read ({reason}); copy it or create it again"
        ) from None


def is_pil_image(value: object) -> TypeGuard[PilImage]:
    """Returns whether this is a Pillow image; does not import Pillow."""
    # An image can exist only where its class has been imported.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def image_pixels(image: PilImage) -> np.ndarray:
    """Converts a Pillow image as `read_still` converts a file of its kind.

    Returns:
        RGB, (H, W, 3), uint8.

    Raises:
        InputError: The image is empty, or its pixels cannot be read (a truncated or closed file).
    """
    if 0 in image.size:
        raise InputError(f"is empty ({image.width}x{image.height} pixels)")
    try:
        return _rgb(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"cannot be read ({str(error).rstrip('.')})") from None


def _rgb(image: Any) -> np.ndarray:
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip
        grey = (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
        return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    return np.asarray(image.convert("RGB"))
