"""What the user said about the picture: ``--rotate``, ``--hflip``, ``--roi`` and ``--fit``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

from mafsar.errors import InputError

Fit = Literal["crop", "pad"]
Turn = Literal[0, 90, 180, 270]
Roi = tuple[float, float, float, float]

_FITS = ("crop", "pad")
_TURNS = (0, 90, 180, 270)


@dataclass(frozen=True)
class Geometry:
    """Which part of the displayed picture a model sees, applied in the order rotate, hflip, roi,
    fit. The displayed picture is upright (rotation metadata is obeyed) and has square pixels.
    """

    fit: Fit = "crop"
    """``crop``: short side to the model's size, centre crop. ``pad``: long side, black bars."""
    roi: Roi | None = None
    """X, Y, width, height: pixels of the turned picture, or fractions of it if all are ≤ 1."""
    rotate: Turn = 0
    """Degrees clockwise, on top of the file's own rotation."""
    hflip: bool = False
    """Mirror left and right, after the rotation."""

    def __post_init__(self) -> None:
        if self.fit not in _FITS:
            raise InputError(f"--fit {self.fit}: must be crop or pad")
        if self.rotate not in _TURNS:
            raise InputError(f"--rotate {self.rotate}: must be 0, 90, 180 or 270 (clockwise)")
        if self.roi is not None:
            _check_roi(self.roi)

    @classmethod
    def parse(
        cls,
        *,
        fit: str = "crop",
        roi: str | None = None,
        rotate: int | str = 0,
        hflip: bool = False,
    ) -> Geometry:
        """Reads the values as they were typed.

        Raises:
            InputError: With the flag, its value and what is allowed.
        """
        try:
            turn = int(rotate)
        except ValueError:
            raise InputError(f"--rotate {rotate}: must be 0, 90, 180 or 270 (clockwise)") from None
        return cls(
            fit=cast(Fit, fit),
            roi=None if roi is None else parse_roi(roi),
            rotate=cast(Turn, turn),
            hflip=hflip,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the four values under their own names."""
        roi = None if self.roi is None else list(self.roi)
        return {"fit": self.fit, "roi": roi, "rotate": self.rotate, "hflip": self.hflip}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Geometry:
        """Reads what `to_json` wrote; a name that is left out has its default.

        Raises:
            InputError: If there is an unknown name or a value that is not allowed.
        """
        unknown = sorted(set(values) - {"fit", "roi", "rotate", "hflip"})
        if unknown:
            raise InputError(f"geometry: unknown name {unknown[0]}; known: fit, roi, rotate, hflip")
        given = dict(values)
        if given.get("roi") is not None:
            given["roi"] = tuple(float(value) for value in given["roi"])
        return cls(**given)

    def roi_box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Returns the region of interest in whole pixels: left, top, right, bottom.

        Args:
            width: Of the displayed picture after rotate and hflip.
            height: The same.

        Raises:
            InputError: If the region reaches outside the picture; names the picture's size.
        """
        if self.roi is None:
            return 0, 0, width, height
        x, y, w, h = self.roi
        if max(self.roi) <= 1:
            x, y, w, h = x * width, y * height, w * width, h * height
        left, top = round(x), round(y)
        # At least one pixel: a fraction of a small picture may round to nothing.
        right, bottom = max(round(x + w), left + 1), max(round(y + h), top + 1)
        if right > width or bottom > height:
            raise InputError(
                f"--roi {_text(self.roi)}: reaches to {right},{bottom}, outside the picture of "
                f"{width}x{height} pixels; give X,Y,W,H inside it"
            )
        return left, top, right, bottom


def parse_roi(text: str) -> Roi:
    """Reads ``X,Y,W,H``.

    Raises:
        InputError: With the value and what is wrong with it.
    """
    parts = text.split(",")
    try:
        values = tuple(float(part) for part in parts)
    except ValueError:
        raise InputError(f"--roi {text}: not four numbers; {_GIVE}") from None
    if len(values) != 4:
        raise InputError(f"--roi {text}: {len(values)} numbers instead of four; {_GIVE}")
    _check_roi(values)
    return values


_GIVE = "give X,Y,W,H (pixels, or 0-1)"


def _text(roi: Roi) -> str:
    return ",".join(f"{value:g}" for value in roi)


def _check_roi(roi: Roi) -> None:
    if not all(math.isfinite(value) for value in roi):
        raise InputError(f"--roi {_text(roi)}: every number must be finite; {_GIVE}")
    for name, value in zip(("X", "Y"), roi[:2], strict=True):
        if value < 0:
            raise InputError(f"--roi {_text(roi)}: {name} must be ≥ 0; {_GIVE}")
    for name, value in zip(("width", "height"), roi[2:], strict=True):
        if value <= 0:
            raise InputError(f"--roi {_text(roi)}: {name} must be > 0; {_GIVE}")
    x, y, w, h = roi
    if max(roi) <= 1 and (x + w > 1 + 1e-9 or y + h > 1 + 1e-9):
        raise InputError(
            f"--roi {_text(roi)}: reaches outside the picture (X+W and Y+H must be ≤ 1 where all "
            f"four are fractions); {_GIVE}"
        )
