"""A still picture to RGB pixels, through Pillow: a picture file, or an image in memory."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from mafsar.errors import InputError, MissingError, VideoError
from mafsar.video.source import refuse_irregular

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

MAX_PIXELS = 178_956_970
"""Pictures with more pixels are refused; 13000 × 13000 is read."""

_LARGE_PIXELS = 16_000_000
"""Pictures with more pixels are reduced by a whole factor before they leave Pillow."""

_opening = threading.Lock()

Span = tuple[float, float]
"""The lowest and highest value of a clip's deep pictures, which become black and white."""


def read_still(
    path: Path, *, page: int = 0, short_side: int | None = None, span: Span | None = None
) -> np.ndarray:
    """Reads a picture file upright, on black where it is transparent.

    Args:
        path: The file.
        page: Which image of a file that holds several.
        short_side: A large picture may be reduced, to no less than this short side in pixels.
        span: For pictures of 16 or 32 bits: the values that become black and white; None takes
            the upper 8 of 16 bits.

    Returns:
        RGB, (H, W, 3), uint8.

    Raises:
        MissingError: There is no such file.
        VideoError: It is not a picture, is truncated, too large or cannot be read.
    """
    with opened(path) as image:
        if page:
            image.seek(page)
        return _rgb(image, short_side, span)


@contextmanager
def opened(path: Path) -> Iterator[PilImage]:
    """Opens a picture file; what goes wrong with it inside is said as `read_still` says it."""
    from PIL import Image

    refuse_irregular(path)
    try:
        # Pillow warns of pictures that are large but read here. Filters belong to the process.
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: PilImage = Image.open(path)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise VideoError(f"{path}: ", *_too_large(image.size))
            yield image
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"{path}: no such file; check the path") from None
    except PermissionError as error:
        raise VideoError(
            f"{path}: cannot be read ({error.strerror}); make it readable for this user"
        ) from None
    except Image.DecompressionBombError:
        raise VideoError(f"{path}: ", *_too_large(None)) from None
    except VideoError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError) as error:
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


def image_pixels(image: PilImage, span: Span | None = None) -> np.ndarray:
    """Converts a Pillow image as `read_still` converts a file of its kind.

    Returns:
        RGB, (H, W, 3), uint8.

    Raises:
        InputError: The image is empty, or its pixels cannot be read (a truncated or closed file).
    """
    if 0 in image.size:
        raise InputError(f"is empty ({image.width}x{image.height} pixels)")
    try:
        return _rgb(image, None, span)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"cannot be read ({str(error).rstrip('.')})") from None


def is_deep(image: PilImage) -> bool:
    """Whether its grey values have more than 8 bits: depth, thermal or scientific pictures."""
    return image.mode == "F" or image.mode.startswith("I")


def deep_values(image: PilImage) -> Span | None:
    """The lowest and highest finite value of a deep picture; None where it has none."""
    if image.mode != "F":
        low, high = image.getextrema()
        return float(low), float(high)  # type: ignore[arg-type]
    values = np.asarray(image)
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else None


def span_of(values: list[Span], *, floats: bool) -> Span | None:
    """The span that a clip's deep pictures are shown with; None for the upper 8 of 16 bits.

    Pictures that use half of 16 bits or more are shown as they are: their scale is that of the file.

    Args:
        values: Lowest and highest value of each picture looked at.
        floats: The pictures are float.
    """
    if not values:
        return None
    low, high = min(low for low, _ in values), max(high for _, high in values)
    fills = not floats and low >= 0 and high <= 65535 and high - low >= 32768
    return None if high <= low or fills else (low, high)


def _rgb(image: Any, short_side: int | None, span: Span | None) -> np.ndarray:
    from PIL import ImageOps

    pixels = image.width * image.height
    if short_side is not None and pixels > _LARGE_PIXELS:
        image = _reduced(image, short_side)
    image = ImageOps.exif_transpose(image)
    if is_deep(image):
        grey = _grey(np.asarray(image), span)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
        return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    return np.asarray(image.convert("RGB"))


def _reduced(image: Any, short_side: int) -> Any:
    """The picture, averaged over squares of a whole number of pixels."""
    from PIL import Image

    factor = min(image.size) // max(short_side, 1)
    if factor < 2:
        return image
    turn = image.getexif().get(0x0112)
    if image.format == "JPEG":
        # The decoder itself reduces by 2, 4 or 8.
        image.draft(image.mode, (image.width // factor, image.height // factor))
        factor = min(image.size) // max(short_side, 1)
    if image.mode in ("P", "PA", "1") or (image.has_transparency_data and image.mode == "RGB"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode.startswith("I;"):
        # Pillow reduces no 16-bit picture; every n-th pixel is taken.
        size = (image.width // factor, image.height // factor)
        image = image.resize(size, Image.Resampling.NEAREST)
    elif factor > 1:
        image = image.reduce(factor)
    if turn is not None:
        image.getexif()[0x0112] = turn
    return image


def _grey(values: np.ndarray, span: Span | None) -> np.ndarray:
    """8-bit grey of deep values, (H, W)."""
    if span is None:
        if values.dtype.kind == "f":
            values = np.nan_to_num(values, nan=0.0)
        else:
            values = values.astype(np.int64) >> 8
        return np.asarray(values.clip(0, 255), np.uint8)
    low, high = span
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)
    return np.asarray(np.rint(scaled.clip(0, 255)), np.uint8)


def _too_large(size: tuple[int, int] | None) -> list[object]:
    limit = MAX_PIXELS // 1_000_000
    has = "more" if size is None else f"{size[0]}x{size[1]} pixels, more"
    return [f"has {has} than the {limit} million pixels that are read; reduce it first"]
