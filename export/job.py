"""`mafsar export`: from a model or a bundle to a bundle with verified artefacts (no torch here).

torch is loaded only where the model is no bundle.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mafsar.errors import InputError, MafsarError
from mafsar.export.bundle_draft import BundleDraft, bundle_draft, check_replaceable
from mafsar.export.bundle_folder import alone, unwritable
from mafsar.export.engines.add import add_engines
from mafsar.export.model_source import MODEL_KEYS, Source
from mafsar.export.options import Artefact, ExportOptions, ExportResult
from mafsar.export.verify.clips import calibration_clips
from mafsar.export.verify.judge import Judgement
from mafsar.export.versions import GRAPHS, made_by
from mafsar.extras import require
from mafsar.model.names import MANIFEST, graph_file, weights_file
from mafsar.runtime.encoder import ModelSpec
from mafsar.runtime.engines.bundle import Bundle, read_manifest, spec_of
from mafsar.runtime.engines.probe import LIMITS, PROBE_FILE

Say = Callable[[str], None]


def export_model(
    model: str | Path = "tiny",
    out: str | Path | None = None,
    *,
    options: ExportOptions | None = None,
    say: Say = lambda _: None,
) -> ExportResult:
    """Exports a model, or adds to a bundle, and verifies what it made.

    Args:
        model: `tiny`, a bundle, a CLIP's name, a run folder or trained adapters.
        out: The bundle; None = the model itself where it is a bundle of the user's, else
            `NAME.mafsar` in the current folder. A bundle of the same weights is added to.
        options: What is wanted.
        say: Called with a line when a step begins.

    Raises:
        MafsarError: What is wrong and what to do; nothing is left of what was not verified.
    """
    options = options or ExportOptions()
    options.check()
    source = Source.find(str(model), options)
    target = source.default_out() if out is None else Path(out)
    check_replaceable(target)
    try:
        with alone(target.resolve(), waiting=lambda: say(f"waiting: {target} is being changed")):
            return _export(source, target, options, say)
    except OSError as error:
        raise unwritable(target, error) from error


def export_held(name: str, target: Path, *, say: Say = lambda _: None) -> ExportResult:
    """As `export_model` with no options, for who holds the target's place already."""
    options = ExportOptions()
    return _export(Source.find(name, options), target, options, say)


def _export(source: Source, target: Path, options: ExportOptions, say: Say) -> ExportResult:
    start = source.bundle
    if _holds(target, source, options):
        start = target
    artefacts: list[Artefact] = []
    model_name = ""
    if options.engine == "onnx" or start != target or not _has_graphs(target, options):
        with bundle_draft(target, start) as draft:
            artefacts += _make_graphs(draft, source, options, say)
            if not artefacts and start == target and options.engine == "onnx":
                raise InputError(_nothing_to_do(target, source, options))
            model_name = draft.manifest["name"]
    # A bundle whose graphs are verified stays, also where no engine can be built here: it is what
    # goes to the device.
    if options.engine == "trt":
        with bundle_draft(target, target) as draft:
            artefacts += _make_engines(draft, str(target), options, say)
            model_name = draft.manifest["name"]
    return ExportResult(target, model_name, tuple(artefacts))


def _holds(target: Path, source: Source, options: ExportOptions) -> bool:
    """Whether the target is a bundle of this very model, to be added to.

    Raises:
        MafsarError: It is damaged or another model's, and is not to be replaced.
    """
    if not (target / MANIFEST).is_file():
        return False
    try:
        manifest = Bundle.open(target).manifest
    except MafsarError:
        if options.overwrite:
            return False
        raise
    differs = [key for key in MODEL_KEYS if manifest.get(key) != source.model[key]]
    if differs and not options.overwrite:
        what = (
            f"another model ({manifest['name']})"
            if "weights_sha256" in differs
            else f"{manifest['name']} with other {' and '.join(differs)}"
        )
        raise InputError(
            f"{target}: holds {what}; name another -o, or add --overwrite (-y) to replace it"
        )
    return not differs


