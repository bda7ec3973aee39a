"""What ``mafsar match`` writes: table or JSON Lines, CSV, pictures, overlay videos, HTML."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mafsar.cli import options as opt
from mafsar.cli import outputs, targets, voice
from mafsar.cli.match_table import csv_columns, csv_row, error_of, show_table
from mafsar.cli.queries import Source
from mafsar.cli.wording import worded
from mafsar.errors import InputError, MafsarError
from mafsar.files import is_folder

_LONGEST_STEM = 200  # bytes; a name may have 255, with its ending

if TYPE_CHECKING:
    from mafsar.runtime.bank.bank import Bank
    from mafsar.runtime.encoder import Encoder
    from mafsar.runtime.match.answers import Match, QueryError


@dataclass(frozen=True)
class MatchFiles:
    """Where everything goes.

    Attributes:
        files: Single files by flag: ``--csv``, ``--report``, ``--out``.
        pictures: The PNG of each query, or none.
        videos: The MP4 of each query, or none.
        json_lines: JSON Lines instead of a table.
        overwrite: Existing files may be replaced.
        ignore_clock: Frames per second of the queries instead of their timestamps.
    """

    files: Mapping[str, Path | None]
    pictures: Sequence[Path]
    videos: Sequence[Path]
    json_lines: bool
    overwrite: bool
    ignore_clock: float | None = None

    @classmethod
    def plan(
        cls,
        asked: Sequence[Source],
        files: Mapping[str, Path | None],
        *,
        plot: Path | None,
        save_video: Path | None,
        json_lines: bool,
        overwrite: bool,
        ignore_clock: float | None = None,
        inputs: Mapping[str, Sequence[str | Path | None]],
    ) -> MatchFiles:
        """Names every file before any work, and refuses those that would destroy something."""
        stems = file_stems(asked)
        pictures = [plot / f"{stem}.png" for stem in stems] if plot else []
        videos = [save_video / f"{stem}.mp4" for stem in stems] if save_video else []
        targets.check_outputs(
            {**files, "--plot": pictures, "--save-video": videos},
            overwrite,
            inputs={**inputs, "the query": [source.path for source in asked]},
            kinds={"--plot": "picture", "--save-video": "video"},
        )
        for flag, folder in (("--plot", plot), ("--save-video", save_video)):
            if folder is not None:
                outputs.make_folder(flag, folder)
        return cls(files, pictures, videos, json_lines, overwrite, ignore_clock)

    @property
    def needs_evidence(self) -> bool:
        """Whether pictures are drawn."""
        return bool(self.pictures) or self.files.get("--report") is not None


def file_stems(asked: Sequence[Source]) -> list[str]:
    """A file name for each query: its path below what all have in common, without its ending."""
    parents = [os.path.abspath(source.path.parent) for source in asked]  # noqa: PTH100 - may be missing
    common = os.path.commonpath(parents) if parents else ""
    stems: list[str] = []
    taken: set[str] = set()
    number: dict[str, int] = {}
    for source, parent in zip(asked, parents, strict=True):
        if source.name == str(source.path):
            stem = source.path.name if is_folder(source.path) else source.path.stem
            below = os.path.relpath(parent, common)
            parts = [] if below == "." else Path(below).parts
            name = "-".join([*parts, stem])
        else:
            name = source.name
        name = _short(re.sub(r"[^\w.()\-]+", "_", name).strip("._") or "query")
        unique = name
        while unique in taken:
            number[name] = number.get(name, 1) + 1
            unique = f"{name}-{number[name]}"
        taken.add(unique)
        stems.append(unique)
    return stems


def _short(name: str) -> str:
    """A name that leaves room for an ending: a long one keeps its last letters, after its hash."""
    data = name.encode("utf-8", "surrogateescape")
    if len(data) <= _LONGEST_STEM:
        return name
    digest = hashlib.sha256(data).hexdigest()[:12]
    end = data[len(digest) + 1 - _LONGEST_STEM :].decode("utf-8", "ignore")
    return f"{digest}-{end}"


def answer_all(
    answers: Iterator[Match | QueryError],
    asked: Sequence[Source],
    bank: Bank,
    encoder: Encoder,
    wanted: MatchFiles,
    *,
    topk: int,
    listed: int = 2,
) -> None:
    """Takes the answers one by one and writes all that is wanted of each.

    Args:
        answers: One an asked query, in order.
        asked: The queries.
        bank: What they are compared with.
        encoder: What encodes them.
        wanted: Where everything goes.
        topk: Classes of an answer in the JSON and the CSV.
        listed: Classes of an answer in the table.

    Raises:
        InputError: At the end, where some queries could not be answered.
    """
    run = _Run(asked, bank, wanted, min(topk, len(bank.classes)))
    with outputs.results_to(wanted.files.get("--out"), overwrite=wanted.overwrite) as stream:
        quiet_bar = wanted.json_lines and stream.isatty()
        try:
            with voice.progress("matching", None if quiet_bar else len(asked)) as bar:
                for answer in answers:
                    if wanted.json_lines:
                        outputs.print_json(stream, _json(answer))
                    run.take(answer)
                    if not quiet_bar:
                        bar()
        finally:
            # Also after an interrupt: what is known is not lost.
            run.close()
            if not wanted.json_lines and run.taken:
                show_table(stream, run.taken, bank, encoder, listed=listed)
    if run.failures:
        raise InputError(_failure_line(run.failures, len(asked)))


class _Run:
    """The answers so far and the files made of them."""

    def __init__(self, asked: Sequence[Source], bank: Bank, wanted: MatchFiles, topk: int) -> None:
        self.taken: list[Match | QueryError] = []
        self.failures: list[str] = []
        self._asked = asked
        self._bank = bank
        self._wanted = wanted
        self._sections: list[str] = []
        self._pictures: list[Path] = []
        self._videos: list[Path] = []
        csv = wanted.files.get("--csv")
        self._csv: outputs.CsvWriter | None = None
        if csv is not None:
            columns = csv_columns(topk)
            self._csv = outputs.CsvWriter(csv, columns, overwrite=wanted.overwrite)

    def take(self, answer: Match | QueryError) -> None:
        """Files one answer; a picture or video that fails is a failure of its query."""
        from mafsar.runtime.match.answers import QueryError

        number = len(self.taken)
        self.taken.append(answer)
        if self._csv is not None:
            self._csv.write(csv_row(_json(answer)))
        if isinstance(answer, QueryError):
            error = error_of(answer)
            self.failures.append(error)
            if self._wanted.files.get("--report"):
                from mafsar.runtime.report.match_page import error_section

                self._sections.append(error_section(answer.query, error, number=number + 1))
            return
        if answer.clip.repairs:
            voice.warn(f"{answer.query}: {'; '.join(answer.clip.repairs)}")
        if answer.warning and not self._wanted.json_lines:
            voice.warn(f"{answer.query}: {answer.warning}")
        try:
            self._draw(answer, number)
        except MafsarError as problem:
            self.failures.append(f"{answer.query}: {worded(problem)}")

    def close(self) -> None:
        """Writes what is written once, at the end."""
        if self._csv is not None:
            self._csv.close()
        report = self._wanted.files.get("--report")
        if report is not None and self._sections:
            from mafsar.files import write_text
            from mafsar.runtime.report.match_page import match_page

            bank = self._bank
            subtitle = (
                f"{opt.count(len(bank.classes), 'class')} from"
                f" {opt.count(len(bank.clips), 'support clip')}, model {bank.model.name}"
            )
            write_text(report, match_page(self.taken, self._sections, subtitle=subtitle))
            outputs.say_written(report)
        _say_folder(self._pictures, "picture")
        _say_folder(self._videos, "video")

    def _draw(self, answer: Match, number: int) -> None:
        picture = None if answer.evidence is None else answer.picture()
        if picture is not None and self._wanted.pictures:
            picture.save(self._wanted.pictures[number])
            self._pictures.append(self._wanted.pictures[number])
        if self._wanted.files.get("--report"):
            from mafsar.runtime.report.alignment import frames_only
            from mafsar.runtime.report.match_page import match_section

            shown = None if picture is None else frames_only(picture)
            clip = None if answer.evidence is None else self._bank.clips[answer.evidence.clip]
            nearest = None if clip is None else clip.location
            section = match_section(answer, shown, nearest=nearest, number=number + 1)
            self._sections.append(section)
        if self._wanted.videos:
            from mafsar.video.overlay import Caption, write_overlay

            others = tuple((row.label, row.score) for row in answer.topk[1:3])
            write_overlay(
                self._asked[number].path,
                self._wanted.videos[number],
                Caption(answer.label, answer.score, others),
                self._bank.geometry,
                ignore_clock=self._wanted.ignore_clock,
            )
            self._videos.append(self._wanted.videos[number])


def _json(answer: Match | QueryError) -> dict[str, Any]:
    """The answer's JSON; a reason speaks of flags, as everything that the command line says."""
    from mafsar.runtime.match.answers import QueryError

    if not isinstance(answer, QueryError):
        return answer.to_json()
    return answer.to_json() | {"error": error_of(answer)}


def _say_folder(written: Sequence[Path], noun: str) -> None:
    if len(written) == 1:
        outputs.say_written(written[0])
    elif written:
        voice.note(f"wrote {opt.count(len(written), noun)} into {written[0].parent}")


def _failure_line(failures: Sequence[str], asked: int) -> str:
    if asked == 1:
        return failures[0]
    return f"{len(failures)} of {asked} queries failed; the first: {failures[0]}"
