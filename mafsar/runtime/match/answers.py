"""Answers: dataclasses whose fields are named as in the JSON of `mafsar match`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mafsar.choices import Views
from mafsar.errors import MafsarError, UnavailableError, option
from mafsar.files import refuse_other_kind, written_beside
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
        score: Its share among the given classes, 0–1.
        distance: The metric's value; smaller is nearer.
        text_score: Its share by class names alone, 0–1; None without text.
    """

    label: str
    score: float
    distance: float
    text_score: float | None


@dataclass(frozen=True)
class Seconds:
    """Time spent on one query, seconds; `total` is the sum of the others.

    Attributes:
        decode: Reading and decoding frames.
        preprocess: Cropping and resizing.
        encode: The encoder; of a batch, an equal share.
        match: Distances and scores.
        total: The sum.
    """

    decode: float
    preprocess: float
    encode: float
    match: float
    total: float


@dataclass(frozen=True)
class ClipTimes:
    """The part of a clip that was seen, on the clock of its container.

    Attributes:
        duration_seconds: Length of the clip.
        frames_seconds: When each frame given to the model is shown, (T,).
        fps: Average frame rate; None if unknown.
        repairs: What was repaired in reading the file and why, plain sentences.
    """

    duration_seconds: float
    frames_seconds: tuple[float, ...]
    fps: float | None
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What `Match.plot` needs; not part of the JSON.

    Attributes:
        bank: The bank.
        pixels: The query's frames as the model saw them, (T, S, S, 3), uint8 RGB.
        clip: Index, in `bank.clips`, of the support clip nearest to the query in the best class.
        distances: Distances between the frames of the query and of that clip, (Tq, Ts).
        alignment: Soft alignment: the gradient of OTAM by these distances, (Tq, Ts), ≥ 0.
        change: How much the query's features change from frame to frame, as a share of what is usual
            (the median) in the clips of the best class; infinite where nothing changes in these.
    """

    bank: Bank
    pixels: Frames
    clip: int
    distances: Float32
    alignment: Float32
    change: float = 1.0

    def __repr__(self) -> str:
        return f"Evidence(pixels={self.pixels.shape}, clip={self.clip})"


@dataclass(frozen=True, repr=False, kw_only=True)
class Match(Provenance):
    """The answer to one query; fields are named as in the JSON of `mafsar match`.

    Attributes:
        query: Name of the query: the path as given, or its name.
        label: The best class, or None if `none`.
        score: Share of the best class among the given classes, 0–1; the shares of all classes sum
            to 1.
        p_none: Calibrated probability that no class fits; None without calibration.
        none: Whether the clip shows none of the classes.
        topk: The best classes, best first.
        seconds: Time spent.
        clip: The part of the clip that was seen.
        views: What was matched: "raw" features, or the weight of the change view.
        warning: What the user should know about this answer, or None.
        evidence: What `plot` needs, or None; not part of the JSON.
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
        """The JSON object that `mafsar match` prints."""
        values = asdict(replace(self, evidence=None))
        del values["evidence"]
        order = (
            "query", "label", "score", "p_none", "none", "topk", "seconds", "clip", "model",
            "adapters", "engine", "precision", "device", "views", "warning",
        )  # fmt: skip
        return {"schema": SCHEMA} | {name: values[name] for name in order}

    def picture(self) -> Image:
        """Draws the query's frames above those of the nearest support clip, joined by their alignment.

        The support clip is read again from its path. If it is gone, the bank's small pictures are
        used, or grey tiles if it has none.

        Raises:
            UnavailableError: The answer has no evidence.
        """
        if self.evidence is None:
            raise UnavailableError(
                f"{self.query}: this answer has no evidence to draw; match this clip alone, or use "
                "a Matcher with ",
                option(evidence=True),
            )
        # Pillow is loaded only when something is drawn.
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
        """Writes `picture()` as a PNG file.

        Args:
            path: The file to write; an existing PNG picture is replaced.

        Returns:
            The path.

        Raises:
            UnavailableError: The answer has no evidence: it is one of a list of clips.
            InputError: Another kind of file is there.
        """
        path = Path(path)
        refuse_other_kind(path, "picture")
        image = self.picture()
        with written_beside(path) as temporary:
            image.save(temporary, "PNG")
        return path

    def _repr_html_(self) -> str:
        """The alignment, if there is evidence, and the classes' shares, for notebooks."""
        from mafsar.runtime.report.page import match_cell

        rows = [(row.label, row.score, f"{row.score:.2f}") for row in self.topk]
        image = None if self.evidence is None else self.picture()
        return match_cell(repr(self), rows, image, self.query)


@dataclass(frozen=True)
class QueryError:
    """A query that could not be answered.

    Attributes:
        query: Its name.
        cause: The error.
    """

    query: str
    cause: MafsarError

    @property
    def error(self) -> str:
        """The error's message."""
        return str(self.cause)

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `mafsar match` prints."""
        return {"schema": SCHEMA, "query": self.query, "error": self.error}
