"""``mafsar export``: a model or a bundle into a bundle, always verified."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO, cast

import typer

from mafsar.choices import PRECISIONS
from mafsar.cli import options as opt
from mafsar.cli import outputs, table, targets, voice
from mafsar.errors import InputError

if TYPE_CHECKING:
    from mafsar.choices import Precision
    from mafsar.export.options import ExportEngine, ExportResult

_OPSET = 20


def check_batch(value: str) -> str:
    """Whole numbers, comma-separated."""
    if not all(size.isdigit() for size in opt.listed(value)) or not opt.listed(value):
        raise typer.BadParameter(f"{value!r} is not a list of whole numbers such as 1,8,32")
    return value


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="tiny, a bundle, vit-b-32, NAME:random, NAME:/path/weights, a run folder or an"
            " adapters.safetensors.",
        ),
    ] = "tiny",
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="onnx|trt",
            callback=opt.one_of(("onnx", "trt")),
            autocompletion=opt.complete(("onnx", "trt")),
            help="Engine that the bundle is for.",
        ),
    ] = "onnx",
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="|".join(PRECISIONS),
            callback=opt.one_of(PRECISIONS),
            autocompletion=opt.complete(PRECISIONS),
            help="Precision of the engine. fp32 and fp16 graphs are always written, int8 on demand."
            " Default: fp32.",
        ),
    ] = None,
    batch: Annotated[
        str,
        typer.Option(
            "--batch",
            metavar="1,8,32",
            callback=check_batch,
            help="Batch sizes of an engine; smaller batches are padded to the next size.",
        ),
    ] = "1,8,32",
    frames: Annotated[
        int | None,
        typer.Option("--frames", metavar="N", help="Frames of a clip. Default: the model's."),
    ] = None,
    calib: Annotated[
        Path | None,
        typer.Option(
            "--calib",
            metavar="DIR",
            help="Clips to take int8 ranges from. Default: rendered clips.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Labelled clips to verify on. Default: rendered clips."
        ),
    ] = None,
    compute_capability: Annotated[
        str | None,
        typer.Option(
            "--compute-capability",
            metavar="8.6",
            help="GPU that an engine is built for. Default: this one.",
        ),
    ] = None,
    workspace: Annotated[
        float,
        typer.Option(
            "--workspace", metavar="GiB", help="Memory that the builder of an engine may use."
        ),
    ] = 2.0,
    opset: Annotated[
        int, typer.Option("--opset", metavar="N", help="ONNX opset; only 20 is written.")
    ] = _OPSET,
    min_cosine: Annotated[
        float | None,
        typer.Option(
            "--min-cosine",
            metavar="X",
            help="Smallest cosine that passes. Default: fp32 0.9999, fp16 0.999, int8 0.98.",
        ),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Skip verification; the bundle records this.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="NAME.mafsar",
            help="Bundle to make or add to. Default: the given bundle, else NAME.mafsar here.",
        ),
    ] = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Write a verified bundle, or add to one: ONNX graphs and TensorRT engines."""
    from mafsar.export.job import export_model
    from mafsar.runtime.machine.system import peak_bytes

    if opset != _OPSET:
        raise InputError(
            f"--opset {opset}: graphs are written in opset {_OPSET} only; omit this flag"
        )
    if out is not None:
        targets.refuse_places([("--out", out)])
    began = time.perf_counter()
    result = export_model(
        model,
        out,
        engine=cast("ExportEngine", engine),
        precision=cast("Precision | None", precision),
        frames=frames,
        calibration=calib,
        data=data,
        min_cosine=min_cosine,
        verify=not no_verify,
        overwrite=overwrite,
        batch=tuple(int(size) for size in opt.listed(batch)),
        compute_capability=compute_capability,
        workspace_gib=workspace,
        quiet=voice.is_quiet(),
        say=voice.note,
    )
    seconds = time.perf_counter() - began
    voice.note(f"exported in {seconds:.0f} s, peak memory {peak_bytes() / 1e9:.1f} GB")
    if not result.artefacts:
        voice.note(f"{result.path}: a copy of {model}; there was nothing to add")
    elif json_lines:
        for line in result.to_json():
            outputs.print_json(sys.stdout, line)
    else:
        _show(sys.stdout, result)
    outputs.say_written(result.path)


def _show(stream: TextIO, result: ExportResult) -> None:
    rows = table.new_table(
        ("made", "fold"),
        ("size, MB", "right"),
        ("least cosine", "right"),
        ("least, centred", "right"),
        ("largest error", "right"),
        ("accuracy, %", "right"),
        ("ms a clip", "right"),
        "verified",
    )
    for item in result.artefacts:
        found = item.verification
        if "outputs" not in found:
            how = found["verified"]
            if how == "graph":
                products = found["layers"]["MATRIX_MULTIPLY"].items()
                how = f"graph ({', '.join(f'{n} {kind} products' for kind, n in products)})"
            table.add_row(rows, item.name, f"{item.size_bytes / 1e6:.1f}", *[""] * 5, how)
            continue
        each = list(found["outputs"].values())
        table.add_row(
            rows,
            item.name,
            f"{item.size_bytes / 1e6:.1f}",
            f"{min(output['cosine'] for output in each):.6f}",
            f"{min(output['centred_cosine'] for output in each):.6f}",
            f"{max(output['max_error'] for output in each):.2g}",
            f"{found['accuracy']:.2f} ({found['accuracy_reference']:.2f})",
            f"{found['seconds_per_clip'] * 1e3:.1f} ({found['seconds_per_clip_reference'] * 1e3:.1f})",
            f"{found['verified']}, {found['clips']} {found['data']} clips",
        )
    after = ["", f"{result.path}: {result.model}; in brackets: the reference"]
    table.show(stream, rows, after=after)
