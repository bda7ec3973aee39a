"""`mafsar.export_model`: exports a model, or adds to a bundle, and verifies what it made.

torch is loaded only where the model is not a bundle.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mafsar.choices import Precision
from mafsar.errors import InputError, MafsarError, Placeholder, call, option
from mafsar.export.bundle_draft import (
    BundleDraft,
    bundle_draft,
    check_replaceable,
    refuse_foreign,
)
from mafsar.export.bundle_folder import locked, unwritable
from mafsar.export.engines.add import add_engines
from mafsar.export.engines.check import verify_engines
from mafsar.export.model_source import MODEL_KEYS, ModelSource
from mafsar.export.options import (
    Artefact,
    EngineOptions,
    ExportEngine,
    ExportOptions,
    ExportResult,
)
from mafsar.export.verify.clips import PROBE_CLIPS, RENDERED_CLIPS, calibration_clips
from mafsar.export.verify.verifier import Verifier
from mafsar.export.versions import GRAPHS, made_by
from mafsar.extras import require
from mafsar.model.names import MANIFEST, graph_file, weights_file
from mafsar.runtime.engines.bundle import Bundle, read_manifest
from mafsar.runtime.engines.negatives import NEGATIVES_FILE
from mafsar.runtime.engines.probe import LIMITS, PROBE_FILE

Say = Callable[[str], None]


def export_model(
    model: str | Path = "tiny",
    out: str | Path | None = None,
    *,
    engine: ExportEngine = "onnx",
    precision: Precision | None = None,
    frames: int | None = None,
    calibration: str | Path | None = None,
    data: str | Path | None = None,
    min_cosine: float | None = None,
    verify: bool = True,
    overwrite: bool = False,
    batch: int | Sequence[int] = (1, 8, 32),
    compute_capability: str | None = None,
    workspace_gib: float = 2.0,
    quiet: bool = False,
    say: Say | None = None,
) -> ExportResult:
    """Exports a model to a bundle, or adds to a bundle, and verifies what it made.

    Args:
        model: `tiny`, a bundle, a CLIP's name, a run folder or trained adapters.
        out: The bundle to write. None = `model` itself where it is a bundle of the user's, else
            `NAME.mafsar` in the current folder. A bundle of the same model is added to.
        engine: What the artefacts are for: "onnx" (ONNX graphs) or "trt" (TensorRT engines).
        precision: "fp32", "fp16" or "int8" (ONNX Runtime on a CPU only). None = fp32 and fp16
            graphs, or fp32 engines.
        frames: Frames per clip, where the model leaves the number open; None = the model's.
        calibration: Clips that int8 ranges are taken from, a folder of class folders or a CSV;
            None = rendered ones.
        data: Labelled clips to verify on, a folder of class folders or a CSV; None = rendered ones.
        min_cosine: Smallest cosine to the reference that passes, 0–1; None = fp32 0.9999,
            fp16 0.999, int8 0.98.
        verify: Compare what was made with its reference; the bundle records where it was off.
        overwrite: Make again what exists, and replace a bundle of another model.
        batch: Batch sizes of an engine, ascending, 1–1024; a smaller batch is padded to the next.
        compute_capability: GPU that an engine is built for, such as "8.6"; None = the GPU of this
            machine, or 8.6 without one.
        workspace_gib: Memory that the engine builder may use to try kernels, GiB.
        quiet: Show no progress of the engine builder on a terminal.
        say: Called with one line when a step begins, for progress.

    Returns:
        The bundle's path and what was made.

    Raises:
        MafsarError: Says what is wrong and what to do. What did not pass is not kept.
    """
    sizes = (batch,) if isinstance(batch, int) else tuple(batch)
    options = ExportOptions(
        engine=engine,
        precision=precision,
        frames=frames,
        calibration=None if calibration is None else Path(calibration),
        data=None if data is None else Path(data),
        min_cosine=min_cosine,
        verify=verify,
        overwrite=overwrite,
        build=EngineOptions(sizes, compute_capability, workspace_gib, quiet),
    )
    options.check()
    source = ModelSource.find(str(model), options)
    target = source.default_out() if out is None else Path(out)
    check_replaceable(target)
    report = say or _say_nothing

    def waiting() -> None:
        report(f"waiting for another process that is changing {target}")

    try:
        with locked(target.resolve(), waiting=waiting):
            return _export(source, target, options, report)
    except OSError as error:
        raise unwritable(target, error) from error


def _say_nothing(_: str) -> None:
    pass


def export_locked(
    name: str,
    target: Path,
    *,
    say: Say = _say_nothing,
    precision: Precision | None = None,
    begun: Path | None = None,
) -> ExportResult:
    """`export_model` with default options, for a caller that has locked `target` already.

    Args:
        name: See `export_model`.
        target: The bundle to write.
        say: See `export_model`.
        precision: See `export_model`.
        begun: A folder where the traced graphs are kept, so that an export that is interrupted
            later need not trace them again; the caller removes it. None keeps none.
    """
    options = ExportOptions(precision=precision)
    return _export(ModelSource.find(name, options), target, options, say, begun)


def _export(
    source: ModelSource,
    target: Path,
    options: ExportOptions,
    say: Say,
    begun: Path | None = None,
) -> ExportResult:
    start = source.bundle
    if _can_be_added_to(target, source, options):
        start = target
    refuse_foreign(target, kept=start == target)
    artefacts: list[Artefact] = []
    model_name = ""
    if options.engine == "onnx" or start != target or not _has_graphs(target, options):
        with bundle_draft(target, start) as draft:
            artefacts += _make_graphs(draft, source, options, say, begun)
            if not artefacts and start == target and options.engine == "onnx":
                raise _nothing_to_do(target, source, options)
            model_name = draft.manifest["name"]
    # The verified graphs are kept where no engine can be built here: the device builds from them.
    if options.engine == "trt":
        with bundle_draft(target, target) as draft:
            artefacts += _make_engines(draft, str(target), options, say)
            model_name = draft.manifest["name"]
    return ExportResult(target, model_name, tuple(artefacts))


def _can_be_added_to(target: Path, source: ModelSource, options: ExportOptions) -> bool:
    """Whether the target is a bundle of this very model.

    Raises:
        MafsarError: It is damaged or of another model, and `overwrite` is off.
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
            f"{target}: holds {what}; choose another ",
            option("out"),
            ", or add ",
            option(overwrite=True),
            " to replace it",
        )
    return not differs


