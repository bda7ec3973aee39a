"""One line of `mafsar doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        status: "ok", "warn" (works without it) or "fail".
        detail: What was found.
        mend: The command that mends it, or None.
    """

    name: str
    status: Status
    detail: str
    mend: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The object of `mafsar doctor --json`."""
        return {"schema": 1} | asdict(self)
