"""From a decoded frame to the displayed picture: RGB, upright, on black."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mafsar.video.crop import Crop
from mafsar.video.deep import Span, frame_values, to_grey
from mafsar.video.hdr import Transfer, to_sdr
from mafsar.video.side_data import display_matrix
from mafsar.video.ycgco import YCGCO, ycgco_to_rgb

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# AVColorSpace of a frame → swscale's number of the matrix (ISO/IEC 23091-2 numbers).
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7}
_OWN_SPACES = frozenset({9, 10, YCGCO})  # converted here: BT.2020 and YCgCo
_KR_2020, _KB_2020 = 0.2627, 0.0593
_BT601, _BT709 = 5, 1
_LIMITED, _FULL = 1, 2
_HD_HEIGHT = 720
AREA = 0x20
"""The flag of FFmpeg's scaler for averaging over areas."""
LARGE_PIXELS = 48_000_000
"""Frames with more pixels than this (8K has 33 million) are reduced as they become RGB."""

_TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}


@dataclass(frozen=True)
class Picture:
    """RGB pixels and the size at which they are displayed, which differs if they are not square."""

    pixels: np.ndarray
    """(H, W, 3) uint8."""
    width: int
    height: int

    @classmethod
    def of(cls, pixels: np.ndarray) -> Picture:
        """A picture with square pixels, (H, W, 3) uint8."""
        return cls(pixels, pixels.shape[1], pixels.shape[0])


def picture_of(
    frame: VideoFrame,
    *,
    aspect: float = 1.0,
    transfer: int | None = None,
    short_side: int | None = None,
    large: int = LARGE_PIXELS,
    crop: Crop | None = None,
    span: Span | None = None,
) -> Picture:
    """Converts a decoded frame to the picture that a player would show.

    Colour matrix and range are those of the frame. Where it does not state a matrix, BT.709 is used
    from 720 lines on and BT.601 below, as players do. PQ and HLG are mapped to SDR. Transparent
    parts become black.

    Args:
        frame: The decoded frame.
        aspect: Width / height of one pixel.
        transfer: AVColorTransferCharacteristic, for versions of PyAV whose frames do not have it.
        short_side: Twice the short side that is kept, in pixels. HDR pictures are first reduced to
            what is kept, as tone mapping is slow, and very large ones to this. Other pictures are
            not: it would change them for no gain.
        large: How many pixels a very large picture has more than.
        crop: What the file removes at the sides of the coded picture.
        span: The values of deep grey frames that become black and white; None = their whole scale.

    Returns:
        The picture, turned by the frame's display matrix (to the nearest quarter turn).
    """
    number = getattr(frame, "color_trc", None)
    kind = _TRANSFERS.get(number if number is not None else transfer or 0)
    deep = frame_values(frame)
    if deep is not None:
        values, full = deep
        grey = to_grey(values, span) if full is None else to_grey(values, span, full=full)
        pixels = np.repeat(grey[..., None], 3, axis=-1)
    elif kind:
        kept = None if short_side is None else short_side // 2
        pixels = to_sdr(_rgb16(frame, _reduced_size(frame, kept)), kind)
    else:
        reduced = frame.width * frame.height > large
        pixels = _rgb8(frame, _reduced_size(frame, short_side) if reduced else None)
    width, height = frame.width, frame.height
    if crop is not None:
        pixels = crop.apply(pixels, width, height)
        width, height = crop.size(width, height)
    width = max(round(width * aspect), 1)
    matrix = display_matrix(frame)
    if matrix is None:
        return Picture(pixels, width, height)
    pixels, turned = _turn(pixels, matrix)
    return Picture(pixels, height, width) if turned else Picture(pixels, width, height)


def _reduced_size(frame: VideoFrame, short_side: int | None) -> tuple[int, int]:
    """Width and height with a short side of no more than this, pixels."""
    scale = min((short_side or frame.height) / min(frame.width, frame.height), 1.0)
    return max(round(frame.width * scale), 1), max(round(frame.height * scale), 1)


