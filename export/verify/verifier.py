"""Verifies the artefacts of one export against its reference (no torch unless it is a network)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mafsar.export.bundle_draft import BundleDraft
from mafsar.export.graphs.sessions import OnnxRunner
from mafsar.export.verify.clips import RENDERED_CLIPS, ClipSet, rendered_clips, user_clips
from mafsar.export.verify.compare import (
    BranchOutputs,
    Report,
    Runner,
    compare_outputs,
    encode_clips,
)
from mafsar.export.verify.probe import write_probe
from mafsar.model.names import graph_file
from mafsar.runtime.encoder import Float32
from mafsar.runtime.engines.bundle import tokenizer_of
from mafsar.runtime.engines.probe import LIMITS
from mafsar.runtime.engines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from mafsar.model.network import MafsarNetwork

_SCANNED_CLIPS = 8  # for overflow: every value of the graph is read


@dataclass(frozen=True, eq=False)
class Reference:
    """What the reference computed on one set of clips.

    Attributes:
        clips: The clips.
        text: Raw text embeddings of their classes, (C, E); None for a model without text.
        outputs: By `branch/output`; `text/embedding` is `text`.
        seconds_per_clip: On this machine, all visual branches together.
    """

    clips: ClipSet
    text: Float32 | None
    outputs: BranchOutputs
    seconds_per_clip: float


class Verifier:
    """Compares artefacts with the reference; each set of clips goes through the reference once.

    Args:
        draft: The bundle that is being made.
        network: The reference; None takes the draft's own fp32 graphs.
        data: The user's labelled clips; None = rendered ones.
        min_cosine: Smallest cosine that passes; None = by precision.
        say: Called with a line when a step begins.
        rendered: How many rendered clips, at least those of the probe.

    Attributes:
        draft: As given.
    """

    def __init__(
        self,
        draft: BundleDraft,
        network: MafsarNetwork | None,
        *,
        data: Path | None,
        min_cosine: float | None,
        say: Callable[[str], None],
        rendered: int = RENDERED_CLIPS,
    ) -> None:
        self.draft = draft
        self._data, self._min_cosine, self._say = data, min_cosine, say
        self._rendered = rendered
        self._runner: Runner
        if network is None:
            self._runner, self._against = OnnxRunner(draft.folder, "fp32"), "its fp32 graphs"
        else:
            from mafsar.export.graphs.network_bundle import TorchRunner

            self._runner, self._against = TorchRunner(network), "torch fp32"
        self._references: dict[Path | None, Reference] = {}

    def verify_graphs(self, precision: str) -> Report:
        """Verifies the graphs of a precision.

        Raises:
            MismatchError: They are too far from the reference.
        """
        name = f"onnx {precision}"
        report = self.measure(OnnxRunner(self.draft.folder, precision), precision, name)
        if precision == "fp16":
            report = replace(report, largest_half=self._largest_half())
        report.check(name)
        return report

    def measure(self, runner: Runner, precision: str, name: str) -> Report:
        """Compares an artefact with the reference; `Report.check` says whether it passes.

        Args:
            runner: Runs the artefact.
            precision: Of the artefact; decides the limit where none was given.
            name: What a user calls it, such as `onnx fp16`.
        """
        reference = self.reference()
        clips, text, wanted = reference.clips, reference.text, reference.outputs
        self._say(f"verifying {name} on {len(clips)} clips ({clips.source})")
        found, seconds = encode_clips(runner, clips, self.draft.spec, text)
        if "text/embedding" in wanted:
            if precision == "fp32":
                found["text/embedding"] = self._embed(runner, clips)
            else:  # the text tower has one precision
                wanted = {k: v for k, v in wanted.items() if k != "text/embedding"}
        return compare_outputs(
            wanted,
            found,
            clips,
            self.draft.spec,
            text=text,
            min_cosine=self._min_cosine or LIMITS[precision],
            against=self._against,
            seconds=(reference.seconds_per_clip, seconds),
        )

    def reference(self) -> Reference:
        """The reference on the clips to verify on."""
        return self._reference_on(self._data)

    def embed(self, clips: ClipSet) -> Float32:
        """Raw embeddings of the clips' classes by the reference's text tower, (C, E)."""
        return self._embed(self._runner, clips)

    def write_probe(self) -> None:
        """Writes the draft's probe from the rendered clips."""
        found = self._reference_on(None)
        write_probe(self.draft.folder, found.clips, found.outputs, found.text, self._against)

    def _largest_half(self) -> tuple[str, float]:
        from mafsar.export.verify.overflow import largest_half

        reference = self.reference()
        first = slice(0, _SCANNED_CLIPS)
        inputs: dict[str, Any] = {"frames": reference.clips.frames[first]}
        runs: dict[str, dict[str, Any]] = {"query": inputs}
        if self.draft.spec.text_in_support and reference.text is not None:
            runs["support"] = inputs | {"text": reference.text[reference.clips.class_index[first]]}
        found = []
        for branch, run in runs.items():
            path = self.draft.folder / graph_file(branch, "fp16")
            name, largest = largest_half(path, [run])
            found.append((f"{branch} {name}", largest))
        return max(found, key=lambda item: item[1])

    def _reference_on(self, data: Path | None) -> Reference:
        if data not in self._references:
            spec = self.draft.spec
            if data is None:
                clips = rendered_clips(spec, self._rendered)
            else:
                clips = user_clips(data, spec)
            self._say(f"running the reference ({self._against}) on {len(clips)} clips")
            text = self.embed(clips) if spec.text else None
            # One by one: another batch than the graphs', and torch's fastest on a CPU.
            outputs, seconds = encode_clips(self._runner, clips, spec, text, batch=1)
            if text is not None:
                outputs["text/embedding"] = text
            self._references[data] = Reference(clips, text, outputs, seconds)
        return self._references[data]

    def _embed(self, runner: Runner, clips: ClipSet) -> Float32:
        """Raw embeddings of the classes' texts, the mean over the prompts, (C, E)."""
        tokenizer = tokenizer_of(self.draft.folder, self.draft.manifest)
        assert tokenizer is not None
        encode = Tokenizer(tokenizer).encode
        rows = []
        for text in clips.texts:
            tokens = encode([prompt.replace("{}", text) for prompt in self.draft.spec.prompts])
            rows.append(runner("text", {"tokens": tokens})["embedding"].mean(axis=0))
        return np.stack(rows).astype(np.float32)
