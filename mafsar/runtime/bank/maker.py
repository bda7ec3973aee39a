"""What made a bank's features: the files that ran, and what they make of a fixed probe clip.

Two engines or precisions of one model give features that differ by rounding. Whether they are of
one model is not a matter of what their manifests say: the probe is encoded by both and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mafsar.errors import MismatchError, option
from mafsar.runtime.cache.features import FeatureCache, probe_key
from mafsar.runtime.encoder import Encoder, Float32, Frames, ModelSpec, files_sha256
from mafsar.runtime.engines.parity import Parity, compare
from mafsar.runtime.engines.probe import LIMITS

PROBE_PREFIX = "probe_"  # of the probe's tensors in a bank's file
_WORD = "wave"  # the probe's class text


@dataclass(frozen=True, eq=False)
class Maker:
    """The files that made a bank's features, and their features of the probe clip.

    Attributes:
        files_sha256: Hash of the graph and weight files that ran.
        precision: "fp32", "fp16" or "int8".
        probe: Features of the probe clip by branch: `query` (1, T, E), `pooled` (1, E), and of a
            model with text `text` (1, E) and `support` (1, T, E).
    """

    files_sha256: str
    precision: str
    probe: Mapping[str, Float32]
    _passed: dict[tuple[str, str], Parity] = field(default_factory=dict, repr=False)

    def check(self, encoder: Encoder, bank: str) -> None:
        """Refuses an encoder whose files do not compute what those that made the bank do.

        The very same files pass at once. Others, of another engine or precision, must agree on the
        probe within the wider limit of the two precisions; that is computed once.

        Args:
            encoder: The encoder at hand, of the same `weights_sha256`.
            bank: What messages call the bank.

        Raises:
            MismatchError: The features of the probe differ.
        """
        files = files_sha256(encoder)
        if files is None or (files, encoder.precision) == (self.files_sha256, self.precision):
            return
        key = (files, encoder.precision)
        if key not in self._passed:
            with_text = "text" in self.probe
            self._passed[key] = self._compare(_encode_probe(encoder, with_text=with_text))
        parity, limit = self._passed[key], self.limit(encoder.precision)
        if not parity.min_cosine >= limit:
            raise MismatchError(
                f"{bank}: {encoder.spec.shown} ({encoder.engine}, {encoder.precision}) has the "
                "weights' hash of the model that made it, but computes other features "
                f"({parity}, at least {limit} wanted); enroll the clips again with ",
                option(model=encoder.spec.path or encoder.spec.name),
                ", or match without it",
            )

    def agrees(self, other: Maker) -> bool:
        """Whether another bank's features are of the same model, by the probes that both keep."""
        if (self.files_sha256, self.precision) == (other.files_sha256, other.precision):
            return True
        return self._compare(other.probe).min_cosine >= self.limit(other.precision)

    def limit(self, precision: str) -> float:
        """Least cosine of the probe's features in this maker's precision and another one."""
        return min(LIMITS[self.precision], LIMITS[precision])

    def _compare(self, found: Mapping[str, Float32]) -> Parity:
        worst = Parity()
        for name in sorted(self.probe.keys() & found.keys()):
            if self.probe[name].shape != found[name].shape:
                return Parity(float("inf"), -1.0)
            worst = worst.worse(compare(self.probe[name], found[name]))
        return worst


def make_maker(
    encoder: Encoder, *, with_text: bool, cache: FeatureCache | None = None
) -> Maker | None:
    """What a bank keeps of the encoder that makes it; None for an encoder that runs no files.

    Args:
        encoder: The encoder.
        with_text: Whether the bank has class texts.
        cache: Where the probe's features are kept, or None.
    """
    files = files_sha256(encoder)
    if files is None:
        return None
    key = probe_key(
        encoder.spec, precision=encoder.precision, files_sha256=files, with_text=with_text
    )
    probe = None if cache is None else cache.get(key)
    if probe is None:
        probe = _encode_probe(encoder, with_text=with_text)
        if cache is not None:
            cache.put(key, probe)
    return Maker(files, encoder.precision, probe)


def probe_frames(spec: ModelSpec) -> Frames:
    """The probe clip, (1, T, S, S, 3): a bright square that crosses a ramp of colours.

    Whole numbers only, so that every machine makes the same bytes.
    """
    size = spec.image_size
    y, x = np.mgrid[:size, :size]
    ramp = np.stack([x, y, (x + y) // 2], axis=-1) * 200 // max(size - 1, 1)  # (S, S, 3)
    clip = np.repeat(ramp[None].astype(np.uint8), spec.frames, axis=0)
    side = max(size // 3, 1)
    for t, frame in enumerate(clip):
        left = (size - side) * t // max(spec.frames - 1, 1)
        frame[side : 2 * side, left : left + side] = (250, 240, 60)
    return clip[None]


def _encode_probe(encoder: Encoder, *, with_text: bool) -> dict[str, Float32]:
    frames = probe_frames(encoder.spec)
    query = encoder.encode_query(frames)
    found = {"query": query.frames, "pooled": query.pooled}
    if with_text:
        found["text"] = encoder.encode_text([_WORD])
        if encoder.spec.text_in_support:
            found["support"] = encoder.encode_support(frames, found["text"]).frames
    return found
