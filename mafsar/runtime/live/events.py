"""What watching gives: events, and the state of sources; fields are named as in the JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Literal

SCHEMA = 1
State = Literal["open", "lost", "back", "dark", "frozen", "ended", "reloaded", "refused"]


@dataclass(frozen=True)
class Event:
    """The start or the end of an action.

    Attributes:
        event: "start", as soon as the action is accepted, or "end".
        id: The same for the start and the end of an action, and for no other.
        source: Name of the source.
        region: Name of the region; None where none was named.
        track: Reserved: None in this version.
        label: The class.
        score: Its share among the classes, 0–1: the largest of the windows so far.
        p_none: Probability that it is none of the classes, the smallest so far; None without
            calibration.
        t_start: When the action started, seconds of the source's clock. The end may say it better
            than the start.
        t_end: When it ended; None in a start.
        time: When this was decided, ISO 8601, UTC.
    """

    event: Literal["start", "end"]
    id: str
    source: str
    region: str | None
    track: None
    label: str
    score: float
    p_none: float | None
    t_start: float
    t_end: float | None
    time: str

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `mafsar watch` prints."""
        return {"schema": SCHEMA} | _rounded(asdict(self))


@dataclass(frozen=True)
class Status:
    """The state of a source, on change and at every heartbeat.

    Attributes:
        event: "status".
        source: Name of the source; None where it is about all of them.
        state: "open", "lost", "back", "dark" or "frozen"; "ended" for one that is over; "reloaded" or
            "refused" for a bank or model that was read again.
        fps: Frames a second that come in; None where unknown.
        dropped: Windows that were left out because the encoder was late, so far.
        delay_seconds: From the end of a window to its answer, the mean since the last status; None
            without a window.
        message: A sentence, or None.
        time: When this was said, ISO 8601, UTC.
    """

    event: Literal["status"]
    source: str | None
    state: State
    fps: float | None
    dropped: int
    delay_seconds: float | None
    message: str | None
    time: str

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `mafsar watch` prints."""
        return {"schema": SCHEMA} | _rounded(asdict(self))


def now() -> str:
    """The time of the computer, ISO 8601, UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Seconds and shares to a thousandth or finer."""
    digits = {"score": 4, "p_none": 4, "t_start": 3, "t_end": 3, "fps": 2, "delay_seconds": 3}
    return {
        name: round(value, digits[name]) if name in digits and value is not None else value
        for name, value in values.items()
    }
