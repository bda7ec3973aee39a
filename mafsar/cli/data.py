"""``mafsar data check|pack``: what is missing or broken in a data set, and decoding it once."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, table, targets, voice
from mafsar.cli.wording import worded
from mafsar.errors import InputError
from mafsar.plain import say

if TYPE_CHECKING:
    from mafsar.data.catalogue import Catalogue
    from mafsar.data.check import ClipReport, PartCount
    from mafsar.data.pack import PackResult

SHOWN = 20
"""Clips listed on a terminal; the CSV has all."""

WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="Threads. Default: one per core."),
]


def check(
    dataset: opt.DatasetOption = None,
    root: opt.RootOption = None,
    lists: opt.ListsOption = None,
    data: opt.DataOption = None,
    split: opt.SplitOption = None,
    frames_pattern: opt.FramesPatternOption = None,
    frames: Annotated[
        int,
        typer.Option(
            "--frames", min=1, metavar="N", help="Clips with fewer frames count as too short."
        ),
    ] = 8,
    workers: WorkersOption = None,
    ignore_clock: opt.IgnoreClockOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="F.csv", help="Write one CSV line per clip."),
    ] = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """List what is missing, unreadable or too short in a data set."""
    import sys

    from mafsar.data import check as checking
    from mafsar.data.open_data import open_data

    named = {"the data": [data], "--lists": [lists], "--split": [split]}
    targets.check_outputs({"--out": out}, overwrite, inputs=named)
    began = time.perf_counter()
    catalogue = open_data(
        dataset=dataset, root=root, lists=lists, data=data, split=split,
        frames_pattern=frames_pattern,
    )  # fmt: skip
    counts = checking.count_parts(catalogue)
    problems: list[ClipReport] = []
    repairs: list[str] = []
    tally: Counter[str] = Counter()
    total = len(catalogue.clips) + len(catalogue.missing)
    csv_file = nullcontext(None) if out is None else outputs.results_to(out, overwrite=overwrite)
    with csv_file as stream, voice.progress("checking", total) as bar:
        if stream is not None:
            checking.write_header(stream)
        for report in checking.check_clips(
            catalogue,
            frames=frames,
            workers=workers or os.cpu_count() or 1,
            ignore_clock=ignore_clock,
        ):
            bar()
            tally[report.status] += 1
            if stream is not None:
                checking.write_report(stream, report)
            if report.repairs:
                repairs.append(f"{report.clip.name}: {'; '.join(report.repairs)}")
            if report.status != "ok":
                problems.append(report)
                if json_lines:
                    outputs.print_json(sys.stdout, _report_json(report))
    seconds = time.perf_counter() - began
    if json_lines:
        outputs.print_json(sys.stdout, _summary_json(catalogue, counts, tally, seconds))
    else:
        _show_counts(sys.stdout, catalogue, counts)
        _show_problems(sys.stdout, catalogue, problems, out)
        say(sys.stdout, f"{_verdict(tally, total)} · {seconds:.1f} s\n")
    voice.warn_of_repairs(repairs, "" if out is None else f"; {out} has all")
    for note in catalogue.notes:
        voice.note(f"note: {note}")
    _fail_where_incomplete(catalogue, counts, tally, out)


def pack(
    dataset: opt.DatasetOption = None,
    root: opt.RootOption = None,
    lists: opt.ListsOption = None,
    data: opt.DataOption = None,
    split: opt.SplitOption = None,
    frames_pattern: opt.FramesPatternOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="F.sqlite",
            help="The store to write; an existing one is continued.",
        ),
    ] = None,
    frames: Annotated[
        int,
        typer.Option(
            "--frames",
            metavar="N",
            help="Frames to keep of each clip, at equal times: an odd multiple of the model's 8.",
        ),
    ] = 24,
    short_side: Annotated[
        int, typer.Option("--short-side", metavar="PX", help="Short side of the frames, pixels.")
    ] = 256,
    quality: Annotated[
        int, typer.Option("--quality", metavar="Q", help="JPEG quality, from 1 to 95.")
    ] = 90,
    ignore_clock: opt.IgnoreClockOption = None,
    workers: WorkersOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Decode a data set once into a compact store; continues where it was interrupted."""
    import sys

    from mafsar.data.open_data import open_data
    from mafsar.data.pack import pack as run
    from mafsar.data.store import StoreSettings, is_store, refuse_foreign

    if out is None:
        raise typer.BadParameter("data pack: name the store to write: --out F.sqlite (-o)")
    settings = StoreSettings(frames, short_side, quality, ignore_clock)
    catalogue = open_data(
        dataset=dataset, root=root, lists=lists, data=data, split=split,
        frames_pattern=frames_pattern,
    )  # fmt: skip
    if is_store(catalogue.root):
        raise InputError(f"--data {catalogue.root}: is packed already; use it directly")
    named = {"the data": [data, root], "--lists": [lists], "--split": [split]}
    # Continued where it exists: only another file is in the way.
    targets.check_outputs({"--out": out}, True, inputs=named, kinds={"--out": "store"})
    if out.is_file() and overwrite:
        refuse_foreign(out)
        out.unlink()
        out.with_name(f"{out.name}-journal").unlink(missing_ok=True)
    elif is_store(out):
        voice.note(f"{out}: exists; packing continues where it stopped")
    with voice.progress("packing") as bar:
        result = run(catalogue, out, settings, workers=workers or os.cpu_count() or 1, progress=bar)
    if json_lines:
        outputs.print_json(sys.stdout, _pack_json(result))
    else:
        say(sys.stdout, f"{_pack_line(result)}\n")
    outputs.say_written(out)
    for note in catalogue.notes:
        voice.note(f"note: {note}")
    lines = [f"{name}: {'; '.join(said)}" for name, said in result.repairs]
    voice.warn_of_repairs(lines, "; --json lists all")
    for name, reason in result.unreadable[:SHOWN]:
        voice.warn(f"{name}: {reason}")
    if result.unreadable or result.missing:
        raise InputError(
            f"{out}: packed without {opt.count(len(result.missing), 'missing clip')} and "
            f"{opt.count(len(result.unreadable), 'unreadable clip')}; mafsar data check lists "
            "them; run data pack again to add clips found since"
        )


