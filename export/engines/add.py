"""TensorRT engines of a bundle: named, built in a process of their own, recorded (no torch)."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mafsar import errors
from mafsar.errors import InputError, MafsarError, UnavailableError
from mafsar.export.bundle_draft import BundleDraft, describe_file
from mafsar.export.engines.tensorrt import BuildRequest, Toolkit, cannot_build_for
from mafsar.files import write_text
from mafsar.model.names import graph_file, weights_file
from mafsar.runtime.cache.features import cache_folder
from mafsar.runtime.encoder import ModelSpec
from mafsar.runtime.engines.bundle import ENGINES_FOLDER
from mafsar.runtime.engines.trt_encoder import compute_capability, gpu_name

SCHEMA = 1
_WITHOUT_GPU = 86  # what is built for where no GPU is and none is named: Ampere's RTX cards
_LARGEST_BATCH = 1024
_STDERR = 2


@dataclass(frozen=True)
class EngineWish:
    """What only engines need.

    Attributes:
        buckets: Batch sizes, one optimisation profile each.
        compute_capability: As "8.6"; None = the GPU here, or 8.6 without one.
        workspace_gib: Memory that the builder may take for trying kernels.
        quiet: No progress on stderr.
    """

    buckets: tuple[int, ...] = (1, 8, 32)
    compute_capability: str | None = None
    workspace_gib: float = 1.0
    quiet: bool = False

    def check(self) -> None:
        """Raises InputError where a value cannot be."""
        buckets = self.buckets
        if not buckets or list(buckets) != sorted(set(buckets)) or not (
            buckets[0] >= 1 and buckets[-1] <= _LARGEST_BATCH
        ):  # fmt: skip
            raise InputError(
                f"--batch {','.join(map(str, buckets))}: batch sizes must rise, from 1 to "
                f"{_LARGEST_BATCH}, as 1,8,32"
            )
        if not self.workspace_gib > 0:
            raise InputError(f"--workspace {self.workspace_gib:g}: must be over 0 GiB")
        if self.compute_capability is not None:
            parse_capability(self.compute_capability)


def parse_capability(text: str) -> int:
    """86 of "8.6".

    Raises:
        InputError: Another form.
    """
    if not re.fullmatch(r"[1-9]\d?\.\d", text):
        raise InputError(f"--compute-capability {text}: must look like 8.6")
    return int(text.replace(".", ""))


def engine_name(
    branch: str, precision: str, buckets: tuple[int, ...], flavour: str, version: str, sm: int
) -> str:
    """`engines/query-fp16-b1.8.32-rtx1.7.1.116-sm86.engine`: least, middle and largest batch."""
    sizes = f"{buckets[0]}.{buckets[len(buckets) // 2]}.{buckets[-1]}"
    return f"{ENGINES_FOLDER}/{branch}-{precision}-b{sizes}-{flavour}{version}-sm{sm}.engine"


def local_capability() -> int | None:
    """Compute capability of the first GPU here, as 86; None without one."""
    found = compute_capability()
    return None if found is None else int(found.replace(".", ""))


@dataclass(frozen=True)
class BuiltEngine:
    """One engine that a draft now holds.

    Attributes:
        name: Its file, relative to the bundle.
        entry: Of the manifest.
        runs_here: Whether it was built for the GPU of this machine.
    """

    name: str
    entry: dict[str, Any]
    runs_here: bool

    def mark(self, folder: Path, verified: str) -> None:
        """Says in the entry and in the JSON beside the engine how it was verified."""
        self.entry["verified"] = verified
        if verified == "engine":
            self.entry["verified_on"] = gpu_name()
        side_car = (folder / self.name).with_suffix(".json")
        write_text(side_car, json.dumps(self.entry, indent=1) + "\n")


def add_engines(
    draft: BundleDraft,
    spec: ModelSpec,
    *,
    bundle: str,
    precision: str,
    wish: EngineWish,
    min_cosine: float,
    overwrite: bool,
    say: Callable[[str], None],
) -> list[BuiltEngine]:
    """Builds the engines of every branch into a draft.

    Args:
        draft: A bundle with the graphs of this precision.
        spec: Its model.
        bundle: The bundle as the user names it, for messages.
        precision: "fp32" or "fp16".
        wish: Batch sizes, target, workspace.
        min_cosine: That the engines must have, also where they are first loaded.
        overwrite: Replace engines of the same name.
        say: Called with a line when a step begins.

    Raises:
        UnavailableError: No TensorRT, or one that cannot build for this GPU.
        InputError: An engine of this name is there and `overwrite` is off.
        MismatchError: TensorRT refused a graph, or the engine is not of its precision.
    """
    local = local_capability()
    named = wish.compute_capability
    wanted = None if named is None else parse_capability(named)
    toolkit = Toolkit.find(local=local, wanted=wanted)
    target = _target(toolkit, wish, local, bundle, say)
    requests, names = [], []
    for branch in ("query", "support") if spec.text_in_support else ("query",):
        name = engine_name(
            branch, precision, wish.buckets, toolkit.flavour, toolkit.version, target
        )
        if name in draft.manifest.get("engines", {}) and not overwrite:
            sizes = ",".join(map(str, draft.manifest["engines"][name]["buckets"]))
            raise InputError(
                f"{bundle}/{name}: exists already, for batches of {sizes}; add --overwrite (-y) to "
                "build it again"
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
                buckets=wish.buckets,
                compute_capability=target,
                workspace_gib=wish.workspace_gib,
                timing_cache=str(timings / f"{toolkit.flavour}{toolkit.version}-sm{target}.timing"),
                quiet=wish.quiet,
            )
        )
    say(
        f"building {len(requests)} {precision} engine{'s'[: len(requests) > 1]} for "
        f"SM {target // 10}.{target % 10} with {toolkit.module.__name__} {toolkit.version}"
    )
    answers = _build_apart(requests, toolkit.flavour, local)
    made = []
    for (name, branch), answer in zip(names, answers, strict=True):
        entry = _entry(draft, name, branch, precision, wish, target, answer)
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
    wish: EngineWish,
    local: int | None,
    bundle: str,
    say: Callable[[str], None],
) -> int:
    targets = toolkit.targets()
    if wish.compute_capability is not None:
        wanted = parse_capability(wish.compute_capability)
        if wanted != local and wanted not in targets:
            raise cannot_build_for(wanted, bundle)
        return wanted
    if local is not None:
        return local
    if _WITHOUT_GPU not in targets:
        raise UnavailableError(
            f"--engine trt: {toolkit.module.__name__} {toolkit.version} builds on a GPU only, and "
            f'there is none here; pip install "mafsar[trt-rtx]", or copy {bundle} to the device '
            f"and run: mafsar export {bundle} --engine trt"
        )
    known = ", ".join(f"{sm // 10}.{sm % 10}" for sm in targets)
    say(
        f"no GPU here: building for SM {_WITHOUT_GPU // 10}.{_WITHOUT_GPU % 10}; "
        f"--compute-capability names another ({known})"
    )
    return _WITHOUT_GPU


def _build_apart(
    requests: list[BuildRequest], flavour: str, local: int | None
) -> list[dict[str, Any]]:
    """Builds in a child process: nothing of this one's memory is in the builder's way."""
    with tempfile.TemporaryDirectory(prefix="mafsar-trt-") as folder:
        path = Path(folder) / "request.json"
        engines = [asdict(request) for request in requests]
        content = {"flavour": flavour, "local": local, "engines": engines}
        path.write_text(json.dumps(content), encoding="utf-8")
        words = [sys.executable, "-m", "mafsar.export.engines.tensorrt", str(path)]
        # What its libraries print is no part of this command's answer.
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=_STDERR, check=False)
        reply = path.with_suffix(".reply.json")
        if not reply.is_file():
            raise UnavailableError(_death(done.returncode))
        answer = json.loads(reply.read_text(encoding="utf-8"))
    if "error" in answer:
        kind: type[MafsarError] = getattr(errors, answer["kind"])
        raise kind(answer["error"])
    return list(answer["built"])


def _death(status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        return (
            f"--engine trt: the builder was killed ({name}), most likely out of memory; free some, "
            "add swap, or try --workspace 0.25 and a smaller --batch"
        )
    return f"--engine trt: the builder ended with status {status}; run with MAFSAR_DEBUG=1"


def _entry(
    draft: BundleDraft,
    name: str,
    branch: str,
    precision: str,
    wish: EngineWish,
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
        "buckets": list(wish.buckets),
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
