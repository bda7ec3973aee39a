"""``mafsar enroll``: support clips to a bank, with a quality report."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, table, targets, voice
from mafsar.cli.queries import is_live
from mafsar.cli.wording import worded
from mafsar.errors import InputError

if TYPE_CHECKING:
    from mafsar.runtime.bank.bank import Bank
    from mafsar.runtime.bank.quality import EnrollReport
    from mafsar.runtime.encoder import Encoder


def enroll(
    support: Annotated[
        str,
        typer.Argument(metavar="SUPPORT", help="A folder of class folders, or a CSV path,label."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="BANK", help="The bank to write (.safetensors)."),
    ] = None,
    add: Annotated[
        Path | None,
        typer.Option(
            "--add",
            metavar="BANK",
            help="Add to this bank, in place unless -o is given; clips that it holds are not encoded"
            " again.",
        ),
    ] = None,
    none: Annotated[
        list[str] | None,
        typer.Option(
            "--none",
            metavar="SOURCE",
            help="Background clips, in which none of the actions happens: a video, which is cut into"
            " windows, a folder, or a camera or stream, of which a minute is recorded; repeatable.",
        ),
    ] = None,
    far: opt.FarOption = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="F.html", help="Write the quality report as HTML."),
    ] = None,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Store no small pictures of the clips in the bank.")
    ] = False,
    model: opt.ModelOption = None,
    engine: opt.EngineOption = "auto",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="auto|on|off",
            callback=opt.one_of(opt.TEXTS),
            autocompletion=opt.complete(opt.TEXTS),
            help="Use class names in the scores. Default: auto, by leave-one-out; with --add the"
            " bank's choice.",
        ),
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(
            "--views",
            metavar="auto|raw|W",
            callback=opt.check_views,
            autocompletion=opt.complete(("auto", "raw")),
            help="What features are matched by; kept in the bank. Default: auto, the model's choice;"
            " with --add the bank's.",
        ),
    ] = None,
    roi: opt.RoiOption = None,
    fit: opt.FitOption = None,
    rotate: opt.RotateOption = None,
    hflip: opt.HflipFlag = None,
    skip_bad: opt.SkipBadFlag = False,
    frames_pattern: opt.FramesPatternOption = None,
    ignore_clock: opt.IgnoreClockOption = None,
    no_cache: opt.NoCacheFlag = False,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Encode support clips into a bank and report how good they are."""
    from mafsar.cli.inputs import engine_choice, geometry_of, load_encoder
    from mafsar.runtime.bank.bank import read_bank
    from mafsar.runtime.bank.enroll import enroll as run
    from mafsar.runtime.bank.quality import judge
    from mafsar.runtime.encoder import provenance

    target = _target(out, add)
    same = out is not None and add is not None and out.resolve() == add.resolve()
    targets.check_outputs(
        {"--out": None if same else out, "--report": report},
        overwrite,
        inputs={
            "the support": [support],
            "--none": [word for word in none or () if not is_live(word)],
            "the bank of --add": [add],
            "the model": [model],
        },
        kinds={"--out": "bank"},
    )
    began = time.perf_counter()
    held = None if add is None else read_bank(add)
    choice = engine_choice(engine, device, precision, cache=not no_cache)
    encoder = load_encoder(model, choice, held)
    options: dict[str, Any] = {
        "text": text,
        "views": None if views is None else opt.views_of(views),
        "geometry": geometry_of(roi, fit, rotate, hflip),
    }
    with _background(none) as found, voice.progress("encoding clips") as bar:
        bank = run(
            support,
            encoder,
            add_to=held,
            none=found or None,
            far=far,
            on_error="skip" if skip_bad else "raise",
            frames_pattern=frames_pattern,
            cache=not no_cache,
            images=report is not None or not no_images,
            progress=bar,
            ignore_clock=ignore_clock,
            **options,
        )
    for line in bank.repairs:
        voice.warn(line)
    bank = _save(bank, target, held, images=not no_images, overwrite=overwrite)
    judged = judge(bank)
    outputs.say_written(target)
    if report is not None:
        from mafsar.files import write_text
        from mafsar.runtime.report.enroll_page import enroll_page

        write_text(report, enroll_page(judged, bank, title=f"Quality of {target.name}"))
        outputs.say_written(report)
    seconds = time.perf_counter() - began
    if json_lines:
        facts = {"bank": str(target), "seconds": seconds} | provenance(encoder)
        outputs.print_json(sys.stdout, judged.to_json() | facts)
    else:
        _show(judged, bank, target, encoder, seconds)