def _show_counts(stream: TextIO, catalogue: Catalogue, counts: Sequence[PartCount]) -> None:
    say(stream, f"{catalogue.title} in {catalogue.root}\n")
    rows = table.new_table("part", ("classes", "right"), ("videos", "right"), "")
    for item in counts:
        table.add_row(
            rows,
            item.part,
            _of(item.classes, item.classes_expected),
            _of(item.videos, item.videos_expected),
            _remark(item),
        )
    table.show(stream, rows)


def _of(found: int, expected: int | None) -> str:
    return f"{found:,}" if expected is None else f"{found:,} of {expected:,}"


def _remark(item: PartCount) -> str:
    if item.short_of:
        return "incomplete"
    if item.videos_expected is not None and item.videos > item.videos_expected:
        return f"{item.videos - item.videos_expected:,} more than the protocol has"
    return "complete"


def _show_problems(
    stream: TextIO, catalogue: Catalogue, problems: Sequence[ClipReport], out: Path | None
) -> None:
    if catalogue.absent:
        names = [f"{label} ({part})" for part, label in catalogue.absent]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        say(stream, f"classes without a clip: {', '.join(names[:SHOWN])}{more}\n")
    if not problems:
        return
    rows = table.new_table("status", "part", ("clip", "fold"), ("why", "fold"))
    for report in problems[:SHOWN]:
        table.add_row(
            rows, report.status, report.clip.part or "", report.clip.name, _detail(report)
        )
    left = len(problems) - SHOWN
    where = f"{out} has all" if out else "--out F.csv writes all"
    table.show(stream, rows, after=[f"… and {left:,} more; {where}"] if left > 0 else [])


def _detail(report: ClipReport) -> str:
    """Why a clip is not fine; an error is said in flags."""
    if report.error is None:
        return report.detail
    return worded(report.error).removeprefix(f"{report.clip.path}: ")


def _verdict(tally: Counter[str], total: int) -> str:
    bad = [f"{tally[status]:,} {status}" for status in ("missing", "unreadable") if tally[status]]
    if tally["short"]:
        bad.append(f"{tally['short']:,} too short")
    fine = f"{tally['ok']:,} of {opt.count(total, 'clip')} fine"
    return f"{fine}, {', '.join(bad)}" if bad else fine


def _fail_where_incomplete(
    catalogue: Catalogue, counts: Sequence[PartCount], tally: Counter[str], out: Path | None
) -> None:
    """Ends with exit 1 if a clip or class is missing or a clip cannot be read."""
    reasons = []
    if any(item.short_of for item in counts):
        reasons += [
            f"{item.part} has {_of(item.videos, item.videos_expected)} videos of "
            f"{_of(item.classes, item.classes_expected)} classes"
            for item in counts
            if item.short_of
        ]
    if tally["unreadable"]:
        reasons.append(f"{opt.count(tally['unreadable'], 'clip')} cannot be read")
    if reasons:
        remedy = f"see {out}" if out else "--out F.csv lists every clip"
        raise InputError(f"{catalogue.title}: {'; '.join(reasons)}; {remedy}")


def _report_json(report: ClipReport) -> dict[str, Any]:
    return {
        "schema": 1,
        "part": report.clip.part,
        "label": report.clip.label,
        "clip": report.clip.name,
        "status": report.status,
        "detail": _detail(report),
        "frames": report.frames,
        "duration_seconds": report.duration_seconds,
        "repairs": list(report.repairs),
    }


def _summary_json(
    catalogue: Catalogue, counts: Sequence[PartCount], tally: Counter[str], seconds: float
) -> dict[str, Any]:
    return {
        "schema": 1,
        "dataset": catalogue.title,
        "root": str(catalogue.root),
        "parts": {
            item.part: {
                "classes": item.classes,
                "classes_expected": item.classes_expected,
                "videos": item.videos,
                "videos_expected": item.videos_expected,
            }
            for item in counts
        },
        "classes_absent": [label for _, label in catalogue.absent],
        **{status: tally[status] for status in ("ok", "short", "missing", "unreadable")},
        "notes": list(catalogue.notes),
        "seconds": round(seconds, 3),
    }


def _pack_json(result: PackResult) -> dict[str, Any]:
    return {
        "schema": 1,
        "store": str(result.path),
        "clips": result.packed + result.kept,
        "packed": result.packed,
        "kept": result.kept,
        "frames": result.frames,
        "size_bytes": result.size_bytes,
        "unreadable": [{"clip": name, "detail": why} for name, why in result.unreadable],
        "missing": list(result.missing),
        "repairs": [{"clip": name, "repairs": list(said)} for name, said in result.repairs],
        "seconds": round(result.seconds, 3),
    }


def _pack_line(result: PackResult) -> str:
    clips = opt.count(result.packed + result.kept, "clip")
    size = result.size_bytes / 1e6
    text = f"{size / 1e3:.2f} GB" if size >= 1e3 else f"{size:.1f} MB"
    kept = f", {result.kept:,} were there" if result.kept else ""
    return (
        f"{result.path}: {clips}, {opt.count(result.frames, 'frame')}, {text} · packed "
        f"{result.packed:,} in {result.seconds:.1f} s{kept}"
    )
