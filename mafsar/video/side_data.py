"""What a decoded frame carries besides its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """Returns how a frame is to be turned and mirrored, to the nearest quarter turn.

    Returns:
        The signs of (a, b, c, d) in (p, q) → (a·p + c·q, b·p + d·q); None for upright pictures.
    """
    # By name: what iterating over it gives differs between versions of PyAV.
    data = _side_data(frame).get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        signs = (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
    else:
        signs = (0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)
    return None if signs == (1, 0, 0, 1) else signs


def _side_data(frame: VideoFrame) -> Any:
    """All side data. PyAV refuses a frame that has a kind it has no name for (EXIF, spatial video).

    `frame.side_data` is not asked: the frame would keep what it gives, and that the frame, so that only
    the garbage collector would free its pixels, 12 MB of each frame in 4K.
    """
    from av.sidedata import sidedata

    container: Any = sidedata.SideDataContainer  # annotated without its argument
    try:
        return container(frame)
    except ValueError:
        sidedata.Type._missing_ = classmethod(_unnamed)  # type: ignore[method-assign, assignment]
        return container(frame)


def _unnamed(cls: Any, value: int) -> Any:
    """A kind of side data that PyAV does not know, named by its number; nothing here reads it."""
    kind = object.__new__(cls)
    kind._name_, kind._value_ = f"KIND_{value}", value
    return kind