@contextlib.contextmanager
def _background(words: Sequence[str] | None) -> Iterator[list[str]]:
    """The sources of ``--none`` as files; of live ones a minute is recorded, and kept until the end."""
    with tempfile.TemporaryDirectory(prefix="mafsar-none-") as name:
        found: list[str] = []
        for number, word in enumerate(words or ()):
            if not is_live(word):
                found.append(word)
                continue
            from mafsar.runtime.live.record import record_background
            from mafsar.video.live.place import places_of

            (place,) = places_of(word)
            clips = record_background(place, Path(name) / str(number), say=voice.tell)
            found += map(str, clips)
        yield found


def _save(bank: Bank, target: Path, held: Bank | None, *, images: bool, overwrite: bool) -> Bank:
    """Writes the bank, or adds to the one that is at its place; returns what is there now."""
    from mafsar.runtime.bank.update import save_added

    if held is not None and held.path is not None and target.resolve() == held.path.resolve():
        now = save_added(
            target,
            held,
            bank,
            images=images,
            waiting=lambda: voice.note(f"waiting for another process that changes {target}"),
        )
        return replace(now, notes=bank.notes)
    bank.save(target, images=images, overwrite=overwrite)
    return bank


def _target(out: Path | None, add: Path | None) -> Path:
    """The file to write: ``-o``, else the bank of ``--add`` in place."""
    from mafsar.runtime.bank.bank import SUFFIX

    target = out or add
    if target is None:
        raise typer.BadParameter("enroll: no place for the bank; add -o BANK.safetensors")
    if target.suffix != SUFFIX:
        flag = "--out" if out else "--add"
        raise InputError(f"{flag} {target}: a bank ends in {SUFFIX}; name it {target.stem}{SUFFIX}")
    return target


def _show(judged: EnrollReport, bank: Bank, target: Path, encoder: Encoder, seconds: float) -> None:
    from mafsar.cli.inputs import none_line, text_line, views_line

    encoding = getattr(sys.stdout, "encoding", None)
    rows = table.new_table(
        ("class", "fold"), ("text", "fold"), ("clips", "right"), "right when left out"
    )
    for item in judged.classes:
        if item.right is None:
            table.add_row(rows, item.label, item.text, str(item.clips), "– (one clip)")
            continue
        bar = table.bar(item.right / item.clips, encoding=encoding, number=False)
        bar.append(f" {item.right} of {item.clips}")
        table.add_row(rows, item.label, item.text, str(item.clips), bar)
    if judged.none_clips:
        table.add_row(rows, "_none", "", str(judged.none_clips), "– (background clips)")
    lines = [f"- {worded(line)}" for line in (*judged.notes, *judged.advice)]
    size = target.stat().st_size / 1e6
    summary = (
        f"wrote {target}: {opt.count(len(bank.classes), 'class')},"
        f" {opt.count(len(bank.clips), 'clip')}, {size:.2f} MB · {encoder.spec.shown},"
        f" {encoder.engine} on {encoder.device}, {encoder.precision} · {seconds:.2f} s"
    )
    said = [text_line(bank), none_line(bank), *views_line(bank.scoring, bank.model.adapters)]
    sys.stdout.write(f"{judged.verdict}\n\n")
    table.show(sys.stdout, rows, after=["", *lines, *said, summary])