def _rgb8(frame: VideoFrame, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 RGB, (H, W, 3), reduced to (width, height) if given."""
    layout = frame.format
    if layout.has_palette or any(component.is_alpha for component in layout.components):
        rgba = _rgb(frame, "rgba", size).astype(np.uint16)
        return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    if _has_chroma(frame) and frame.colorspace in _OWN_SPACES:
        return ((_rgb16(frame, size).astype(np.uint32) + 128) // 257).astype(np.uint8)
    pixels = _rgb(frame, "rgb24", size)
    if len(layout.components) == 1 and frame.color_range == _LIMITED:
        # swscale treats all grey as full range.
        return np.asarray(_LIMITED_GREY[pixels])
    return pixels


_LIMITED_GREY = np.rint(np.clip((np.arange(256) - 16) / 219, 0, 1) * 255).astype(np.uint8)


def _rgb(frame: VideoFrame, layout: str, size: tuple[int, int] | None) -> np.ndarray:
    """Converts to 8 bits with the frame's own matrix and range."""
    options = _resizing(frame, size)
    if _has_chroma(frame):
        unsaid = _BT709 if frame.height >= _HD_HEIGHT else _BT601
        matrix = _MATRICES.get(frame.colorspace, unsaid)
        full = _is_full_range(frame)
        options |= {
            "src_colorspace": matrix,
            # RGB has no matrix; PyAV before 17 sets the source's only if the two differ.
            "dst_colorspace": _BT601 if matrix == _BT709 else _BT709,
            "src_color_range": _FULL if full else _LIMITED,
            "dst_color_range": _FULL,
        }
    return np.asarray(reformat(frame, format=layout, **options).to_ndarray())


def reformat(frame: VideoFrame, **options: Any) -> VideoFrame:
    """`frame.reformat` in this thread only.

    By default swscale starts 16 threads for each frame, which outlive the call; a process forked
    meanwhile hangs when it frees them.
    """
    try:
        return frame.reformat(threads=1, **options)
    except TypeError:  # PyAV before 16 has no such argument
        return frame.reformat(**options)


def _rgb16(frame: VideoFrame, size: tuple[int, int] | None = None) -> np.ndarray:
    """16-bit R'G'B', (H, W, 3), reduced to (width, height) if given.

    BT.2020 is converted here: PyAV before 17 does not accept its matrix, and swscale's 16-bit RGB
    is 0.4 % short of full scale, which in PQ is 4 % of the light.
    """
    options = _resizing(frame, size)
    if frame.colorspace == YCGCO:
        # Any matrix that swscale knows: planes stay planes.
        options |= {"src_colorspace": _BT601, "dst_colorspace": _BT601}
    if not _has_chroma(frame):
        return np.asarray(frame.reformat(format="rgb48le", **options).to_ndarray())
    planes = frame.reformat(
        format="yuv444p16le",
        src_color_range=_FULL if _is_full_range(frame) else _LIMITED,
        dst_color_range=_LIMITED,
        **options,
    )
    luma: np.ndarray
    cb: np.ndarray
    cr: np.ndarray
    luma, cb, cr = (
        np.frombuffer(memoryview(plane), np.uint16)
        .reshape(planes.height, plane.line_size // 2)[:, : planes.width]
        .astype(np.float32)
        for plane in planes.planes
    )
    luma = (luma - 16 * 256) / (219 * 256)
    cb, cr = (cb - 128 * 256) / (224 * 256), (cr - 128 * 256) / (224 * 256)
    if frame.colorspace == YCGCO:
        return _codes16(ycgco_to_rgb(luma, cb, cr))
    red, blue = _KR_2020, _KB_2020
    rgb = np.empty((*luma.shape, 3), np.float32)
    rgb[..., 0] = luma + 2 * (1 - red) * cr
    rgb[..., 2] = luma + 2 * (1 - blue) * cb
    rgb[..., 1] = (luma - red * rgb[..., 0] - blue * rgb[..., 2]) / (1 - red - blue)
    return _codes16(rgb)


def _codes16(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(rgb, 0, 1) * 65535 + 0.5).astype(np.uint16)


def _resizing(frame: VideoFrame, size: tuple[int, int] | None) -> dict[str, Any]:
    """The options of `reformat` for a size."""
    if size is None or size == (frame.width, frame.height):
        return {}
    return {"width": size[0], "height": size[1], "interpolation": AREA}


def _has_chroma(frame: VideoFrame) -> bool:
    return not frame.format.is_rgb and len(frame.format.components) >= 3


def _is_full_range(frame: VideoFrame) -> bool:
    return frame.color_range == _FULL or frame.format.name.startswith("yuvj")


def _turn(pixels: np.ndarray, matrix: tuple[int, int, int, int]) -> tuple[np.ndarray, bool]:
    """Applies a display matrix; returns the pixels and whether width and height were swapped."""
    a, b, c, d = matrix
    swapped = a == 0
    if swapped:
        pixels = pixels.swapaxes(0, 1)
        a, d = c, b
    pixels = pixels[:: (-1 if d < 0 else 1), :: (-1 if a < 0 else 1)]
    return np.ascontiguousarray(pixels), swapped
