"""Options of an export and what it returns (neither torch nor onnx)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mafsar.choices import PRECISIONS, Precision, check_choice
from mafsar.errors import InputError, option

ExportEngine = Literal["onnx", "trt"]
EXPORT_ENGINES: tuple[ExportEngine, ...] = ("onnx", "trt")
_LARGEST_BATCH = 1024


@dataclass(frozen=True)
class EngineOptions:
    """Options of a TensorRT build.

    Attributes:
        batch: Batch sizes, ascending; the engine has one optimisation profile for each.
        compute_capability: GPU to build for, such as "8.6"; None = the GPU of this machine, or 8.6
            without one.
        workspace_gib: Memory that the builder may use to try kernels, GiB.
        quiet: Show no progress on a terminal.
    """

    batch: tuple[int, ...] = (1, 8, 32)
    compute_capability: str | None = None
    workspace_gib: float = 2.0
    quiet: bool = False

    def check(self) -> None:
        """Raises InputError for a value that is not allowed."""
        batch = self.batch
        if not batch or list(batch) != sorted(set(batch)) or not (
            batch[0] >= 1 and batch[-1] <= _LARGEST_BATCH
        ):  # fmt: skip
            raise InputError(
                option(batch=batch),
                f": batch sizes must rise, from 1 to {_LARGEST_BATCH}, such as 1,8,32",
            )
        if not self.workspace_gib > 0:
            raise InputError(option(workspace_gib=self.workspace_gib), ": must be over 0 GiB")
        if self.compute_capability is not None:
            parse_capability(self.compute_capability)


def parse_capability(text: str) -> int:
    """Reads a compute capability: 86 for "8.6".

    Raises:
        InputError: Another form.
    """
    if not re.fullmatch(r"[1-9]\d?\.\d", text):
        raise InputError(option(compute_capability=text), ": must look like 8.6")
    return int(text.replace(".", ""))


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        engine: What the artefacts are for: "onnx" or "trt".
        precision: "fp32", "fp16" or "int8" (ONNX Runtime on a CPU only); None = fp32 and fp16
            graphs, and fp32 engines.
        frames: Frames per clip, where the model leaves the number open; None = the model's.
        calibration: Clips that int8 ranges are taken from; None = rendered ones.
        data: Labelled clips to verify on; None = rendered ones.
        min_cosine: Smallest cosine that passes verification; None = by precision.
        verify: Compare what was made with its reference; the manifest records where it was off.
        overwrite: Make again what exists, and replace a bundle of another model.
        build: Options of a TensorRT build.
    """

    engine: ExportEngine = "onnx"
    precision: Precision | None = None
    frames: int | None = None
    calibration: Path | None = None
    data: Path | None = None
    min_cosine: float | None = None
    verify: bool = True
    overwrite: bool = False
    build: EngineOptions = field(default_factory=EngineOptions)

    def check(self) -> None:
        """Refuses values and combinations that are not allowed, before anything is loaded.

        Raises:
            InputError: Names the value and what is allowed.
        """
        check_choice("engine", self.engine, EXPORT_ENGINES)
        if self.precision is not None:
            check_choice("precision", self.precision, PRECISIONS)
        if self.precision == "int8" and self.engine != "onnx":
            raise InputError(
                option(engine=self.engine, precision="int8"),
                ": int8 is for ONNX Runtime on a CPU; use ",
                option(engine="onnx"),
                ", or ",
                option(precision="fp16"),
            )
        if self.calibration is not None and self.precision != "int8":
            raise InputError(
                option(calibration=self.calibration),
                ": only int8 is calibrated; add ",
                option(precision="int8"),
            )
        if self.min_cosine is not None and not 0 < self.min_cosine <= 1:
            raise InputError(option(min_cosine=self.min_cosine), ": must be over 0 and at most 1")
        if self.engine == "trt":
            self.build.check()
        elif replace(self.build, quiet=False) != EngineOptions():
            raise InputError(
                option("batch"),
                ", ",
                option("compute_capability"),
                " and ",
                option("workspace_gib"),
                " apply only to TensorRT engines; add ",
                option(engine="trt"),
            )


@dataclass(frozen=True)
class Artefact:
    """One thing that an export made: the graphs of a precision, or an engine.

    Attributes:
        name: As in the manifest's parity report: `onnx-fp16`, or an engine's file.
        files: Its files, relative to the bundle.
        size_bytes: Their total size.
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
        artefacts: What this export made, without what existed before.
    """

    path: Path
    model: str
    artefacts: tuple[Artefact, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """The objects of `mafsar export --json`, one per artefact."""
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
