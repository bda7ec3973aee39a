"""Adds TensorRT engines to a bundle: names, builds in another process, records (no torch)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mafsar.errors import InputError, UnavailableError, call, option
from mafsar.export.bundle_draft import BundleDraft, describe_file
from mafsar.export.engines.errors import error_from_json
from mafsar.export.engines.tensorrt import BuildRequest, Toolkit, cannot_build_for
from mafsar.export.options import EngineOptions, parse_capability
from mafsar.files import write_text
from mafsar.model.names import graph_file, weights_file
from mafsar.runtime.cache.features import cache_folder
from mafsar.runtime.engines.bundle import ENGINES_FOLDER
from mafsar.runtime.engines.trt_encoder import compute_capability, gpu_name

SCHEMA = 1
_WITHOUT_GPU = 86  # the default target of a machine without a GPU: Ampere's RTX cards
_STDERR = 2


def engine_name(
    branch: str, precision: str, batch: tuple[int, ...], flavour: str, version: str, sm: int
) -> str:
    """File of an engine, such as `engines/query-fp16-b1.8.32-rtx1.7.1.116-sm86.engine`.

    Args:
        branch: "query" or "support".
        precision: "fp32" or "fp16".
        batch: Batch sizes; the name has the smallest, middle and largest.
        flavour: "trt" or "rtx".
        version: Of TensorRT.
        sm: Compute capability, such as 86.
    """
    sizes = f"{batch[0]}.{batch[len(batch) // 2]}.{batch[-1]}"
    return f"{ENGINES_FOLDER}/{branch}-{precision}-b{sizes}-{flavour}{version}-sm{sm}.engine"


def local_capability() -> int | None:
    """Compute capability of this machine's first GPU, such as 86; None without one."""
    found = compute_capability()
    return None if found is None else int(found.replace(".", ""))


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that was added to a draft.

    Attributes:
        name: Its file, relative to the bundle.
        entry: Its entry in the manifest.
        runs_here: Whether it was built for the GPU of this machine.
    """

    name: str
    entry: dict[str, Any]
    runs_here: bool

    def mark(self, folder: Path, verified: str) -> None:
        """Records how it was verified, in the entry and in the JSON file beside the engine."""
        self.entry["verified"] = verified
        if verified == "engine":
            self.entry["verified_on"] = gpu_name()
        description = (folder / self.name).with_suffix(".json")
        write_text(description, json.dumps(self.entry, indent=1) + "\n")


def add_engines(
    draft: BundleDraft,
    *,
    bundle: str,
    precision: str,
    options: EngineOptions,
    min_cosine: float,
    overwrite: bool,
    say: Callable[[str], None],
) -> list[BuiltEngine]:
    """Builds one engine per branch and adds them to a draft.

    Args:
        draft: A bundle with the graphs of this precision.
        bundle: The bundle as the user names it, for messages.
        precision: "fp32" or "fp16".
        options: Batch sizes, target, workspace.
        min_cosine: Smallest cosine to the reference that passes, now and when they are first
            loaded on a device.
        overwrite: Replace engines of the same name.
        say: Called with a line when a step begins.

    Raises:
        UnavailableError: No TensorRT, or one that cannot build for this GPU.
        InputError: An engine of this name exists and `overwrite` is off.
        MismatchError: TensorRT refused a graph, or the engine is not of its precision.
    """
    local = local_capability()
    named = options.compute_capability
    wanted = None if named is None else parse_capability(named)
    toolkit = Toolkit.find(local=local, wanted=wanted)
    target = _target(toolkit, options, local, bundle, say)
    requests, names = [], []
    for branch in draft.branches:
        name = engine_name(
            branch, precision, options.batch, toolkit.flavour, toolkit.version, target
        )
        if name in draft.manifest.get("engines", {}) and not overwrite:
            sizes = ",".join(map(str, draft.manifest["engines"][name]["buckets"]))
            raise InputError(
                f"{bundle}/{name}: exists already, for batches of {sizes}; add ",
                option(overwrite=True),
                " to build it again",
            )
        names.append((name, branch))
        out = draft.folder / name
        out.parent.mkdir(exist_ok=True)
        out.unlink(missing_ok=True)  # it may be a hard link
        timings = cache_folder() / "tensorrt"
        requests.append(
            BuildRequest(
                graph=str(draft.folder / graph_file(branch, precision)),
                fp32_graph=str(draft.folder / graph_file(branch)),
                out=str(out),
                precision=precision,
                buckets=options.batch,
                compute_capability=target,
                workspace_gib=options.workspace_gib,
                timing_cache=str(timings / f"{toolkit.flavour}{toolkit.version}-sm{target}.timing"),
                quiet=options.quiet,
            )
        )
    say(
        f"building {len(requests)} {precision} engine{'s'[: len(requests) > 1]} for "
        f"SM {target // 10}.{target % 10} with {toolkit.module.__name__} {toolkit.version}"
    )
    answers = _build_in_child(requests, toolkit.flavour, local)
    made = []
    for (name, branch), answer in zip(names, answers, strict=True):
        entry = _entry(draft, name, branch, precision, options, target, answer)
        made.append(BuiltEngine(name, entry | {"min_cosine": min_cosine}, target == local))
    for item in made:
        item.mark(draft.folder, "graph")
        draft.manifest.setdefault("engines", {})[item.name] = item.entry
    seconds = sum(answer["seconds"] for answer in answers)
    peak = max(answer["peak_mb"] for answer in answers)
    say(f"built in {seconds:.0f} s, the builder took {peak} MB at its peak")
    return made


def _target(
    toolkit: Toolkit,
    options: EngineOptions,
    local: int | None,
    bundle: str,
    say: Callable[[str], None],
) -> int:
    targets = toolkit.targets()
    if options.compute_capability is not None:
        wanted = parse_capability(options.compute_capability)
        if wanted != local and wanted not in targets:
            raise cannot_build_for(wanted, bundle)
        return wanted
    if local is not None:
        return local
    if _WITHOUT_GPU not in targets:
        raise UnavailableError(
            option(engine="trt"),
            f": {toolkit.module.__name__} {toolkit.version} builds on a GPU only, and this machine "
            f'has none; pip install "mafsar[trt-rtx]", or copy {bundle} to the device and run: ',
            call("export_model", bundle, engine="trt"),
        )
    known = ", ".join(f"{sm // 10}.{sm % 10}" for sm in targets)
    say(
        f"no GPU here: building for compute capability {_WITHOUT_GPU // 10}.{_WITHOUT_GPU % 10} "
        f"(this TensorRT can build for {known})"
    )
    return _WITHOUT_GPU


def _build_in_child(
    requests: list[BuildRequest], flavour: str, local: int | None
) -> list[dict[str, Any]]:
    """Builds in a child process, so that the builder has the memory of the machine to itself."""
    with tempfile.TemporaryDirectory(prefix="mafsar-trt-") as folder:
        path = Path(folder) / "request.json"
        engines = [asdict(request) for request in requests]
        content = {"flavour": flavour, "local": local, "engines": engines}
        path.write_text(json.dumps(content), encoding="utf-8")
        words = [sys.executable, "-m", "mafsar.export.engines.tensorrt", str(path)]
        # Output of the builder's libraries must not mix with this command's own.
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=_STDERR, check=False)
        reply = path.with_suffix(".reply.json")
        if not reply.is_file():
            raise _builder_ended(done.returncode)
        answer = json.loads(reply.read_text(encoding="utf-8"))
    if "error" in answer:
        raise error_from_json(answer["error"])
    return list(answer["built"])


def _builder_ended(status: int) -> UnavailableError:
    if status < 0:
        name = signal.Signals(-status).name
        return UnavailableError(
            option(engine="trt"),
            f": the builder was killed ({name}), most likely out of memory; free memory, "
            "add swap, or try ",
            option(workspace_gib=0.25),
            " and a smaller ",
            option("batch"),
        )
    return UnavailableError(
        option(engine="trt"), f": the builder ended with status {status}; run with MAFSAR_DEBUG=1"
    )


def _entry(
    draft: BundleDraft,
    name: str,
    branch: str,
    precision: str,
    options: EngineOptions,
    target: int,
    answer: dict[str, Any],
) -> dict[str, Any]:
    """An engine's entry in the manifest."""
    graph, weights = graph_file(branch, precision), weights_file(precision)
    return {
        "schema": SCHEMA,
        "flavour": answer["flavour"],
        "version": answer["version"],
        "compute_capability": f"{target // 10}.{target % 10}",
        "branch": branch,
        "precision": precision,
        "buckets": list(options.batch),
        "graph": graph,
        "graph_sha256": describe_file(draft.folder / graph)["sha256"],
        "weights": weights,
        "weights_sha256": describe_file(draft.folder / weights)["sha256"],
        "model_sha256": draft.manifest["weights_sha256"],
        **describe_file(draft.folder / name),
        "layers": answer["layers"],
        "engine_layers": answer["engine_layers"],
        "weight_bytes": answer["weight_bytes"],
        "seconds": answer["seconds"],
        "peak_mb": answer["peak_mb"],
    }
