"""A picture file to pixels, through Pillow: one frame of a folder, or a clip of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mafsar.errors import MissingError, VideoError


def read_still(path: Path) -> np.ndarray:
    """Reads a picture upright, on black where it is transparent.

    Returns:
        RGB, (H, W, 3), uint8.

    Raises:
        MissingError: If there is no such file.
        VideoError: If it is no picture, is truncated or cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip
                grey = (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=-1)
            if image.has_transparency_data:
                rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
                return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
            return np.asarray(image.convert("RGB"))
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"{path}: no such file; check the path") from None
    except PermissionError as error:
        raise VideoError(
            f"{path}: cannot be read ({error.strerror}); make it readable for this user"
        ) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow names the file once more in some messages.
        reason = str(error).replace(f" {str(path)!r}", "").rstrip(".")
        raise VideoError(
            f"{path}: is no picture that can be read ({reason}); copy or make it again"
        ) from None
