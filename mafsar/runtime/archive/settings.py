"""What an index is made with: the model, the windows and the picture; kept in its `index.json`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mafsar import documents
from mafsar.errors import InputError, MismatchError, option
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.encoder import Encoder, files_sha256, shown_model
from mafsar.runtime.live.windows import WindowPlan
from mafsar.video import Geometry

_CHECK = documents.record(
    {
        "model": documents.text(longest=4096),
        "weights_sha256": documents.text(longest=100),
        "files_sha256": documents.text(longest=100),
        "precision": documents.text(longest=10),
        "preprocess": documents.record({}, open_to_more=True),
        "geometry": documents.record({}, open_to_more=True),
        "lengths": documents.items(documents.number(above=0.0), 1, 3),
        "strides": documents.items(documents.number(above=0.0), 1, 3),
        "frames": documents.whole(1, 1 << 16),
        "width": documents.whole(1, 1 << 16),
        "pooled": documents.flag,
        "ignore_clock": documents.optional(documents.number(above=0.0)),
    }
)


@dataclass(frozen=True)
class IndexSettings:
    """What all rows of an index have in common.

    Attributes:
        model: Name of the model.
        weights_sha256: Hash of its weights.
        files_sha256: Hash of the graph files that ran; empty for an encoder without files.
        precision: "fp32", "fp16" or "int8".
        preprocess: Size, frames, resampling, mean, std.
        geometry: Which part of the picture the model saw.
        lengths: Of the windows, seconds, ascending.
        strides: Seconds from one window to the next, one for each length.
        frames: T.
        width: E.
        pooled: Whether the pooled features are kept too, which class names are compared with.
        ignore_clock: Frames per second that replace the timestamps of video files, or None.
    """

    model: str
    weights_sha256: str
    files_sha256: str
    precision: str
    preprocess: dict[str, Any]
    geometry: Geometry
    lengths: tuple[float, ...]
    strides: tuple[float, ...]
    frames: int
    width: int
    pooled: bool
    ignore_clock: float | None = None

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        plan: WindowPlan,
        geometry: Geometry,
        ignore_clock: float | None = None,
    ) -> IndexSettings:
        """The settings of an encoder and a plan of windows."""
        spec = encoder.spec
        return cls(
            spec.name,
            spec.weights_sha256,
            files_sha256(encoder) or "",
            encoder.precision,
            spec.preprocess_json(),
            geometry,
            plan.lengths,
            plan.strides,
            spec.frames,
            spec.embed_dim,
            spec.text,
            ignore_clock,
        )

    @property
    def plan(self) -> WindowPlan:
        """The plan of the windows."""
        own = np.ones((len(self.lengths), 1), np.bool_)
        return WindowPlan(self.lengths, self.strides, own, self.frames)

    @property
    def size(self) -> int:
        """S, the side of the model's pictures, pixels."""
        return int(self.preprocess["size"])

    @property
    def preprocess_sha256(self) -> str:
        """Hash of everything that decides the pixels that the model sees."""
        what = {"preprocess": self.preprocess, "geometry": self.geometry.to_json()}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {
            "geometry": self.geometry.to_json(),
            "lengths": list(self.lengths),
            "strides": list(self.strides),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> IndexSettings:
        """Reads `to_json`'s form.

        Raises:
            InputError: An entry is missing or of another type.
        """
        _CHECK(document, "settings")
        values = dict(document)
        values["geometry"] = Geometry.from_json(values["geometry"])
        values["lengths"], values["strides"] = tuple(values["lengths"]), tuple(values["strides"])
        if "size" not in values["preprocess"]:
            raise InputError("settings.preprocess.size is missing")
        return cls(**values)

    def check_same(self, other: IndexSettings, place: str) -> None:
        """Refuses to go on with an index that was made with other settings.

        Raises:
            MismatchError: Names what differs.
        """
        mine, its = self.to_json(), other.to_json()
        differing = [name for name in mine if mine[name] != its[name]]
        if differing:
            shown = ", ".join(f"{name} {mine[name]}, not {its[name]}" for name in differing[:3])
            raise MismatchError(
                f"{place}: made with {shown}; go on with the same, or make it again with ",
                option(overwrite=True),
            )

    def check_bank(self, bank: Bank, place: str) -> None:
        """Refuses a bank whose features cannot be compared with this index.

        Raises:
            MismatchError: Weights, pre-processing or the part of the picture differ.
        """
        again = f"; index the archive again with the bank's model, or enroll with {self.model}"
        if bank.model.weights_sha256 != self.weights_sha256:
            made_by = shown_model(bank.model.name, bank.model.path)
            raise MismatchError(
                f"{bank.name}: made by {made_by}, weights {bank.model.weights_sha256[:12]}, but "
                f"{place} by {self.model}, weights {self.weights_sha256[:12]}{again}"
            )
        if bank.model.preprocess != self.preprocess:
            raise MismatchError(
                f"{bank.name}: made with pre-processing {bank.model.preprocess}, but {place} with "
                f"{self.preprocess}{again}"
            )
        if bank.geometry != self.geometry:
            raise MismatchError(
                f"{bank.name}: enrolled with geometry {bank.geometry.to_json()}, but {place} was "
                f"made with {self.geometry.to_json()}{again}"
            )
