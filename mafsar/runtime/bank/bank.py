"""Banks: the encoded support clips of some classes, an immutable value kept in a safetensors file."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mafsar import documents
from mafsar.choices import Branch, Metric, Scoring, TextUse, ViewsUse
from mafsar.data.labels import NONE_FOLDER
from mafsar.data.support import SupportClass
from mafsar.errors import InputError, MissingError, Placeholder, call, option
from mafsar.files import is_folder, refuse_other_kind, write_safetensors
from mafsar.runtime.bank.clips import EnrolledClip
from mafsar.runtime.bank.layout import (
    CHECKSUM,
    check_document,
    check_tensors,
    checksum,
    is_intact,
    read_tensors,
)
from mafsar.runtime.bank.maker import PROBE_PREFIX, Maker
from mafsar.runtime.bank.none import NEGATIVES, NoneBasis
from mafsar.runtime.bank.text_choice import TextChoice
from mafsar.runtime.cache.places import recall_place, remember_place
from mafsar.runtime.encoder import BankModel, Encoder, Float32, Frames, ModelSpec
from mafsar.runtime.engines.loading import load_bank_model
from mafsar.version import __version__
from mafsar.video import Geometry

if TYPE_CHECKING:
    from mafsar.runtime.match.answers import Match
    from mafsar.runtime.scoring.verdict import Verdict

SCHEMA = 1
SUFFIX = ".safetensors"
_KEY = "mafsar"
_OUTLINE = documents.record(
    {"kind": documents.text(), "schema": documents.anything}, open_to_more=True
)


@dataclass(frozen=True, repr=False, eq=False)
class Bank:
    """Encoded clips of C classes.

    A bank never changes: `mafsar.enroll(…, add_to=bank)` and `mafsar.merge_banks` return new ones.

    Attributes:
        classes: The classes, ordered by label.
        words_known: Whether the model was trained on the words of each class's text, (C,).
        clips: The n clips, ordered by class and content; background clips come last.
        query: Features by the query graph, (n, T, E).
        pooled: Time means of the raw features of the query graph, (n, E).
        support: Features by the support graph with the class's text, (n, T, E); None if text is
            off or the model has no such graph.
        text: Raw class text embeddings, (C, E), or None.
        model: The model that made it.
        geometry: Which part of the picture the model sees.
        text_choice: Whether class names are used, and why.
        views: What features are matched by, as it was asked for; "auto" = the model's choice.
        verdict: How leave-one-out over the clips compares with chance; None in older banks.
        maker: The files that made the features, with a probe of them; None for a bank of a version
            that kept none, and for an encoder that runs no files.
        images: Small pictures of the clips, (n, T, 64, 64, 3), or None.
        motion: How much moves in each clip, (n,), grey levels; −1 if unknown. None in older banks.
        none: What p_none is calibrated from; None if the model brings nothing, and in older banks.
        path: The file it was read from, or None.
        notes: What was left out while enrolling, one sentence each; not saved.
        repairs: What was repaired in reading the clips, a sentence a clip; not in the file.
        added_to: The bank, read from a file, that clips were added to; not in the file. None for
            every other bank.
    """

    classes: tuple[SupportClass, ...]
    words_known: tuple[bool, ...]
    clips: tuple[EnrolledClip, ...]
    query: Float32
    pooled: Float32
    support: Float32 | None
    text: Float32 | None
    model: BankModel
    geometry: Geometry
    text_choice: TextChoice
    views: ViewsUse = "auto"
    verdict: Verdict | None = None
    maker: Maker | None = None
    images: Frames | None = None
    motion: Float32 | None = None
    none: NoneBasis | None = None
    path: Path | None = None
    notes: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    added_to: Bank | None = None

    def __repr__(self) -> str:
        labels = ", ".join(self.labels[:4]) + (", …" if len(self.labels) > 4 else "")
        return (
            f"Bank({len(self.classes)} classes: {labels}; {len(self.clips)} clips; "
            f"{self.model.name}; text {'on' if self.text_choice.used else 'off'})"
        )

    def __len__(self) -> int:
        """How many clips it holds."""
        return len(self.clips)

    @property
    def name(self) -> str:
        """What messages call it: the path of its file, or "this bank"."""
        return "this bank" if self.path is None else str(self.path)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the classes."""
        return tuple(item.label for item in self.classes)

    @functools.cached_property
    def class_index(self) -> NDArray[np.intp]:
        """Index of each clip's class, (n,); −1 for a background clip."""
        index = {label: i for i, label in enumerate(self.labels)} | {NONE_FOLDER: -1}
        found = np.array([index[clip.label] for clip in self.clips], np.intp)
        found.flags.writeable = False
        return found

    @functools.cached_property
    def sizes(self) -> frozenset[int]:
        """Sizes of the clips' files, bytes."""
        return frozenset(clip.size_bytes for clip in self.clips)

    @property
    def scoring(self) -> Scoring:
        """How this bank is matched: the model's scoring with the bank's own α and views."""
        return self.scoring_with_text.with_choices(alpha=self.text_choice.alpha)

    @property
    def scoring_with_text(self) -> Scoring:
        """The same with the α that the model has where class names take part."""
        return self.model.scoring.with_choices(views=self.views)

    def same_content(self, other: Bank) -> bool:
        """Whether two banks hold the same clips under the same labels, and the same class texts."""
        mine, its = (
            ([(clip.label, clip.identity) for clip in bank.clips], bank.classes)
            for bank in (self, other)
        )
        return mine == its

    def is_at(self, path: Path) -> bool:
        """Whether the bank was read from this file."""
        return self.path is not None and self.path.resolve() == path.resolve()

    def frames(self, *, use_text: bool) -> Float32:
        """Features to match queries with, (n, T, E): `support` with class text, else `query`."""
        return self.query if self.support is None or not use_text else self.support

    def branch(self, *, use_text: bool) -> Branch:
        """The graph that `frames` are from."""
        return "query" if self.support is None or not use_text else "support"

    def check_model(self, spec: ModelSpec) -> None:
        """Raises an error if another model made this bank.

        Raises:
            MismatchError: Weights, pre-processing or prompts differ; says which.
        """
        self.model.check(spec, self.name, recall_place(self.model.weights_sha256))

    def check_encoder(self, encoder: Encoder) -> None:
        """Refuses an encoder whose features cannot be compared with this bank's.

        Raises:
            MismatchError: As `check_model`; or its files are others than those that made the bank
                and compute other features of the bank's probe.
        """
        self.check_model(encoder.spec)
        if self.maker is not None:
            self.maker.check(encoder, self.name)

    @functools.cached_property
    def encoder(self) -> Encoder:
        """The model that made this bank, loaded on first use.

        Raises:
            MissingError: No model with these weights is found.
        """
        return load_bank_model(self.model, self.path)

    def save(self, path: str | Path, *, images: bool = True, overwrite: bool = False) -> Path:
        """Writes the bank as one `.safetensors` file.

        A bank of `mafsar.enroll(…, add_to=bank)` that replaces the file of that bank keeps what
        other processes have added to the file and removed from it in the meantime.

        Args:
            path: The file to write.
            images: Whether to include the small pictures.
            overwrite: Whether an existing bank may be replaced.

        Returns:
            The path.

        Raises:
            InputError: The path has another ending, exists and `overwrite` is False, or is a file
                that is not a bank.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise InputError(f"{path}: a bank's file ends in {SUFFIX}; name it {path.stem}{SUFFIX}")
        if overwrite and self.added_to is not None and self.added_to.is_at(path):
            from mafsar.runtime.bank.update import save_added

            save_added(path, self.added_to, self, images=images)
            return path
        if overwrite:
            refuse_other_kind(path, "bank")
        tensors = {
            "query": self.query,
            "pooled": self.pooled,
            "support": self.support,
            "text": self.text,
            "images": self.images if images else None,
            "motion": self.motion,
            NEGATIVES: None if self.none is None else self.none.negatives,
        }
        if self.maker is not None:
            tensors |= {f"{PROBE_PREFIX}{name}": each for name, each in self.maker.probe.items()}
        kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        document = json.dumps(self._to_json(path), ensure_ascii=False, sort_keys=True)
        metadata = {_KEY: document, CHECKSUM: checksum(document, kept)}
        write_safetensors(path, kept, metadata, exclusive=not overwrite)
        if self.model.public(path.parent.resolve()) != {
            "name": self.model.name,
            "path": self.model.path,
        }:
            remember_place(self.model.weights_sha256, self.model.place)
        return path

    def match(
        self,
        source: Any,
        model: Encoder | None = None,
        *,
        topk: int = 5,
        text: TextUse = "auto",
        alpha: float | None = None,
        metric: Metric | None = None,
        views: ViewsUse = "auto",
        threshold: float | Literal["auto", "off"] = "auto",
        far: float | None = None,
        keep_query: bool = False,
        fps: float | None = None,
        times: Sequence[float] | None = None,
        ignore_clock: float | None = None,
    ) -> Match | list[Match]:
        """Names the action of one clip or of several; short for `mafsar.Matcher(bank, …)(source)`.

        Args:
            source: One clip: a path, a uint8 RGB array (T, H, W, 3), a list of frames (H, W, 3) or
                a list of PIL images. Several: a folder of clips, or a list of clips.
            model: The encoder that made this bank; None = load it, once.
            topk: See `mafsar.Matcher`.
            text: See `mafsar.Matcher`.
            alpha: See `mafsar.Matcher`.
            metric: See `mafsar.Matcher`.
            views: See `mafsar.Matcher`.
            threshold: See `mafsar.Matcher`.
            far: See `mafsar.Matcher`.
            keep_query: See `mafsar.Matcher`.
            fps: Frame rate of frames in memory, frames per second.
            times: Instead of `fps`: when each frame is first shown, seconds.
            ignore_clock: See `mafsar.Matcher`.

        Returns:
            One `Match`, or a list in the order of the clips.

        Raises:
            MafsarError: A clip cannot be read, or an argument does not fit the bank.
        """
        from mafsar.runtime.match.matcher import Matcher

        matcher = Matcher(
            self,
            model,
            topk=topk,
            text=text,
            alpha=alpha,
            metric=metric,
            views=views,
            threshold=threshold,
            far=far,
            keep_query=keep_query,
            ignore_clock=ignore_clock,
        )
        return matcher(source, fps=fps, times=times)

    def report(self, path: str | Path) -> Path:
        """Writes an HTML page on the quality of this bank: what the other clips say of each clip.

        Args:
            path: The file to write; an existing text file is replaced.

        Returns:
            The path.

        Raises:
            InputError: Another kind of file is there.
        """
        from mafsar.runtime.report.enroll_page import write_quality_page

        return write_quality_page(self, Path(path))

    def _repr_html_(self) -> str:
        """Each class with its first clip, for notebooks."""
        from mafsar.runtime.report.page import bank_cell

        firsts: list[tuple[str, str, Frames | None]] = []
        for number, item in enumerate(self.classes):
            members = np.flatnonzero(self.class_index == number)
            strip = None if self.images is None else self.images[members[0]]
            count = f"{len(members)} clip{'' if len(members) == 1 else 's'}"
            firsts.append((item.label, count, strip))
        return bank_cell(repr(self), firsts)

    def _to_json(self, path: Path) -> dict[str, Any]:
        """The document of a bank that is written to `path`."""
        added: dict[str, Any] = {} if self.views == "auto" else {"views": self.views}
        if self.none is not None:
            added["none"] = self.none.to_json()
        if self.verdict is not None:
            added["verdict"] = asdict(self.verdict)
        made = asdict(self.model) | {"scoring": self.model.scoring.to_json()}
        return added | {
            "schema": SCHEMA,
            "kind": "bank",
            "made_by": __version__,
            "checksum": CHECKSUM,
            "model": made | self.model.public(path.parent.resolve()),
            "maker": None
            if self.maker is None
            else {"files_sha256": self.maker.files_sha256, "precision": self.maker.precision},
            "geometry": self.geometry.to_json(),
            "text": asdict(self.text_choice),
            "classes": [
                {"label": item.label, "text": item.text, "words_known": known}
                for item, known in zip(self.classes, self.words_known, strict=True)
            ],
            "clips": [
                {
                    "path": clip.location,
                    "owner": int(index),
                    "content_sha256": clip.content_sha256,
                    "size_bytes": clip.size_bytes,
                    "start": clip.start,
                    "end": clip.end,
                    "duration_seconds": clip.duration_seconds,
                }
                | ({} if clip.ignore_clock is None else {"ignore_clock": clip.ignore_clock})
                for clip, index in zip(self.clips, self.class_index, strict=True)
            ],
        }


def is_bank(path: str | Path) -> bool:
    """Whether a path is named like a bank file."""
    path = Path(path)
    return path.suffix == SUFFIX and not is_folder(path)


def check_geometry(bank: Bank, geometry: Geometry | None) -> None:
    """Raises an error if a geometry is not that of a bank.

    Raises:
        InputError: `geometry` is not None and differs.
    """
    if geometry is None or geometry == bank.geometry:
        return
    held, asked = bank.geometry.to_json(), geometry.to_json()
    differing = [name for name in held if held[name] != asked[name]]
    raise InputError(
        f"{bank.name}: enrolled with ",
        option(**{name: held[name] for name in differing}),
        ", not with ",
        option(**{name: asked[name] for name in differing}),
        "; omit these, or enroll the clips again",
    )


def read_bank(path: str | Path) -> Bank:
    """Reads and checks a bank file; a large one is mapped, so that its clips need no memory.

    Raises:
        MissingError: No such file.
        InputError: The file is not a bank, is damaged, or was written by a newer mafsar.
    """
    from safetensors import SafetensorError

    path = Path(path)
    enroll = call("enroll", Placeholder("support"), saved_to=path)
    if not path.is_file():
        raise MissingError(f"{path}: no such bank; create it with ", enroll)
    fix = ("; enroll the clips again with ", enroll)
    try:
        state = path.stat()
        metadata, tensors = read_tensors(path, state)
    except (SafetensorError, OSError, TypeError, ValueError, KeyError) as error:
        raise InputError(f"{path}: damaged or not a safetensors file ({error})", *fix) from error
    if _KEY not in metadata:
        raise InputError(f"{path}: a safetensors file, but not a bank; see mafsar info {path}")
    try:
        data = documents.parse_json(metadata[_KEY], "its description")
        _OUTLINE(data, "")
    except InputError as error:
        raise InputError(f"{path}: damaged bank: {error}", *fix) from error
    if data["kind"] != "bank":
        raise InputError(f"{path}: holds {data['kind'][:40]!r}, not a bank", *fix)
    if data["schema"] != SCHEMA:
        raise InputError(
            f"{path}: written by mafsar {str(data.get('made_by'))[:40]} in schema "
            f"{str(data['schema'])[:40]}, this version reads {SCHEMA}; pip install -U mafsar, or "
            "make it again",
        )
    try:
        check_document(data)
        found = metadata.get(CHECKSUM)
        is_sealed = "checksum" in data or found is not None
        if is_sealed and not is_intact(state, found or "", metadata[_KEY], tensors):
            raise InputError("its checksum is another; copy it again")
        check_tensors(data, tensors)
        bank = _from_json(path, data, tensors)
    except InputError as error:
        raise InputError(f"{path}: damaged bank: ", error, *fix) from error
    if "checksum" not in data:
        note = (
            f"{path}: written by mafsar {data['made_by']}, which kept no checksum and no probe of "
            "its model: damage and another model of the same name go unnoticed; enroll again"
        )
        bank = replace(bank, notes=(note,))
    return bank


def _from_json(path: Path, data: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Bank:
    model = dict(data["model"])
    model["prompts"] = tuple(model["prompts"])
    model["scoring"] = Scoring.from_json(model["scoring"])
    if model["path"] is not None:
        model["path"] = str(path.parent.resolve() / model["path"])  # an old bank's is absolute
    verdict = data.get("verdict")
    classes = tuple(SupportClass(item["label"], item["text"]) for item in data["classes"])
    return Bank(
        classes=classes,
        words_known=tuple(bool(item["words_known"]) for item in data["classes"]),
        clips=tuple(_clip_of(entry, classes) for entry in data["clips"]),
        query=tensors["query"],
        pooled=tensors["pooled"],
        support=tensors.get("support"),
        text=tensors.get("text"),
        model=BankModel(**model),
        geometry=Geometry.from_json(data["geometry"]),
        text_choice=TextChoice(**data["text"]),
        views=data.get("views", "auto"),
        verdict=None if verdict is None else _verdict_of(verdict),
        maker=_maker_of(data, tensors),
        images=tensors.get("images"),
        motion=tensors.get("motion"),
        none=NoneBasis.from_json(data.get("none"), tensors),
        path=path,
    )


def _maker_of(data: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Maker | None:
    maker = data.get("maker")
    if maker is None:
        return None
    probe = {
        name.removeprefix(PROBE_PREFIX): tensor
        for name, tensor in tensors.items()
        if name.startswith(PROBE_PREFIX)
    }
    return Maker(maker["files_sha256"], maker["precision"], probe)


def _verdict_of(entry: dict[str, Any]) -> Verdict:
    from mafsar.runtime.scoring.verdict import Verdict

    return Verdict(**entry)


def _clip_of(entry: dict[str, Any], classes: Sequence[SupportClass]) -> EnrolledClip:
    values = dict(entry)
    owner = values.pop("owner")
    label = NONE_FOLDER if owner < 0 else classes[owner].label
    return EnrolledClip(Path(values.pop("path")), label, **values)
