"""Banks: the encoded support clips of some classes, in one safetensors file with its origins."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mafsar import __version__
from mafsar.data.support import SupportClass, SupportSet
from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.files import write_safetensors
from mafsar.runtime.encoder import Encoder, Float32, Frames, ModelSpec
from mafsar.runtime.scoring.scores import Scoring
from mafsar.video import Geometry

if TYPE_CHECKING:
    from mafsar.runtime.match.matcher import Match

SCHEMA = 1
SUFFIX = ".safetensors"
_KEY = "mafsar"


@dataclass(frozen=True)
class BankModel:
    """The model that a bank was made with.

    Attributes:
        name: Its name, as shown.
        path: Where it was loaded from, or None.
        adapters: "trained" or "none".
        weights_sha256: Hash of its weights.
        preprocess: Size, frames, resampling, mean, std.
        prompts: Templates of the class texts.
        scoring: Metric, scales and the model's own α.
    """

    name: str
    path: str | None
    adapters: Literal["none", "trained"]
    weights_sha256: str
    preprocess: dict[str, Any]
    prompts: tuple[str, ...]
    scoring: Scoring

    @classmethod
    def of(cls, spec: ModelSpec) -> BankModel:
        """What a bank keeps of a model."""
        return cls(
            spec.name,
            spec.path,
            spec.adapters,
            spec.weights_sha256,
            spec.preprocess_json(),
            spec.prompts,
            Scoring.of(spec),
        )


@dataclass(frozen=True)
class BankClip:
    """One clip of a bank.

    Attributes:
        path: Where it was, as found at enrolment.
        owner: Index of its class; −1 for a clip of nothing.
        content_sha256: Hash of the file's (or the frame folder's) bytes.
        size_bytes: Of the file; 0 for a frame folder.
        start: First second taken, or None.
        end: Last second taken, or None.
        duration_seconds: Length of what was taken.
    """

    path: str
    owner: int
    content_sha256: str
    size_bytes: int
    start: float | None
    end: float | None
    duration_seconds: float

    @property
    def identity(self) -> tuple[str, float, float]:
        """Content and seconds taken: equal only for the very same clip."""
        return clip_identity(self.content_sha256, self.start, self.end)


@dataclass(frozen=True)
class TextChoice:
    """Whether class names take part, and why.

    Attributes:
        requested: What the user asked for.
        used: Whether class texts are used.
        alpha: Weight of the text term; 0 where not used.
        why: One sentence.
    """

    requested: Literal["auto", "on", "off"]
    used: bool
    alpha: float
    why: str


@dataclass(frozen=True, repr=False, eq=False)
class Bank:
    """Encoded clips of C classes. Nothing in it changes: `add` and the others return a new one.

    Attributes:
        classes: The classes, in order of label.
        words_known: Whether the model has been trained on the words of each class's text, (C,).
        clips: The n clips, in order of class and content.
        query: Features by the query graph, (n, T, E).
        pooled: Time means of the raw features of the query graph, (n, E).
        support: Features by the support graph with the class's text, (n, T, E); None where the
            support was enrolled with text off or the model has no such graph.
        text: Raw class text embeddings, (C, E), or None.
        model: What made it.
        geometry: What the user said about the picture.
        text_choice: Whether class names take part.
        images: Small pictures of the clips, (n, T, 64, 64, 3), or None.
        path: The file it was read from, or None.
        notes: What was passed over while enrolling, one sentence each; not in the file.
    """

    classes: tuple[SupportClass, ...]
    words_known: tuple[bool, ...]
    clips: tuple[BankClip, ...]
    query: Float32
    pooled: Float32
    support: Float32 | None
    text: Float32 | None
    model: BankModel
    geometry: Geometry
    text_choice: TextChoice
    images: Frames | None = None
    path: Path | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        labels = ", ".join(self.labels[:4]) + (", …" if len(self.labels) > 4 else "")
        return (
            f"Bank({len(self.classes)} classes: {labels}; {len(self.clips)} clips; "
            f"{self.model.name}; text {'on' if self.text_choice.used else 'off'})"
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' labels, in order."""
        return tuple(item.label for item in self.classes)

    @property
    def owners(self) -> NDArray[np.intp]:
        """Class of each clip, (n,); −1 for a clip of nothing."""
        return np.array([clip.owner for clip in self.clips], np.intp)

    @property
    def scoring(self) -> Scoring:
        """How this bank is matched: the model's scoring with the bank's own α."""
        return replace(self.model.scoring, alpha=self.text_choice.alpha)

    def frames(self, *, use_text: bool) -> Float32:
        """The support side's features, (n, T, E): with the class texts, or by the query graph."""
        return self.support if use_text and self.support is not None else self.query

    def check_model(self, spec: ModelSpec) -> None:
        """Refuses a model that did not make this bank.

        Raises:
            MismatchError: Weights, pre-processing or prompts differ; says which, and what to do.
        """
        name = self.path or "this bank"
        mend = f"enrol the clips again with --model {spec.path or spec.name}, or match without it"
        if self.model.weights_sha256 != spec.weights_sha256:
            raise MismatchError(
                f"{name}: made by {self.model.name} (weights {self.model.weights_sha256[:12]}), "
                f"not by {spec.name} (weights {spec.weights_sha256[:12]}); {mend}"
            )
        if self.model.preprocess != spec.preprocess_json():
            raise MismatchError(
                f"{name}: made with pre-processing {self.model.preprocess}, the model has "
                f"{spec.preprocess_json()}; {mend}"
            )
        if self.model.prompts != spec.prompts:
            raise MismatchError(
                f"{name}: made with prompts {list(self.model.prompts)}, the model has "
                f"{list(spec.prompts)}; {mend}"
            )

    def save(self, path: str | Path, *, images: bool = True, overwrite: bool = False) -> Path:
        """Writes the bank as one `.safetensors` file, beside and renamed.

        Args:
            path: The file.
            images: Whether to keep the small pictures.
            overwrite: Whether an existing file may be replaced.

        Raises:
            InputError: The ending is another, or the file exists and `overwrite` is False.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise InputError(f"{path}: a bank ends in {SUFFIX}; name it {path.stem}{SUFFIX}")
        if path.exists() and not overwrite:
            raise InputError(f"{path}: exists already; add --overwrite to replace it")
        tensors = {
            "query": self.query,
            "pooled": self.pooled,
            "support": self.support,
            "text": self.text,
            "images": self.images if images else None,
        }
        write_safetensors(
            path,
            {name: tensor for name, tensor in tensors.items() if tensor is not None},
            {_KEY: json.dumps(self._to_json(), ensure_ascii=False, sort_keys=True)},
        )
        return path

    @staticmethod
    def load(path: str | Path) -> Bank:
        """Reads a bank.

        Raises:
            MissingError: No such file.
            InputError: It is no bank, is damaged, or a newer mafsar wrote it.
        """
        from mafsar.runtime.bank_file import read_bank

        return read_bank(Path(path))

    def add(self, support: SupportSet | str | Path, model: Encoder | None = None) -> Bank:
        """A bank that also holds the clips of `support`; what it holds is not encoded again.

        Args:
            support: A support set or its path.
            model: The encoder that made this bank; None loads the bank's own.
        """
        from mafsar.runtime.bank.enroll import enroll

        return enroll(support, self._own_model if model is None else model, into=self)

    def remove(self, *, classes: Sequence[str] = (), clips: Sequence[str] = ()) -> Bank:
        """A bank without the named classes and clips (a path, its last part, or a hash's start)."""
        from mafsar.runtime.bank.edit import remove

        return remove(self, classes, clips)

    def merge(self, *others: Bank) -> Bank:
        """One bank of the clips of several that the same model made."""
        from mafsar.runtime.bank.edit import merge

        return merge([self, *others])

    def match(
        self, source: Any, model: Encoder | None = None, *, topk: int = 5, **options: Any
    ) -> Match:
        """Names the action of one clip.

        Args:
            source: A path, or frames (T, H, W, 3), uint8 RGB, with `fps=` or `times=`.
            model: The encoder that made this bank; None loads the bank's own.
            topk: How many classes to list.
            **options: As `mafsar.runtime.match.matcher.match_queries`, and `fps`, `times` of an array.

        Raises:
            InputError: The clip cannot be read or answered.
        """
        from mafsar.runtime.match.matcher import QueryError, match_queries
        from mafsar.runtime.match.queries import Query

        encoder = self._own_model if model is None else model
        query = Query.of(source, fps=options.pop("fps", None), times=options.pop("times", None))
        answer = next(iter(match_queries(self, encoder, [query], topk=topk, **options)))
        if isinstance(answer, QueryError):
            raise InputError(answer.error)
        return answer

    @functools.cached_property
    def _own_model(self) -> Encoder:
        """The model that made this bank, loaded when first needed."""
        from mafsar.runtime.engines.loading import load_bank_model

        return load_bank_model(self)

    def _to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": "bank",
            "made_by": __version__,
            "model": asdict(self.model),
            "geometry": self.geometry.to_json(),
            "text": asdict(self.text_choice),
            "classes": [
                {"label": item.label, "text": item.text, "words_known": known}
                for item, known in zip(self.classes, self.words_known, strict=True)
            ],
            "clips": [asdict(clip) for clip in self.clips],
        }


def clip_identity(
    content_sha256: str, start: float | None, end: float | None
) -> tuple[str, float, float]:
    """Content and seconds taken, in a form that sorts."""
    return (content_sha256, start or 0.0, float("inf") if end is None else end)


def clip_size(path: Path) -> int:
    """Bytes of a clip's file; 0 for a frame folder."""
    return path.stat().st_size if path.is_file() else 0


def is_bank(path: str | Path) -> bool:
    """Whether a path names a bank file, by its ending."""
    path = Path(path)
    return path.suffix == SUFFIX and not path.is_dir()


def missing_bank(path: Path) -> MissingError:
    """The error for a bank file that is not there."""
    return MissingError(f"{path}: no such bank; make it with: mafsar enroll SUPPORT -o {path}")
