"""``mafsar bench``: how long each stage takes here, engines and precisions side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from mafsar.choices import ENGINES, PRECISIONS
from mafsar.cli import options as opt
from mafsar.cli import outputs, table, targets, voice
from mafsar.cli.wording import worded
from mafsar.errors import InputError

if TYPE_CHECKING:
    from mafsar.runtime.encoder import Encoder
    from mafsar.runtime.evaluation.bench import BenchResult


def check_engines(value: str) -> str:
    """A list of engines."""
    for name in opt.listed(value) or [""]:
        opt.one_of(ENGINES)(name)
    return value


def check_precisions(value: str | None) -> str | None:
    """A list of precisions."""
    for name in [] if value is None else opt.listed(value) or [""]:
        opt.one_of(PRECISIONS)(name)
    return value


def check_batches(value: str) -> str:
    """A list of whole numbers."""
    sizes = opt.listed(value)
    if not sizes or not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise typer.BadParameter(f"{value!r} is not a list of whole numbers such as 1,8")
    return value


def bench(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model name, run folder or bundle.")
    ] = "tiny",
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="onnx,openvino,trt",
            callback=check_engines,
            help="Engines to compare.",
        ),
    ] = "onnx",
    device: opt.DeviceOption = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="fp32,fp16,int8",
            callback=check_precisions,
            help="Precisions to compare. Default: all in the bundle.",
        ),
    ] = None,
    batch: Annotated[
        str,
        typer.Option("--batch", metavar="1,8", callback=check_batches, help="Clips in each call."),
    ] = "1",
    runs: Annotated[
        int, typer.Option("--runs", min=1, metavar="N", help="Timed calls of each stage.")
    ] = 50,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            metavar="S",
            help="Time the encoder for this long instead: a sustained figure.",
        ),
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option("--clip", metavar="F", help="Clip to decode. Default: a rendered one."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="F", help="Write the table as Markdown.")
    ] = None,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Time decoding, pre-processing, encoding and matching, and check parity."""
    from mafsar.files import write_text
    from mafsar.runtime.evaluation import bench as runtime

    targets.check_outputs(
        {"--markdown": markdown, "--out": out},
        overwrite,
        inputs={"the clip": [clip], "the model": [model]},
    )
    if seconds is not None and not seconds > 0:
        raise InputError(f"--seconds {seconds:g}: must be over 0")
    with outputs.results_to(out, overwrite=overwrite) as stream:
        encoders, reference = _open(model, opt.listed(engine), device, opt.listed(precision or ""))
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
            outputs.say_written(markdown)
        if json_lines:
            for line in result.to_json():
                outputs.print_json(stream, line)
        else:
            _show(stream, result)


def _open(
    model: str, engines: list[str], device: str, precisions: list[str]
) -> tuple[list[Encoder], Encoder]:
    """The encoders to compare, and the one that they are compared with."""
    from mafsar.cli.inputs import engine_choice, make_bundle
    from mafsar.runtime.engines.loading import open_model, precisions_of

    encoders = [
        open_model(model, engine_choice(name, device, each))
        for name in engines
        for each in precisions or precisions_of(model, name, make_bundle=make_bundle)
    ]
    for encoder in encoders:
        voice.note(encoder.spec.notice)
        voice.note(worded(encoder.choice))
    # A bundle's own graphs have passed against torch.
    by = "torch" if engines == ["torch"] else "onnx"
    for encoder in encoders:
        if (encoder.engine, encoder.device, encoder.precision) == (by, "cpu", "fp32"):
            return encoders, encoder
    return encoders, open_model(model, engine_choice(by, "cpu", "fp32"))


def _show(stream: TextIO, result: BenchResult) -> None:
    from mafsar.runtime.evaluation.bench import TITLES, memory_line, table_rows

    words = ("engine", "device", "precision", "stage")
    rows = table.new_table(*(name if name in words else (name, "right") for name in TITLES))
    for cells in table_rows(result):
        table.add_row(rows, *cells)
    facts = ", ".join(f"{name} {value}" for name, value in result.system.items())
    how = (
        f"milliseconds a call; clip: {result.clip}; parity to {result.rows[0].reference}; "
        f"peak memory {memory_line(result)}"
    )
    table.show(stream, rows, after=["", how, facts])
