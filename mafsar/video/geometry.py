"""How the displayed picture is turned, mirrored, cut and fitted before a model sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from mafsar.choices import is_finite
from mafsar.errors import InputError, option

Fit = Literal["crop", "pad"]
Turn = Literal[0, 90, 180, 270]
Roi = tuple[float, float, float, float]

_FITS = ("crop", "pad")
_TURNS = (0, 90, 180, 270)
_ROI_HINT = "give X,Y,W,H in pixels, or as fractions 0–1"
_TURN_HINT = "must be 0, 90, 180 or 270 degrees clockwise"


@dataclass(frozen=True)
class Geometry:
    """Which part of the displayed picture a model sees, applied in the order rotate, hflip, roi,
    fit. The displayed picture is upright (rotation metadata is applied) and has square pixels.

    Raises:
        InputError: A value is not allowed; the message names the argument and the value.
    """

    fit: Fit = "crop"
    """``crop``: short side to the model's size, centre crop. ``pad``: long side, black bars."""
    roi: Roi | None = None
    """X, Y, width, height, after rotate and hflip: pixels, or fractions if all four are ≤ 1."""
    rotate: Turn = 0
    """Degrees clockwise, on top of the file's own rotation."""
    hflip: bool = False
    """Mirrors left and right, after the rotation."""

    def __post_init__(self) -> None:
        if self.fit not in _FITS:
            raise InputError(option(fit=self.fit), ": must be crop or pad")
        if self.rotate not in _TURNS:
            raise InputError(option(rotate=self.rotate), f": {_TURN_HINT}")
        if not isinstance(self.hflip, bool):
            raise InputError(option("hflip"), f": must be True or False, got {self.hflip!r}")
        if self.roi is not None:
            # One form for equal regions: these values are part of cache keys.
            object.__setattr__(self, "roi", _checked_roi(self.roi))

    @classmethod
    def parse(
        cls,
        *,
        fit: str = "crop",
        roi: str | None = None,
        rotate: int | str = 0,
        hflip: bool = False,
    ) -> Geometry:
        """Reads the values as text, with ``roi`` as ``X,Y,W,H``.

        Raises:
            InputError: The message names the argument, its value and what is allowed.
        """
        try:
            turn = int(rotate)
        except ValueError:
            raise InputError(option(rotate=rotate), f": {_TURN_HINT}") from None
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
        """Reads what `to_json` wrote; a missing name takes its default.

        Raises:
            InputError: An unknown name, or a value that is not allowed.
        """
        unknown = sorted(set(values) - {"fit", "roi", "rotate", "hflip"})
        if unknown:
            raise InputError(f"geometry: unknown name {unknown[0]}; known: fit, roi, rotate, hflip")
        return cls(**values)

    def roi_box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Returns the region of interest in whole pixels: left, top, right, bottom.

        Args:
            width: Of the displayed picture after rotate and hflip, pixels.
            height: Of the same picture, pixels.

        Raises:
            InputError: The region reaches outside the picture; names the picture's size.
        """
        if self.roi is None:
            return 0, 0, width, height
        x, y, w, h = self.roi
        if max(self.roi) <= 1:
            x, y, w, h = x * width, y * height, w * width, h * height
        left, top = round(x), round(y)
        # At least one pixel: a fraction of a small picture may round to 0.
        right, bottom = max(round(x + w), left + 1), max(round(y + h), top + 1)
        if right > width or bottom > height:
            raise InputError(
                option(roi=self.roi),
                f": reaches to {right},{bottom}, outside the picture of {width}x{height} pixels; "
                "choose a region inside it",
            )
        return left, top, right, bottom


def parse_roi(text: str) -> Roi:
    """Reads ``X,Y,W,H``.

    Raises:
        InputError: With the text and what is wrong with it.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(option(roi=text), f": not four numbers; {_ROI_HINT}") from None
    return _checked_roi(values)


def _checked_roi(roi: Any) -> Roi:
    """Returns the region as four floats, or raises what is wrong with it."""
    try:
        values = tuple(float(value) for value in roi)
    except (TypeError, ValueError):
        raise InputError(
            option("roi"), f": must be four numbers, got {roi!r}; {_ROI_HINT}"
        ) from None
    named = option(roi=values)
    if len(values) != 4:
        raise InputError(named, f": {len(values)} numbers instead of four; {_ROI_HINT}")
    if not all(is_finite(value) for value in values):
        raise InputError(named, f": every number must be finite; {_ROI_HINT}")
    x, y, w, h = values
    for name, value in (("X", x), ("Y", y)):
        if value < 0:
            raise InputError(named, f": {name} must be ≥ 0; {_ROI_HINT}")
    for name, value in (("width", w), ("height", h)):
        if value <= 0:
            raise InputError(named, f": {name} must be > 0; {_ROI_HINT}")
    if max(values) <= 1 and (x + w > 1 + 1e-9 or y + h > 1 + 1e-9):
        raise InputError(
            named,
            ": reaches outside the picture (X+W and Y+H must be ≤ 1 where all four numbers are "
            f"fractions); {_ROI_HINT}",
        )
    return x, y, w, h