def _nothing_to_do(target: Path, source: ModelSource, options: ExportOptions) -> InputError:
    wanted = options.precision or "fp32 and fp16"
    if options.overwrite and source.network is None:
        return InputError(
            f"{wanted}: fp32 graphs are made from the model itself, not from a bundle: ",
            call("export_model", Placeholder("model"), out=target, overwrite=True),
        )
    return InputError(
        f"{wanted}: the bundle has these graphs already; add ",
        option(overwrite=True),
        " to make them again",
    )


def _has_graphs(bundle: Path, options: ExportOptions) -> bool:
    """Whether a bundle holds what an engine is built from and verified with."""
    names = read_manifest(bundle)["files"]
    precision = options.precision or "fp32"
    return graph_file("query", precision) in names and PROBE_FILE in names


def _make_graphs(
    draft: BundleDraft,
    source: ModelSource,
    options: ExportOptions,
    say: Say,
    begun: Path | None,
) -> list[Artefact]:
    """Makes the graphs that are wanted and missing, and verifies them."""
    made = _write_graphs(draft, source, options, say, begun)
    verifier = Verifier(
        draft,
        source.network,
        data=options.data,
        min_cosine=options.min_cosine,
        say=say,
        # Somebody waits for a first use: the probe's clips, which are needed anyway, must do.
        rendered=RENDERED_CLIPS if begun is None else PROBE_CLIPS,
    )
    artefacts = []
    for precision in made:
        verification: dict[str, Any] = {"verified": "no"}
        if options.verify:
            verification = verifier.verify_graphs(precision).to_json()
        artefacts.append(_graph_artefact(draft, precision, verification))
    if options.precision == "int8" and (
        options.overwrite or not draft.has(graph_file("query", "int8"))
    ):
        artefacts.append(_make_int8(draft, verifier, options, say))
    if "fp32" in made or not draft.has(PROBE_FILE):
        verifier.write_probe()
    for artefact in artefacts:
        entry = artefact.verification | {"made_by": made_by(*GRAPHS)}
        draft.manifest.setdefault("parity", {})[artefact.name] = entry
    return artefacts