def _nothing_to_do(target: Path, source: Source, options: ExportOptions) -> str:
    wanted = options.precision or "fp32 and fp16"
    if options.overwrite and source.network is None:
        return (
            f"{wanted}: a bundle's fp32 graphs are made from the model itself: "
            f"mafsar export MODEL -o {target} --overwrite"
        )
    return f"{wanted}: the bundle has these graphs already; add --overwrite (-y) to make them again"


def _has_graphs(bundle: Path, options: ExportOptions) -> bool:
    """Whether a bundle holds what an engine is built from and checked with."""
    names = read_manifest(bundle)["files"]
    precision = options.precision or "fp32"
    return graph_file("query", precision) in names and PROBE_FILE in names


def _make_graphs(
    draft: BundleDraft, source: Source, options: ExportOptions, say: Say
) -> list[Artefact]:
    """Makes the graphs that are wanted and verifies them."""
    made = _write_graphs(draft, source, options, say)
    judgement = Judgement(
        draft, source.network, data=options.data, min_cosine=options.min_cosine, say=say
    )
    artefacts = [_graphs_of(draft, judgement, precision, options) for precision in made]
    if options.precision == "int8" and (
        options.overwrite or not draft.has(graph_file("query", "int8"))
    ):
        artefacts.append(_make_int8(draft, judgement, options, say))
    if "fp32" in made or not draft.has(PROBE_FILE):
        judgement.probe()
    for artefact in artefacts:
        entry = artefact.verification | {"made_by": made_by(*GRAPHS)}
        draft.manifest.setdefault("parity", {})[artefact.name] = entry
    return artefacts


def _graphs_of(
    draft: BundleDraft, judgement: Judgement, precision: str, options: ExportOptions
) -> Artefact:
    verification: dict[str, Any] = {"verified": "no"}
    if options.verify:
        verification = judgement.graphs(precision).to_json()
    return _artefact(draft, judgement.spec, precision, verification)


def _artefact(
    draft: BundleDraft, spec: ModelSpec, precision: str, verification: dict[str, Any]
) -> Artefact:
    files = _graph_files(spec, precision)
    if precision == "fp32" and spec.text:
        files = (*files, graph_file("text"))
    size = sum((draft.folder / name).stat().st_size for name in files)
    return Artefact(f"onnx-{precision}", files, size, verification)


def _make_int8(
    draft: BundleDraft, judgement: Judgement, options: ExportOptions, say: Say
) -> Artefact:
    """Makes the int8 graphs; in float32 stays what must for them to pass."""
    _check_onnx_ir("int8")
    from mafsar.export.graphs.int8_exceptions import Int8Maker

    spec = judgement.spec
    clips = calibration_clips(spec, options.calibration)
    say(f"calibrating int8 on {len(clips)} clips ({clips.source})")
    text = judgement.embed(clips) if spec.text_in_support else None
    maker = Int8Maker(draft.folder, _branches(spec), clips, text)
    choice = maker.make((lambda: judgement.graphs("int8")) if options.verify else None)
    if choice.kept:
        say(f"in float32 stay, to pass: {', '.join(choice.kept)}")
    verification: dict[str, Any] = {"verified": "no"}
    if choice.report is not None:
        verification = choice.report.to_json()
    verification["int8"] = {
        "calibration": clips.source,
        "calibration_clips": len(clips),
        "weights": len(choice.weights),
        "kept_float32": list(choice.kept),
    }
    return _artefact(draft, spec, "int8", verification)


