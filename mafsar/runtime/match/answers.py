"""What a match answers: dataclasses with the names of `mafsar match --json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mafsar.choices import Views
from mafsar.errors import MafsarError, UnavailableError, option
from mafsar.files import written_beside
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.encoder import Float32, Frames, Provenance

if TYPE_CHECKING:
    from PIL.Image import Image

SCHEMA = 1


@dataclass(frozen=True)
class TopK:
    """One class of an answer.

    Attributes:
        label: The class.
        score: Fused probability among the given classes.
        distance: The metric's value, smaller is nearer.
        text_score: Probability by the class's text alone; None without text.
    """

    label: str
    score: float
    distance: float
    text_score: float | None


@dataclass(frozen=True)
class Seconds:
    """Where the time of one query went; `total` is the sum of the four."""

    decode: float
    preprocess: float
    encode: float
    match: float
    total: float


@dataclass(frozen=True)
class ClipTimes:
    """What was looked at in a clip, in seconds of the container's clock."""

    duration_seconds: float
    frames_seconds: tuple[float, ...]
    fps: float | None


@dataclass(frozen=True)
class Evidence:
    """What an answer rests on, for pictures; not part of the JSON.

    Attributes:
        bank: The classes that were asked.
        pixels: The query as the model saw it, (T, S, S, 3), uint8 RGB.
        clip: Index in the bank's clips of the nearest support clip of the answered class.
        distances: Frame distances of query and that clip, (Tq, Ts).
        alignment: Soft alignment, the derivative of OTAM by the distances, (Tq, Ts), ≥ 0.
    """

    bank: Bank
    pixels: Frames
    clip: int
    distances: Float32
    alignment: Float32

    def __repr__(self) -> str:
        return f"Evidence(pixels={self.pixels.shape}, clip={self.clip})"


@dataclass(frozen=True, repr=False, kw_only=True)
class Match(Provenance):
    """The answer to one query; names as in `mafsar match --json`.

    Attributes:
        query: Its name: the path as given, or NAME of NAME=SOURCE.
        label: The class, or None where `none`.
        score: Fused probability of the best class; a share among the given classes, whose scores
            sum to 1.
        p_none: Calibrated probability of none of the classes; None until calibrated.
        none: Whether the clip shows none of the classes.
        topk: The best classes, best first.
        seconds: Where the time went.
        clip: What was looked at.
        views: What was matched: "raw" features, or the weight of the change view.
        warning: What the user should know of this answer, or None.
        evidence: For pictures, where asked for; not part of the JSON.
    """

    query: str
    label: str | None
    score: float
    p_none: float | None
    none: bool
    topk: tuple[TopK, ...]
    seconds: Seconds
    clip: ClipTimes
    views: Views = "raw"
    warning: str | None
    evidence: Evidence | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        second = ""
        if len(self.topk) > 1:
            second = f", runner-up {self.topk[1].label} {self.topk[1].score:.2f}"
        label = "none of the classes" if self.label is None else self.label
        return f"Match({label} {self.score:.2f}{second}, {self.seconds.total:.2f} s)"

    def to_json(self) -> dict[str, Any]:
        """The object of `mafsar match --json`."""
        values = asdict(replace(self, evidence=None))
        del values["evidence"]
        order = (
            "query", "label", "score", "p_none", "none", "topk", "seconds", "clip", "model",
            "adapters", "engine", "precision", "device", "views", "warning",
        )  # fmt: skip
        return {"schema": SCHEMA} | {name: values[name] for name in order}

    def picture(self) -> Image:
        """The query's frames above the nearest support clip's, with lines for the alignment.

        The support clip's frames are read again where it lies; where it is gone, the bank's small
        pictures stand in, and without those grey tiles.

        Raises:
            UnavailableError: The answer was made without evidence.
        """
        if self.evidence is None:
            raise UnavailableError(
                f"{self.query}: this answer has no evidence to draw; match with ",
                option(evidence=True),
            )
        # Pillow and its fonts are loaded only where something is drawn.
        from mafsar.runtime.bank.pictures import clip_frames
        from mafsar.runtime.report.alignment import Strip, draw_match

        evidence, best = self.evidence, self.topk[0]
        second = self.topk[1] if len(self.topk) > 1 else None
        shown = clip_frames(evidence.bank, evidence.clip, evidence.pixels.shape[1])
        return draw_match(
            Strip(self.query, evidence.pixels, self.clip.frames_seconds),
            Strip(shown.name, shown.frames, shown.times_seconds),
            evidence.alignment,
            label=self.label,
            best=best.label,
            score=best.score,
            runner_up=None if second is None else (second.label, second.score),
            footer=(
                f"{self.model} · {self.engine} on {self.device}, {self.precision} · the stronger a"
                " line, the more the soft alignment (OTAM) pairs the two frames"
            ),
        )

    def plot(self, path: str | Path) -> Path:
        """Writes `picture` as a PNG; an existing file is replaced.

        Raises:
            UnavailableError: The answer was made without evidence.
        """
        path = Path(path)
        image = self.picture()
        with written_beside(path) as temporary:
            image.save(temporary, "PNG")
        return path

    def _repr_html_(self) -> str:
        """The alignment and the classes' shares, for notebooks."""
        from mafsar.runtime.report.page import match_cell

        rows = [(row.label, row.score, f"{row.score:.2f}") for row in self.topk]
        image = None if self.evidence is None else self.picture()
        return match_cell(repr(self), rows, image, self.query)


@dataclass(frozen=True)
class QueryError:
    """A query that could not be answered; the others are.

    Attributes:
        query: Its name.
        cause: What is wrong with it.
    """

    query: str
    cause: MafsarError

    @property
    def error(self) -> str:
        """What is wrong, in one line, in Python's words."""
        return str(self.cause)

    def to_json(self) -> dict[str, Any]:
        """The object of `mafsar match --json`."""
        return {"schema": SCHEMA, "query": self.query, "error": self.error}
