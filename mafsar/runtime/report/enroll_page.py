"""The HTML page of ``mafsar enroll --report``: quality of the clips of each class."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from PIL import Image

from mafsar.files import refuse_other_kind, write_text
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.bank.pictures import clip_frames
from mafsar.runtime.bank.quality import ClassQuality, ClipQuality, EnrollReport, judge
from mafsar.runtime.report import page

_SIDE, _GAP = 64, 2  # pixels of one frame in a strip, and between two


def enroll_page(report: EnrollReport, bank: Bank, *, title: str) -> str:
    """The whole page.

    Args:
        report: The result of `mafsar.runtime.bank.quality.judge` for the bank.
        bank: The bank, for the clips' pictures.
        title: First line.
    """
    indices = _indices(bank)
    body = [_overview(report)]
    for item in report.classes:
        clips = [clip for clip in report.clips if clip.label == item.label]
        cards = "".join(
            _clip_card(clip, _strip(bank, indices[clip.label, clip.path].pop(0))) for clip in clips
        )
        body.append(
            f'<section class="card"><div class="head"><h2>{page.text(item.label)}</h2>'
            f'<span class="muted">{page.text(_class_line(item))}</span></div>'
            f'<div class="clips">{cards}</div></section>'
        )
    return page.page(title, _subtitle(report, bank), body)


def write_quality_page(bank: Bank, path: Path) -> Path:
    """Judges every clip of a bank by the others and writes the page, never over another kind of file."""
    refuse_other_kind(path, "page")
    title = "Quality of this bank" if bank.path is None else f"Quality of {bank.path.name}"
    write_text(path, enroll_page(judge(bank), bank, title=title))
    return path


def _subtitle(report: EnrollReport, bank: Bank) -> str:
    return (
        f"{len(report.classes)} classes, {len(report.clips)} clips, model {bank.model.name};"
        f" class names {'are used' if report.text.used else 'are not used'} ({report.text.why});"
        f" views {bank.scoring.views}"
    )


def _overview(report: EnrollReport) -> str:
    headline = report.verdict[0].upper() + report.verdict[1:]
    rows = [
        (item.label, item.right / item.clips, f"{item.right} of {item.clips}")
        for item in report.classes
        if item.right is not None and item.clips
    ]
    notes = "".join(f"<li>{page.text(line)}</li>" for line in (*report.advice, *report.notes))
    return (
        f'<section class="card"><h2>{page.text(headline)}</h2>'
        + (page.bars(rows, first_only=False) if rows else "")
        + (f"<ul>{notes}</ul>" if notes else "")
        + "</section>"
    )


def _class_line(item: ClassQuality) -> str:
    judged = "" if item.right is None else f", {item.right} right"
    text = "" if item.text == item.label else f", read as “{item.text}”"
    return f"{item.clips} clip{'' if item.clips == 1 else 's'}{judged}{text}"


def _clip_card(clip: ClipQuality, strip: Image.Image) -> str:
    if clip.right is None:
        verdict = '<span class="muted">the only clip, cannot be tested</span>'
    elif clip.right:
        verdict = '<span class="good">named correctly</span>'
    else:
        verdict = f'<span class="bad">taken for {page.text(clip.answer)}</span>'
    lines = [f"<p>{verdict}</p>"]
    if clip.hurts:
        more = f"{clip.gain} more of the others {'is' if clip.gain == 1 else 'are'} right"
        lines.append(f'<p class="bad">hurts: without it {more}</p>')
    if clip.twin:
        lines.append(f'<p class="warn">also in another class, as {page.text(clip.twin)}</p>')
    facts: list[tuple[str, object]] = [("length", f"{clip.duration_seconds:.2f} s")]
    if clip.margin is not None:
        facts.append((f"margin to {clip.nearest_other}", f"{clip.margin:+.2f}"))
    hurts = " hurts" if clip.hurts or clip.right is False else ""
    picture = page.picture(strip, clip.path, quality=82)
    return (
        f'<div class="clip{hurts}">{picture}<div><p class="small">{page.text(clip.path)}</p>'
        f"{''.join(lines)}{page.facts(facts)}</div></div>"
    )


def _strip(bank: Bank, index: int) -> Image.Image:
    """The frames of a clip, four in a row."""
    if bank.images is not None:
        frames = bank.images[index]
    else:
        frames = clip_frames(bank, index, _SIDE).frames
    columns, side = min(4, len(frames)), frames.shape[1]
    pitch = side + _GAP
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (columns * pitch - _GAP, rows * pitch - _GAP), "white")
    for number, frame in enumerate(frames):
        place = (number % columns * pitch, number // columns * pitch)
        sheet.paste(Image.fromarray(frame), place)
    return sheet


def _indices(bank: Bank) -> dict[tuple[str, str], list[int]]:
    """Places of the bank's clips by class and path; one file may hold several clips."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, clip in enumerate(bank.clips):
        if not clip.is_background:
            places[clip.label, clip.location].append(index)
    return places