def _make_engines(
    draft: BundleDraft, bundle: str, options: ExportOptions, say: Say
) -> list[Artefact]:
    """Builds the engines of one precision; those that run here are verified here."""
    precision = options.precision or "fp32"
    built = add_engines(
        draft,
        _spec(draft),
        bundle=bundle,
        precision=precision,
        min_cosine=options.min_cosine or LIMITS[precision],
        wish=options.engines,
        overwrite=options.overwrite,
        say=say,
    )
    report: dict[str, Any] = {}
    if not options.verify:
        for engine in built:
            engine.mark(draft.folder, "no")
    elif all(engine.runs_here for engine in built):
        # The graphs are the reference: they have passed against torch, and torch may not be here.
        judgement = Judgement(
            draft, None, data=options.data, min_cosine=options.min_cosine, say=say
        )
        report = judgement.engines(built).to_json()
        for engine in built:
            engine.mark(draft.folder, "engine")
            draft.manifest.setdefault("parity", {})[engine.name] = report
    shown = ("verified", "layers", "engine_layers", "weight_bytes", "seconds", "peak_mb")
    artefacts = []
    for engine in built:
        side_car = str(Path(engine.name).with_suffix(".json"))
        verification = report | {name: engine.entry[name] for name in shown}
        artefacts.append(
            Artefact(engine.name, (engine.name, side_car), engine.entry["bytes"], verification)
        )
    return artefacts


def _write_graphs(
    draft: BundleDraft, source: Source, options: ExportOptions, say: Say
) -> list[str]:
    """Writes the graphs that are missing or to be made again; returns their precisions."""
    made: list[str] = []
    again = options.overwrite and options.engine == "onnx"
    if source.network is not None and (
        not draft.has(graph_file("query")) or (again and options.precision in (None, "fp32"))
    ):
        from mafsar.export.graphs.network_bundle import export_bundle, write_tokenizer

        say("exporting the fp32 graphs")
        tokenizer = write_tokenizer(source.network, draft.folder.with_suffix(".tokenizer"))
        before = dict(draft.manifest)
        try:
            fresh = draft.folder.with_suffix(".fresh")
            export_bundle(source.network, tokenizer, fresh, extra=source.extra, overwrite=True)
            for path in fresh.iterdir():
                path.replace(draft.folder / path.name)
            fresh.rmdir()
        finally:
            tokenizer.unlink(missing_ok=True)
        draft.reload()
        _keep_records(draft, before)
        made.append("fp32")
    spec = _spec(draft)
    has_half = draft.has(*_graph_files(spec, "fp16"))
    made_again = again and options.precision in (None, "fp16")
    if "fp32" in made or not has_half or made_again:
        if options.precision == "fp16" or options.engine == "onnx":
            _check_onnx_ir("fp16")
        elif importlib.util.find_spec("onnx_ir") is None:
            return made
        from mafsar.export.graphs.half import write_half_graphs

        say("making the fp16 graphs")
        write_half_graphs(draft.folder, _branches(spec), draft.folder)
        made.append("fp16")
    return made


def _keep_records(draft: BundleDraft, before: dict[str, Any]) -> None:
    """Keeps what an older manifest says of engines and graphs that the new fp32 graphs leave valid.

    Engines of other graphs are dropped when the draft is finished; int8 graphs here, whose ranges
    and float32 products were found for the old ones.
    """
    if "engines" in before:
        draft.manifest["engines"] = before["engines"]
    records = {
        name: record
        for name, record in before.get("parity", {}).items()
        if isinstance(record, dict) and name not in draft.manifest["parity"]
    }
    old = before.get("files", {})
    parts = [*(graph_file(each) for each in _branches(_spec(draft))), weights_file("fp32")]
    if any(draft.manifest["files"].get(name) != old.get(name) for name in parts):
        records.pop("onnx-int8", None)
        for name in _graph_files(_spec(draft), "int8"):
            (draft.folder / name).unlink(missing_ok=True)
    draft.manifest["parity"] |= records


def _check_onnx_ir(precision: str) -> None:
    require(
        f"--precision {precision}: making the graph",
        "onnx_ir",
        extra="graphs",
        otherwise="export elsewhere and copy the bundle",
    )


def _branches(spec: ModelSpec) -> tuple[str, ...]:
    return ("query", "support") if spec.text_in_support else ("query",)


def _spec(draft: BundleDraft) -> ModelSpec:
    return spec_of(draft.folder, draft.manifest)


def _graph_files(spec: ModelSpec, precision: str) -> tuple[str, ...]:
    names = [graph_file("query", precision), weights_file(precision)]
    if spec.text_in_support:
        names.insert(1, graph_file("support", precision))
    return tuple(names)
