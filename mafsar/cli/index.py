"""``mafsar index``: encodes an archive of videos once."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mafsar.cli import options as opt
from mafsar.cli import voice

if TYPE_CHECKING:
    from mafsar.choices import EngineChoice
    from mafsar.runtime.archive.build import IndexReport, RunFiles
    from mafsar.runtime.archive.parts import FileRecord
    from mafsar.runtime.bank.bank import Bank
    from mafsar.runtime.encoder import Encoder

SCHEMA = 1


def index(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Videos, frame folders, folders, or NAME=SOURCE."),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="INDEX", help="The folder of the index, or an object store's."
        ),
    ],
    model: opt.ModelOption = None,
    bank: Annotated[
        Path | None,
        typer.Option(
            "--bank",
            metavar="BANK",
            help="Take model, picture and lengths of the windows from this bank.",
        ),
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            "--window",
            metavar="auto|S[,S]",
            help="Lengths of the windows, one to three, seconds. auto: by the clips of --bank, else 2.",
        ),
    ] = "auto",
    stride: Annotated[
        str,
        typer.Option(
            "--stride",
            metavar="auto|S",
            help="Step between windows, seconds. auto: a quarter of their length.",
        ),
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="Files at once. Default: one per CPU core."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Add what is new to a finished index.")
    ] = False,
    ray: opt.RayOption = None,
    engine: opt.EngineOption = "auto",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    roi: opt.RoiOption = None,
    fit: opt.FitOption = None,
    rotate: opt.RotateOption = None,
    hflip: opt.HflipFlag = None,
    ignore_clock: opt.IgnoreClockOption = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Exit 0 also where files cannot be read.")
    ] = False,
    no_cache: opt.NoCacheFlag = False,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Encode an archive of videos once, to search it for actions any number of times."""
    from mafsar.cli.inputs import engine_choice, geometry_of
    from mafsar.runtime.archive.build import build_index
    from mafsar.runtime.archive.settings import IndexSettings
    from mafsar.runtime.archive.store import Store
    from mafsar.video.live.place import places_of_all

    lengths, step = opt.window_lengths(window), opt.seconds_or_auto("--stride", stride)
    places = places_of_all(sources)
    store = Store(out)
    choice = engine_choice(engine, device, precision, cache=not no_cache)
    held, encoder = _open(model, bank, choice)
    geometry, plan = _cut_by(held, encoder, geometry_of(roi, fit, rotate, hflip), lengths, step)
    settings = IndexSettings.of(encoder, plan, geometry, ignore_clock)
    _say_plan(settings, len(places))
    with voice.progress("indexing", total=len(places)) as bar:
        report = build_index(
            store,
            settings,
            encoder,
            places,
            workers=workers or os.cpu_count() or 1,
            resume=resume,
            overwrite=overwrite,
            heard=_print_file if json_lines else None,
            progress=bar,
            run=None if ray is None else _on_ray(ray, encoder, choice, workers),
            waiting=lambda: voice.note(f"waiting for another process that changes {out}"),
        )
    _finish(report, out, json_lines=json_lines, skip_bad=skip_bad)


def _open(
    model: str | None, bank: Path | None, choice: EngineChoice
) -> tuple[Bank | None, Encoder]:
    """The bank, if one is named, and the encoder.

    On a CPU, ONNX Runtime gets one thread for each file: several files side by side keep all cores
    busy, and a row does not depend on how many threads computed it.
    """
    from mafsar.cli.inputs import load_encoder
    from mafsar.runtime.bank.bank import read_bank

    held = None if bank is None else read_bank(bank)
    encoder = load_encoder(model, replace(choice, threads=1), held)
    if held is not None:
        held.check_encoder(encoder)
    if (encoder.engine, encoder.device) != ("onnx", "cpu"):
        encoder = load_encoder(model, choice, held)
    return held, encoder


def _on_ray(address: str, encoder: Encoder, choice: EngineChoice, workers: int | None) -> RunFiles:
    """Encodes the files by the actors of a cluster."""
    from mafsar.runtime.archive.ray_index import run_on_ray
    from mafsar.runtime.archive.ray_pool import RayPool

    pool = RayPool(
        encoder.spec.path or encoder.spec.name, choice, address, workers, voice.is_verbose()
    )
    return run_on_ray(pool)


def _cut_by(
    bank: Bank | None, encoder: Encoder, geometry: Any, lengths: Any, stride: float | None
) -> tuple[Any, Any]:
    """The picture's geometry and the plan of the windows."""
    from mafsar.runtime.bank.bank import check_geometry
    from mafsar.runtime.live.windows import name_windows, plan_windows
    from mafsar.video import Geometry

    frames = encoder.spec.frames
    if bank is None:
        return geometry or Geometry(), name_windows(lengths, frames, stride)
    check_geometry(bank, geometry)
    return bank.geometry, plan_windows(bank, frames, lengths, stride)


def _say_plan(settings: Any, files: int) -> None:
    each = ", ".join(
        f"{length:.2g} s every {stride:.2g} s"
        for length, stride in zip(settings.lengths, settings.strides, strict=True)
    )
    voice.note(f"windows: {each}; {opt.count(files, 'file')}")


def _print_file(name: str, record: FileRecord) -> None:
    import sys

    from mafsar.cli.outputs import print_json

    said = asdict(record)
    shown = {"schema": SCHEMA, "source": name}
    for key in ("content_sha256", "windows", "duration_seconds", "fps", "repairs", "error"):
        shown[key] = list(said[key]) if key == "repairs" else said[key]
    print_json(sys.stdout, shown)


def _finish(report: IndexReport, out: str, *, json_lines: bool, skip_bad: bool) -> None:
    """The summary; exit 1 where files could not be read, unless the user wants to go on."""
    import sys

    from mafsar.errors import VideoError
    from mafsar.plain import say

    repaired = [
        f"{each.name}: {'; '.join(each.record.repairs)}"
        for each in report.sources
        if each.record.repairs
    ]
    voice.warn_of_repairs(repaired, f"; the sources table of {out} has all")
    seconds = sum(each.record.duration_seconds for each in report.sources if each.same_as is None)
    failed = report.failed
    if not json_lines:
        say(
            sys.stdout,
            f"{out}: {opt.count(report.windows, 'window')} of"
            f" {opt.count(len(report.sources) - len(failed), 'file')}, {seconds / 3600:.2f} hours;"
            f" {report.new} new, {report.known} known\n",
        )
    for each in failed[:20]:
        voice.warn(str(each.record.error))
    if failed and not skip_bad:
        raise VideoError(
            f"{opt.count(len(failed), 'file')} of {len(report.sources)} could not be read; the others"
            f" are in {out}; fix them and run the command again with --resume, or add --skip-bad"
        )
