"""A still picture to RGB pixels, through Pillow: a picture file, or an image in memory."""

from __future__ import annotations

import gc
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from mafsar.errors import InputError, MissingError, VideoError
from mafsar.video.deep import FULL, Span, to_grey, value_span
from mafsar.video.source import refuse_irregular

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

MAX_PIXELS = 178_956_970
"""Pictures with more pixels are refused; 13000 × 13000 is read."""

_LARGE_PIXELS = 16_000_000
"""Pictures with more pixels are reduced by a whole factor before they leave Pillow."""

_opening = threading.Lock()


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
        return _rgb(image, short_side, span, path)


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
    """The lowest and highest value of a deep picture; None where it has none."""
    if image.mode != "F":
        low, high = image.getextrema()
        if high != FULL:
            return float(low), float(high)  # type: ignore[arg-type]
    return value_span(np.asarray(image))


def _rgb(
    image: Any, short_side: int | None, span: Span | None, path: Path | None = None
) -> np.ndarray:
    from PIL import ImageOps

    pixels = image.width * image.height
    if short_side is not None and pixels > _LARGE_PIXELS:
        image = _reduced(image, short_side, path)
    image = ImageOps.exif_transpose(image)
    if is_deep(image):
        grey = to_grey(np.asarray(image), span)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
        return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    return np.asarray(image.convert("RGB"))


def _reduced(image: Any, short_side: int, path: Path | None) -> Any:
    """The picture, averaged over squares of a whole number of pixels."""
    from PIL import Image

    factor = min(image.size) // max(short_side, 1)
    if factor < 2:
        return image
    if path is not None and _is_plain_png(image, path):
        return _reduced_by_ffmpeg(image, factor, path)
    turn = image.getexif().get(0x0112)
    if image.format == "JPEG":
        # The decoder itself reduces by 2, 4 or 8.
        image.draft(image.mode, (image.width // factor, image.height // factor))
        factor = max(min(image.size) // max(short_side, 1), 1)
    if image.mode in ("P", "PA", "1", "LA", "RGBA") or (
        image.has_transparency_data and image.mode == "RGB"
    ):
        image = _reduced_in_strips(image, factor)
    elif image.mode.startswith("I;"):
        # Pillow reduces no 16-bit picture; every n-th pixel is taken.
        size = (image.width // factor, image.height // factor)
        image = image.resize(size, Image.Resampling.NEAREST)
    elif factor > 1:
        image = image.reduce(factor)
    if turn is not None:
        image.getexif()[0x0112] = turn
    return image


def _reduced_in_strips(image: Any, factor: int) -> Any:
    """Reduces a picture of which a whole copy would be made first, of four bytes a pixel."""
    from PIL import Image

    mode = "RGBA" if image.has_transparency_data else "RGB"
    size = (-(-image.width // factor), -(-image.height // factor))
    result = Image.new(mode, size)
    rows = max(_STRIP_PIXELS // (image.width * factor), 1) * factor
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = image.crop((0, top, image.width, bottom)).convert(mode)
        result.paste(strip.reduce(factor), (0, top // factor))
    return result


def _is_plain_png(image: Any, path: Path) -> bool:
    """Whether a PNG, not decoded yet, has three bytes a pixel, of which Pillow makes four.

    One that is to be turned is not: what says so may stand at its end.
    """
    tile = image.tile[0] if image.format == "PNG" and image.mode == "RGB" and image.tile else None
    if tile is None or tile[3] != "RGB" or image.has_transparency_data or "exif" in image.info:
        return False
    with path.open("rb") as file:
        file.seek(-min(_PNG_TAIL, path.stat().st_size), 2)
        return b"eXIf" not in file.read()


def _reduced_by_ffmpeg(image: Any, factor: int, path: Path) -> Any:
    """The same by FFmpeg; by Pillow where that cannot."""
    from PIL import Image

    from mafsar.video.container import quiet_av
    from mafsar.video.picture import AREA, reformat

    av = quiet_av()
    size = (-(-image.width // factor), -(-image.height // factor))
    try:
        with av.open(f"file:{path}", format="png_pipe") as container:
            context = container.streams.video[0].codec_context
            context.thread_count, context.options = 1, {"err_detect": "explode"}
            frame = next(container.decode(video=0))
            pixels = reformat(
                frame, format="rgb24", width=size[0], height=size[1], interpolation=AREA
            ).to_ndarray()
    except (av.error.FFmpegError, StopIteration):
        return image.reduce(factor)
    del frame, context, container
    # PyAV's containers and streams hold each other, and with them the decoder's frames.
    gc.collect()
    return Image.fromarray(pixels)


_STRIP_PIXELS = 1 << 20
_PNG_TAIL = 1 << 16


def _too_large(size: tuple[int, int] | None) -> list[object]:
    limit = MAX_PIXELS // 1_000_000
    has = "more" if size is None else f"{size[0]}x{size[1]} pixels, more"
    return [f"has {has} than the {limit} million pixels that are read; reduce it first"]