def _graph_artefact(draft: BundleDraft, precision: str, verification: dict[str, Any]) -> Artefact:
    files = draft.graph_files(precision)
    if precision == "fp32" and draft.spec.text:
        files = (*files, graph_file("text"))
    size = sum((draft.folder / name).stat().st_size for name in files)
    return Artefact(f"onnx-{precision}", files, size, verification)


def _make_int8(
    draft: BundleDraft, verifier: Verifier, options: ExportOptions, say: Say
) -> Artefact:
    """Makes the int8 graphs, with as many products in float32 as they need to pass."""
    _require_onnx_ir("int8")
    from mafsar.export.verify.int8_search import Int8Search

    clips = calibration_clips(draft.spec, options.calibration)
    say(f"calibrating int8 on {len(clips)} clips ({clips.source})")
    text = verifier.embed(clips) if draft.spec.text_in_support else None
    search = Int8Search(draft.folder, draft.branches, clips, text)
    found = search.run((lambda: verifier.verify_graphs("int8")) if options.verify else None)
    if found.kept_float32:
        say(f"kept in float32 to pass verification: {', '.join(found.kept_float32)}")
    verification: dict[str, Any] = {"verified": "no"}
    if found.report is not None:
        verification = found.report.to_json()
    verification["int8"] = {
        "calibration": clips.source,
        "calibration_clips": len(clips),
        "weights": len(found.weights),
        "kept_float32": list(found.kept_float32),
    }
    return _graph_artefact(draft, "int8", verification)


def _make_engines(
    draft: BundleDraft, bundle: str, options: ExportOptions, say: Say
) -> list[Artefact]:
    """Builds the engines of one precision; verifies them where they run on this machine."""
    precision = options.precision or "fp32"
    built = add_engines(
        draft,
        bundle=bundle,
        precision=precision,
        min_cosine=options.min_cosine or LIMITS[precision],
        options=options.build,
        overwrite=options.overwrite,
        say=say,
    )
    report: dict[str, Any] = {}
    if not options.verify:
        for engine in built:
            engine.mark(draft.folder, "no")
    elif all(engine.runs_here for engine in built):
        # The fp32 graphs are the reference: they passed against torch, which may be missing here.
        verifier = Verifier(draft, None, data=options.data, min_cosine=options.min_cosine, say=say)
        report = verify_engines(verifier, built).to_json()
        for engine in built:
            engine.mark(draft.folder, "engine")
            draft.manifest.setdefault("parity", {})[engine.name] = report
    shown = ("verified", "layers", "engine_layers", "weight_bytes", "seconds", "peak_mb")
    artefacts = []
    for engine in built:
        description = str(Path(engine.name).with_suffix(".json"))
        verification = report | {name: engine.entry[name] for name in shown}
        artefacts.append(
            Artefact(engine.name, (engine.name, description), engine.entry["bytes"], verification)
        )
    return artefacts


