"""The studio without its page: a support folder, the bank of its clips, and what the bank says."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from mafsar.choices import TextUse
from mafsar.data.labels import NONE_FOLDER
from mafsar.errors import InputError, MafsarError, UnavailableError
from mafsar.runtime.bank.bank import SUFFIX, Bank
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.bank.pictures import clip_frames
from mafsar.runtime.bank.quality import EnrollReport, judge
from mafsar.runtime.encoder import Encoder, Frames
from mafsar.runtime.match.answers import Match
from mafsar.runtime.match.matcher import Matcher
from mafsar.runtime.match.queries import Query
from mafsar.runtime.studio.folder import FolderClip, SupportFolder

Words = Callable[[object], str]
"""Says an error or a note in words."""
_TILE = 128  # pixels of a frame in an answer's strips


class Workshop:
    """A support folder and its bank; made again after each change, of features that are cached.

    Args:
        root: The support folder; it need not exist.
        encoder: The model.
        text: As for `mafsar.enroll`.
        cache: Whether features are kept on disk.
        words: How errors are said.
        frames_pattern: As for `mafsar.enroll`.

    Raises:
        InputError: `root` is a file.
    """

    def __init__(
        self,
        root: Path,
        encoder: Encoder,
        *,
        text: TextUse = "auto",
        cache: bool = True,
        words: Words = str,
        frames_pattern: str | None = None,
    ) -> None:
        self.folder = SupportFolder(root, frames_pattern)
        self.encoder = encoder
        self.bank: Bank | None = None
        self.version = 0
        self._text, self._cache, self._words = text, cache, words
        self._problem: str | None = None
        self._lock = threading.RLock()
        self._seen: object = None
        self._state: dict[str, Any] = {}
        self.refresh()

    def refresh(self) -> None:
        """Reads the folder, and enrolls it where it has changed since."""
        with self._lock:
            signature = self._signature()
            if signature == self._seen:
                return
            report: EnrollReport | None = None
            self.bank, self._problem = None, None
            clips: list[FolderClip] = []
            try:
                clips = self.folder.clips()
                support = self.folder.support()
                if support is not None:
                    self.bank = enroll(
                        support, self.encoder, text=self._text, on_error="skip", cache=self._cache
                    )
                    report = judge(self.bank)
            except MafsarError as error:
                self._problem = self._words(error)
            self.version += 1
            self._state = self._describe(clips, report)
            self._seen = signature

    def state(self) -> dict[str, Any]:
        """What the page shows of the support."""
        return self._state

    def change(self, act: Callable[[SupportFolder], Any], *, more: bool = False) -> Any:
        """Changes the folder.

        Args:
            act: Does it.
            more: Whether another change follows at once, so that enrolling can wait.

        Returns:
            What `act` returns.
        """
        with self._lock:
            done = act(self.folder)
            if not more:
                self.refresh()
            return done

    def matcher(self, threshold: float | Literal["auto", "off"] = "auto") -> Matcher:
        """A matcher over all classes.

        Raises:
            UnavailableError: There is no class yet.
        """
        bank = self.bank
        if bank is None:
            raise UnavailableError(self._problem or "there is no class yet; add clips first")
        if bank.none is None:
            threshold = "auto"  # nothing is calibrated: no answer is none
        return Matcher(
            bank, self.encoder, topk=len(bank.classes), evidence=True, threshold=threshold
        )

    def match(
        self, path: Path, name: str, threshold: float | Literal["auto", "off"] = "auto"
    ) -> dict[str, Any]:
        """Names the action of a clip: `mafsar match --json` with pictures and alignment.

        Raises:
            MafsarError: The clip cannot be read, or there is no class yet.
        """
        with self._lock:
            (answer,) = self.matcher(threshold).stream([Query(name, path)])
            if not isinstance(answer, Match):
                # The user knows the clip by its name, not by where it came in.
                raise InputError(self._words(answer.cause).replace(str(path), name))
            return answer.to_json() | {
                "shown": _shown(answer),
                "threshold": self._threshold(threshold),
            }

    def strip(self, key: str) -> bytes | None:
        """The frames of a clip of the bank in two rows, as JPEG; None where it is not enrolled."""
        bank = self.bank
        if bank is None or bank.images is None:
            return None
        path = self.folder.source(self.folder.clip(key).path)
        for row, clip in enumerate(bank.clips):
            if clip.path == path:
                return jpeg(_two_rows(bank.images[row]))
        return None

    def save_bank(self, path: Path) -> Path:
        """Writes the bank; with small pictures, so that answers can be drawn without the clips.

        Raises:
            UnavailableError: There is no class yet.
        """
        with self._lock:
            if self.bank is None:
                raise UnavailableError(self._problem or "there is no class yet; add clips first")
            return self.bank.save(path, overwrite=True)

    @property
    def bank_name(self) -> str:
        """What an exported bank is called."""
        return f"{self.folder.root.resolve().name or 'support'}{SUFFIX}"

    def _threshold(self, threshold: float | Literal["auto", "off"]) -> float | None:
        return None if self.bank is None else self.matcher(threshold).threshold

    def _signature(self) -> object:
        """Changes with every change of a clip, and of the texts of the classes."""
        root = self.folder.root
        found = []
        try:
            clips = [clip.path for clip in self.folder.clips()]
            homes = {clip.parent.parent / "labels.csv" for clip in clips}
            for path in (*clips, *sorted(homes)):
                if path.exists():
                    seen = path.stat()
                    found.append((path, seen.st_mtime_ns, seen.st_size))
        except (MafsarError, OSError) as error:
            return str(error)
        return root, tuple(found), [folder.path for folder in self.folder.classes()]

    def _describe(self, clips: list[FolderClip], report: EnrollReport | None) -> dict[str, Any]:
        spec, bank = self.encoder.spec, self.bank
        notes = [] if bank is None else [self._words(note) for note in bank.notes]
        judged = {} if report is None else {clip.path: clip for clip in report.clips}
        enrolled = {} if bank is None else {clip.path: clip for clip in bank.clips}
        rows: dict[str, list[dict[str, Any]]] = {
            folder.path.name: [] for folder in (self.folder.classes() if not self._problem else ())
        }
        for clip in clips:
            source = self.folder.source(clip.path)
            quality, held = judged.get(str(source)), enrolled.get(source)
            row: dict[str, Any] = {"id": clip.id, "name": clip.path.name}
            if held is not None:
                row |= {"seconds": held.duration_seconds, "file": clip.path.is_file()}
            else:
                said = [note for note in notes if note.startswith(str(source))]
                row["left_out"] = said[0].removeprefix(f"{source}: ") if said else "not read"
            if quality is not None:
                row |= {
                    name: getattr(quality, name)
                    for name in (
                        "right",
                        "answer",
                        "nearest_other",
                        "margin",
                        "hurts",
                        "gain",
                        "twin",
                    )
                }
            rows.setdefault(clip.label, []).append(row)
        none_clips = rows.pop(NONE_FOLDER, [])
        return {
            "version": self.version,
            "support": str(self.folder.root),
            "bank": self.bank_name,
            "model": {
                "name": spec.name,
                "notice": spec.notice,
                "engine": self._words(self.encoder.choice),
            },
            "problem": self._problem,
            "classes": [{"label": label, "clips": rows[label]} for label in rows],
            "none_clips": none_clips,
            "verdict": None if report is None else report.verdict,
            "kind": None if report is None else report.kind,
            "advice": [] if report is None else list(report.advice),
            "notes": notes,
            "calibrated": bank is not None and bank.none is not None,
            "window_threshold": None if bank is None else self.matcher().for_windows().threshold,
        }


def jpeg(frame: Frames, quality: int = 82) -> bytes:
    """A picture, (H, W, 3) uint8 RGB, as JPEG."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).save(data, "JPEG", quality=quality)
    return data.getvalue()


