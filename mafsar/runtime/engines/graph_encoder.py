"""What encoders that run a bundle's graphs share: checks on both sides, and runs of some clips."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from mafsar.runtime.encoder import (
    Features,
    Float32,
    Frames,
    ModelSpec,
    checked_features,
    checked_frames,
    checked_text,
)
from mafsar.runtime.engines.bundle import Bundle

MAX_BATCH = 32  # clips per run; longer calls are split


class GraphEncoder(ABC):
    """A bundle's query and support graphs; an engine adds `_run`.

    Args:
        bundle: An opened bundle.
        precision: "fp32", "fp16" or "int8".
        max_batch: Clips per run; longer calls are split. None = the engine splits them itself.
    """

    graph_word: ClassVar[str] = "graph"
    """What messages call that which ran."""

    def __init__(self, bundle: Bundle, precision: str, max_batch: int | None = MAX_BATCH) -> None:
        self.bundle = bundle
        self.spec: ModelSpec = bundle.spec
        self.precision = precision
        self._max_batch = max_batch

    @functools.cached_property
    def files_sha256(self) -> str:
        """Hash of the graphs and weights that it runs."""
        return self.bundle.files_sha256(self.precision)

    def encode_query(self, frames: Frames) -> Features:
        """Encodes clips (B, T, S, S, 3), uint8 RGB, without class text."""
        return self._encode("query", checked_frames(self.spec, frames), None)

    def encode_support(self, frames: Frames, text: Float32 | None) -> Features:
        """Encodes support clips with their class's raw text embedding (B, E); None = as queries."""
        frames = checked_frames(self.spec, frames)
        if text is None:
            return self._encode("query", frames, None)
        return self._encode("support", frames, checked_text(self.spec, text, len(frames)))

    def _encode(self, branch: str, frames: Frames, text: Float32 | None) -> Features:
        parts = []
        step = self._max_batch or len(frames)
        for start in range(0, len(frames), step):
            chunk = slice(start, start + step)
            inputs: dict[str, Any] = {"frames": frames[chunk]}
            if text is not None:
                inputs["text"] = text[chunk]
            parts.append(self._run(branch, inputs))
        joined = parts[0] if len(parts) == 1 else Features.concatenate(parts)
        said = f"{self.bundle.path}: the {branch} {self.graph_word} in {self.precision}"
        return checked_features(self.spec, joined, len(frames), said=said)

    @abstractmethod
    def _run(self, branch: str, inputs: dict[str, Any]) -> Features:
        """Runs a branch on clips `frames` (n, T, S, S, 3), with `text` (n, E) on the support's."""