def _write_graphs(
    draft: BundleDraft,
    source: ModelSource,
    options: ExportOptions,
    say: Say,
    begun: Path | None,
) -> list[str]:
    """Writes fp32 and fp16 graphs that are missing or to be made again; returns the precisions."""
    made: list[str] = []
    again = options.overwrite and options.engine == "onnx"
    if source.network is not None and (
        not draft.has(graph_file("query")) or (again and options.precision in (None, "fp32"))
    ):
        before = dict(draft.manifest)
        fresh = begun or draft.folder.with_suffix(".fresh")
        if begun is not None and _is_whole(begun, source):
            say("taking the fp32 graphs that an interrupted export has left")
        else:
            say("exporting the fp32 graphs")
            _trace(source, draft.folder.with_suffix(".tokenizer"), fresh)
        for path in fresh.iterdir():
            if begun is None:
                path.replace(draft.folder / path.name)
            else:
                shutil.copyfile(path, draft.folder / path.name)
        if begun is None:
            fresh.rmdir()
        draft.reload()
        _keep_records(draft, before)
        made.append("fp32")
    has_half = draft.has(*draft.graph_files("fp16"))
    if options.engine == "onnx" and options.precision == "fp32" and not has_half:
        return made
    made_again = again and options.precision in (None, "fp16")
    if "fp32" in made or not has_half or made_again:
        if options.precision == "fp16" or options.engine == "onnx":
            _require_onnx_ir("fp16")
        elif importlib.util.find_spec("onnx_ir") is None:
            return made
        from mafsar.export.graphs.half import write_half_graphs

        say("making the fp16 graphs")
        write_half_graphs(draft.folder, draft.branches, draft.folder)
        made.append("fp16")
    return made


def _is_whole(begun: Path, source: ModelSource) -> bool:
    """Whether a folder holds all traced graphs of the very model."""
    try:
        manifest = Bundle.open(begun).manifest
    except MafsarError:
        return False
    return all(manifest.get(key) == source.model[key] for key in MODEL_KEYS)


def _trace(source: ModelSource, place: Path, out: Path) -> None:
    """Writes the fp32 graphs of a network as a bundle, and compares them with the network.

    Args:
        source: With a network.
        place: Where the tokenizer is written for the time being.
        out: The bundle.
    """
    from mafsar.export.graphs.network_bundle import export_bundle, write_tokenizer

    assert source.network is not None
    tokenizer = write_tokenizer(source.network, place)
    try:
        export_bundle(source.network, tokenizer, out, extra=source.extra, overwrite=True)
    finally:
        tokenizer.unlink(missing_ok=True)


def _keep_records(draft: BundleDraft, before: dict[str, Any]) -> None:
    """Keeps the old manifest's records of engines and graphs that are still valid.

    `BundleDraft.finish` removes engines whose graphs changed. int8 graphs are removed here where
    the fp32 graphs changed, because their ranges and float32 products were found for the old ones.
    """
    same = before.get("weights_sha256") == draft.manifest["weights_sha256"]
    if "none" in before and same and draft.has(NEGATIVES_FILE):
        draft.manifest["none"] = before["none"]
    else:
        (draft.folder / NEGATIVES_FILE).unlink(missing_ok=True)
    if "engines" in before:
        draft.manifest["engines"] = before["engines"]
    records = {
        name: record
        for name, record in before.get("parity", {}).items()
        if isinstance(record, dict) and name not in draft.manifest["parity"]
    }
    old = before.get("files", {})
    parts = [*(graph_file(each) for each in draft.branches), weights_file("fp32")]
    if any(draft.manifest["files"].get(name) != old.get(name) for name in parts):
        records.pop("onnx-int8", None)
        for name in draft.graph_files("int8"):
            (draft.folder / name).unlink(missing_ok=True)
    draft.manifest["parity"] |= records


def _require_onnx_ir(precision: str) -> None:
    require(
        (option(precision=precision), ": making the graph"),
        "onnx_ir",
        extra="graphs",
        otherwise="export elsewhere and copy the bundle",
    )
