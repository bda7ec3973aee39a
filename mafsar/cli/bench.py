"""``mafsar bench``: how long each stage takes here, engines side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, table, voice
from mafsar.errors import InputError

if TYPE_CHECKING:
    from mafsar.runtime.bench import BenchResult

_ENGINES = ("onnx", "trt", "torch")


def check_engines(value: str) -> str:
    """A list of engines."""
    for name in opt.listed(value) or [""]:
        opt.one_of(_ENGINES)(name)
    return value


def check_batches(value: str) -> str:
    """A list of whole numbers."""
    sizes = opt.listed(value)
    if not sizes or not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise typer.BadParameter(f"{value!r} is not a list of whole numbers, as 1,8")
    return value


def bench(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="Model or bundle.")] = "tiny",
    engine: Annotated[
        str,
        typer.Option(
            "--engine", metavar="onnx,trt", callback=check_engines, help="Engines to compare."
        ),
    ] = "onnx",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    batch: Annotated[
        str,
        typer.Option("--batch", metavar="1,8", callback=check_batches, help="Clips a call."),
    ] = "1",
    runs: Annotated[int, typer.Option("--runs", min=1, help="Timed calls of a stage.")] = 50,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="S", help="Encode for so long: a sustained figure."),
    ] = None,
    clip: Annotated[
        Path | None, typer.Option("--clip", metavar="F", help="What is decoded; else rendered.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="F", help="Write the table as Markdown.")
    ] = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Time decode, pre-process, encode and match apart, with the parity of what was timed."""
    from mafsar.cli.opening import make_bundle
    from mafsar.runtime import bench as runtime
    from mafsar.runtime.files import write_text
    from mafsar.runtime.loading import load_model

    outputs.refuse_existing({"--markdown": markdown}, overwrite)
    if seconds is not None and not seconds > 0:
        raise InputError(f"--seconds {seconds:g}: must be over 0")
    engines = opt.listed(engine)
    encoders = [
        load_model(model, engine=name, device=device, precision=precision, make_bundle=make_bundle)
        for name in engines
    ]
    for encoder in encoders:
        voice.note(encoder.spec.notice)
        voice.note(encoder.choice)
    # Of the bundle's own graphs, where one is timed: they have passed against torch.
    by = "torch" if engines == ["torch"] else "onnx"
    reference = load_model(model, engine=by, device="cpu", make_bundle=make_bundle)
    with voice.progress("timing") as bar:
        result = runtime.bench(
            encoders,
            reference,
            batches=[int(size) for size in opt.listed(batch)],
            runs=runs,
            seconds=seconds,
            clip=clip,
            progress=bar,
        )
    if markdown is not None:
        write_text(markdown, runtime.markdown(result))
        voice.note(f"wrote {markdown}")
    if json_lines:
        for line in result.to_json():
            outputs.print_json(sys.stdout, line)
    else:
        _show(sys.stdout, result)


def _show(stream: TextIO, result: BenchResult) -> None:
    rows = table.new_table(
        "engine",
        ("batch", "right"),
        "stage",
        *(("mean", "right"), ("sd", "right"), ("min", "right")),
        *(("median", "right"), ("p95", "right"), ("p99", "right")),
        ("clips/s", "right"),
        ("least cosine", "right"),
    )
    for row in result.rows:
        name = f"{row.engine} {row.precision} {row.device}"
        for stage, found in row.milliseconds.items():
            numbers = (found.mean, found.sd, found.min, found.median, found.p95, found.p99)
            last = (f"{row.clips_per_second:.1f}", f"{row.min_cosine:.6f}")
            table.add_row(
                rows,
                name,
                str(row.batch),
                stage,
                *(f"{number:.2f}" for number in numbers),
                *(last if stage == "encode" else ("", "")),
            )
    facts = ", ".join(f"{name} {value}" for name, value in result.system.items())
    after = ["", f"milliseconds a call; clip: {result.clip}", facts]
    table.show(stream, rows, after=after, widest=120)