def _two_rows(frames: Frames) -> Frames:
    """Frames (T, S, S, 3) in two rows of half as many; an odd one's place stays grey."""
    half = -(-len(frames) // 2)
    missing = np.full((2 * half - len(frames), *frames.shape[1:]), 128, np.uint8)
    whole = np.concatenate([frames, missing])
    return np.concatenate(
        [np.concatenate(list(row), axis=1) for row in (whole[:half], whole[half:])]
    )


def _shown(answer: Match) -> dict[str, Any]:
    """What the page draws of an answer: both clips' frames and the weights between them."""
    evidence = answer.evidence
    assert evidence is not None  # the matcher was asked for it
    support = clip_frames(evidence.bank, evidence.clip, _TILE)
    clip = evidence.bank.clips[evidence.clip]
    weights = evidence.alignment / max(float(evidence.alignment.max(initial=0.0)), 1e-12)
    return {
        "query": _strip_uri(evidence.pixels),
        "query_seconds": [round(value, 2) for value in answer.clip.frames_seconds],
        "support": _strip_uri(support.frames),
        "support_seconds": [round(value, 2) for value in support.times_seconds],
        "support_name": clip.path.name if clip.path is not None else clip.name,
        "support_label": clip.label,
        "weights": [[round(float(value), 3) for value in row] for row in weights],
    }


def _strip_uri(frames: Frames) -> str:
    tiles = [
        np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize((_TILE, _TILE)))
        for frame in frames
    ]
    code = base64.b64encode(jpeg(np.concatenate(tiles, axis=1))).decode("ascii")
    return f"data:image/jpeg;base64,{code}"
