"""What an export is held to: its reference on one set of clips, and the artefacts against it.

torch is loaded only where the reference is a network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mafsar.export.bundle_draft import BundleDraft
from mafsar.export.engines.add import BuiltEngine
from mafsar.export.verify.clips import ClipSet, rendered_clips, user_clips
from mafsar.export.verify.compare import (
    LIMITS,
    OnnxRunner,
    Outputs,
    Report,
    Runner,
    encode_set,
    judge,
)
from mafsar.export.verify.probe import write_probe
from mafsar.model.names import graph_file
from mafsar.runtime.encoder import Float32
from mafsar.runtime.engines.bundle import spec_of, tokenizer_of
from mafsar.runtime.engines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from mafsar.model.network import MafsarNetwork

_SCANNED_CLIPS = 8  # for overflow: every value of the graph is looked at


class Judgement:
    """The reference of one export and what it made of the clips, computed when first asked for.

    Args:
        draft: The bundle that is being made.
        network: The reference; None takes the draft's own fp32 graphs.
        data: The user's labelled clips; None = rendered ones.
        min_cosine: Smallest cosine that passes; None = by precision.
        say: Called with a line when a step begins.
    """

    def __init__(
        self,
        draft: BundleDraft,
        network: MafsarNetwork | None,
        *,
        data: Path | None,
        min_cosine: float | None,
        say: Callable[[str], None],
    ) -> None:
        self.spec = spec_of(draft.folder, draft.manifest)
        self._draft, self._data, self._min_cosine, self._say = draft, data, min_cosine, say
        self._reference: Runner
        if network is None:
            self._reference, self._against = OnnxRunner(draft.folder, "fp32"), "its fp32 graphs"
        else:
            from mafsar.export.graphs.network_bundle import TorchRunner

            self._reference, self._against = TorchRunner(network), "torch fp32"
        self._known: dict[str, tuple[ClipSet, Float32 | None, Outputs, float]] = {}

    def graphs(self, precision: str) -> Report:
        """Verifies the graphs of a precision.

        Raises:
            MismatchError: They are too far from the reference.
        """
        runner = OnnxRunner(self._draft.folder, precision)
        report = self._judge(precision, runner, f"onnx {precision}")
        if precision == "fp16":
            report = replace(report, largest_half=self._largest_half())
        report.check(f"onnx {precision}")
        return report

    def engines(self, built: Sequence[BuiltEngine]) -> Report:
        """Verifies engines of one precision on the GPU here, every batch size of them.

        Raises:
            MismatchError: They are too far from the reference.
        """
        from mafsar.export.engines.check import EngineRunner, check_buckets

        precision = str(built[0].entry["precision"])
        runner = EngineRunner(self._draft.folder, built)
        try:
            report = self._judge(precision, runner, f"trt {precision}")
            report.check(f"trt {precision}")
            clips, text, wanted, _ = self._on(self._data)
            check_buckets(runner, built, clips, text, wanted, report.min_cosine)
        finally:
            runner.close()
        return report

    def embed(self, clips: ClipSet) -> Float32:
        """Raw embeddings of the clips' classes by the reference's text tower, (C, E)."""
        return self._embed(self._reference, clips)

    def probe(self) -> None:
        """Writes the probe from the rendered clips."""
        clips, text, outputs, _ = self._on(None)
        write_probe(self._draft.folder, clips, outputs, text, self._against)

    def _judge(self, precision: str, runner: Runner, what: str) -> Report:
        clips, text, wanted, seconds = self._on(self._data)
        self._say(f"verifying {what} on {len(clips)} clips ({clips.source})")
        found, own_seconds = encode_set(runner, clips, self.spec, text)
        if "text/embedding" in wanted:
            if precision == "fp32":
                found["text/embedding"] = self._embed(runner, clips)
            else:
                wanted = {k: v for k, v in wanted.items() if k != "text/embedding"}
        limit = self._min_cosine or LIMITS[precision]
        return judge(
            wanted,
            found,
            clips,
            self.spec,
            text=text,
            min_cosine=limit,
            against=self._against,
            seconds=(seconds, own_seconds),
        )

    def _largest_half(self) -> tuple[str, float]:
        from mafsar.export.verify.overflow import largest_half

        clips, text, _, _ = self._on(self._data)
        first = slice(0, _SCANNED_CLIPS)
        inputs: dict[str, Any] = {"frames": clips.frames[first]}
        runs: dict[str, dict[str, Any]] = {"query": inputs}
        if self.spec.text_in_support and text is not None:
            runs["support"] = inputs | {"text": text[clips.owners[first]]}
        found = []
        for branch, run in runs.items():
            path = self._draft.folder / graph_file(branch, "fp16")
            name, largest = largest_half(path, [run])
            found.append((f"{branch} {name}", largest))
        return max(found, key=lambda item: item[1])

    def _on(self, data: Path | None) -> tuple[ClipSet, Float32 | None, Outputs, float]:
        """The clips, their classes' texts and the reference's outputs."""
        key = str(data)
        if key not in self._known:
            clips = rendered_clips(self.spec) if data is None else user_clips(data, self.spec)
            self._say(f"running the reference ({self._against}) on {len(clips)} clips")
            text = None
            if self.spec.text:
                text = self.embed(clips)
            outputs, seconds = encode_set(self._reference, clips, self.spec, text)
            if text is not None:
                outputs["text/embedding"] = text
            self._known[key] = (clips, text, outputs, seconds)
        return self._known[key]

    def _embed(self, runner: Runner, clips: ClipSet) -> Float32:
        """Raw embeddings of the classes' texts, the mean over the prompts, (C, E)."""
        tokenizer = tokenizer_of(self._draft.folder, self._draft.manifest)
        assert tokenizer is not None
        encode = Tokenizer(tokenizer).encode
        rows = []
        for text in clips.texts:
            tokens = encode([prompt.replace("{}", text) for prompt in self.spec.prompts])
            rows.append(runner("text", {"tokens": tokens})["embedding"].mean(axis=0))
        return np.stack(rows).astype(np.float32)
