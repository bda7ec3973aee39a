"""What an export is asked for, and what it made (neither torch nor onnx)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mafsar.errors import InputError
from mafsar.export.engines.add import EngineWish

FORMATS = ("onnx", "trt")


@dataclass(frozen=True)
class ExportOptions:
    """What an export is asked for.

    Attributes:
        engine: "onnx" or "trt".
        precision: "fp32", "fp16" or, for ONNX Runtime on a CPU, "int8"; None = the fp32 and fp16
            graphs, and an fp32 engine.
        frames: Frames of a clip, where the model leaves it open; None = the model's.
        calibration: The user's clips that int8 ranges are taken from; None = rendered ones.
        data: The user's labelled clips to verify on; None = rendered ones.
        min_cosine: Smallest cosine that passes; None = by precision.
        verify: Off: the manifest says so.
        overwrite: Make again what is there and named.
        engines: What only engines need.
    """

    engine: str = "onnx"
    precision: str | None = None
    frames: int | None = None
    calibration: Path | None = None
    data: Path | None = None
    min_cosine: float | None = None
    verify: bool = True
    overwrite: bool = False
    engines: EngineWish = field(default_factory=EngineWish)

    def check(self) -> None:
        """Refuses what cannot be, before anything is loaded.

        Raises:
            InputError: Says which and what to do.
        """
        if self.engine not in FORMATS:
            raise InputError(f"engine must be one of {', '.join(FORMATS)}, got {self.engine!r}")
        if self.precision not in (None, "fp32", "fp16", "int8"):
            raise InputError(f"precision must be fp32, fp16 or int8, got {self.precision!r}")
        if self.precision == "int8" and self.engine != "onnx":
            raise InputError(
                f"--engine {self.engine} --precision int8: int8 is for ONNX Runtime on a CPU; use "
                "--engine onnx, or --precision fp16"
            )
        if self.calibration is not None and self.precision != "int8":
            raise InputError(
                f"--calib {self.calibration}: only int8 is calibrated; add --precision int8"
            )
        if self.min_cosine is not None and not 0 < self.min_cosine <= 1:
            raise InputError(f"--min-cosine must be over 0 and at most 1, got {self.min_cosine:g}")
        if self.engine == "trt":
            self.engines.check()
        elif replace(self.engines, quiet=False) != EngineWish():
            raise InputError(
                "--batch, --compute-capability and --workspace are of an engine; add --engine trt"
            )


@dataclass(frozen=True)
class Artefact:
    """One thing that an export made.

    Attributes:
        name: As in the manifest's parity report: `onnx-fp16`, or an engine's file.
        files: Its files, relative to the bundle.
        size_bytes: Together.
        verification: Its entry of the parity report.
    """

    name: str
    files: tuple[str, ...]
    size_bytes: int
    verification: dict[str, Any]


@dataclass(frozen=True)
class ExportResult:
    """What an export made.

    Attributes:
        path: The bundle.
        model: Its model's name.
        artefacts: What was made now; what was there before is not among them.
    """

    path: Path
    model: str
    artefacts: tuple[Artefact, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """The objects of `mafsar export --json`, one an artefact."""
        return [
            {
                "schema": 1,
                "bundle": str(self.path),
                "model": self.model,
                "artefact": item.name,
                "files": list(item.files),
                "size_bytes": item.size_bytes,
                "verification": item.verification,
            }
            for item in self.artefacts
        ]
