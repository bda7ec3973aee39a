"""One line of `mafsar doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        status: "ok", "warn" (it works, but slower or with less) or "fail".
        detail: What was found.
        fix: The command that fixes it, or None.
        detailed: Whether only those who want every detail want to see it.
    """

    name: str
    status: Status
    detail: str
    fix: str | None = None
    detailed: bool = False

    def to_json(self) -> dict[str, Any]:
        """The object of `mafsar doctor --json`."""
        # Scripts read "mend", the name that the field has had from the start.
        return {
            "schema": 1,
            "name": self.name,
            "status": self.status,
            "detail": self.detail,
            "mend": self.fix,
        }
