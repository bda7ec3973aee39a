"""One builder for `tensorrt` 10.3 to 11 and `tensorrt_rtx`: ONNX graph → engine (no torch).

Runs in a process of its own (`python -m mafsar.export.tensorrt REQUEST`), so that a device of 8 GB
holds the builder and nothing else. Members are read from the module, because they differ between
versions: the strongly-typed flag has another number in TensorRT 11, which has no precision flags at
all. Precision is what the graph's types say.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mafsar.errors import InputError, MafsarError, MismatchError, UnavailableError
from mafsar.runtime.onnx_encoder import has_cuda_driver
from mafsar.runtime.trt_encoder import MODULES

INSTALL = 'pip install "mafsar[trt]" (needs a GPU here) or "mafsar[trt-rtx]" (builds without one)'
_WEIGHT_SHARE = 0.6  # an fp16 graph's weights against the fp32 graph's


@dataclass(frozen=True)
class Toolkit:
    """A TensorRT that is installed here.

    Attributes:
        flavour: "trt" or "rtx".
        module: The Python module.
    """

    flavour: str
    module: Any

    @classmethod
    def find(cls, *, gpu: bool) -> Toolkit:
        """The one to build with: `tensorrt` where a GPU is, else the one that needs none.

        Raises:
            UnavailableError: None is installed, or none that can build here.
        """
        here = [f for f, name in MODULES.items() if importlib.util.find_spec(name) is not None]
        if not here:
            raise UnavailableError(f"--engine trt: no TensorRT is installed; {INSTALL}")
        order = here if gpu else sorted(here, key=lambda flavour: flavour != "rtx")
        name = MODULES[order[0]]
        try:
            return cls(order[0], importlib.import_module(name))
        except (ImportError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UnavailableError(
                f"--engine trt: {name} is installed but cannot be loaded ({reason}); install it "
                "again or see mafsar doctor"
            ) from error

    @property
    def version(self) -> str:
        """The module's version."""
        return str(self.module.__version__)

    def targets(self) -> list[int]:
        """Compute capabilities that it can build for without being on them, as 86."""
        members = getattr(self.module, "ComputeCapability", None)
        if members is None:
            return []
        names = [name for name in dir(members) if name.startswith("SM") and name[2:].isdigit()]
        return sorted(int(name[2:]) for name in names)


@dataclass(frozen=True)
class BuildRequest:
    """One engine to build.

    Attributes:
        graph: The ONNX file; its weights lie beside it.
        fp32_graph: The same branch in float32, whose weights are counted for comparison.
        out: The engine file to write.
        precision: "fp32" or "fp16": what the graph is.
        buckets: Batch sizes, one optimisation profile each.
        compute_capability: As 86.
        workspace_gib: Memory that the builder may take for trying kernels.
        timing_cache: File kept between builds.
        quiet: No progress on stderr.
    """

    graph: str
    fp32_graph: str
    out: str
    precision: str
    buckets: tuple[int, ...]
    compute_capability: int
    workspace_gib: float
    timing_cache: str
    quiet: bool = False


def build(request: BuildRequest, toolkit: Toolkit, *, local: int | None) -> dict[str, Any]:
    """Builds one engine and writes it.

    Args:
        request: What to build.
        toolkit: What to build with.
        local: Compute capability of the GPU here, or None without one.

    Returns:
        What was built: flavour, version, layers by type and precision, weight bytes, seconds.

    Raises:
        UnavailableError: The toolkit cannot build for this compute capability.
        MismatchError: The graph was refused, or its layers are not of the wanted precision.
    """
    trt = toolkit.module
    began = time.perf_counter()
    logger = _make_logger(trt)
    builder = trt.Builder(logger)
    network = _parse(toolkit, builder, logger, Path(request.graph))
    layers, weight_bytes = _count(network)
    _check_precision(request, toolkit, builder, logger, layers, weight_bytes)
    config = builder.create_builder_config()
    _set_target(config, toolkit, request.compute_capability, local)
    pool = trt.MemoryPoolType.WORKSPACE
    config.set_memory_pool_limit(pool, int(request.workspace_gib * 2**30))
    for bucket in request.buckets:
        config.add_optimization_profile(_profile(builder, network, bucket))
    # In tensorrt_rtx these calls are deprecated and do nothing.
    keeps_timings = toolkit.flavour == "trt"
    if keeps_timings:
        _load_timing_cache(config, Path(request.timing_cache))
    monitor = _make_monitor(trt, Path(request.out).name, quiet=request.quiet)
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise MismatchError(
            f"{Path(request.graph).name}: {MODULES[toolkit.flavour]} {toolkit.version} could not "
            f"build an engine ({logger.last}); try a smaller --batch or another --workspace"
        )
    out = Path(request.out)
    out.write_bytes(memoryview(plan))
    if keeps_timings:
        _save_timing_cache(config, Path(request.timing_cache))
    return {
        "flavour": toolkit.flavour,
        "version": toolkit.version,
        "layers": layers,
        "weight_bytes": weight_bytes,
        "seconds": round(time.perf_counter() - began, 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _parse(toolkit: Toolkit, builder: Any, logger: Any, graph: Path) -> Any:
    """The strongly typed network of a graph; its parser is kept alive with it."""
    trt = toolkit.module
    # By name: the bit moved between TensorRT 10 and 11.
    flag = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise MismatchError(
            f"{graph.name}: {MODULES[toolkit.flavour]} {toolkit.version} refuses the graph "
            f"({'; '.join(reasons) or logger.last}); export it again with this mafsar"
        )
    return network


def _count(network: Any) -> tuple[dict[str, dict[str, int]], int]:
    """Layers by type and precision of their first output, and the bytes of all weights."""
    counts: dict[str, Counter[str]] = {}
    total = 0
    sizes = {"FLOAT": 4, "HALF": 2, "BF16": 2, "INT8": 1}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind, dtype = _name(layer.type), _name(layer.get_output(0).dtype)
        counts.setdefault(kind, Counter())[dtype] += 1
        if kind == "CONSTANT" and dtype in sizes:
            volume = 1
            for side in layer.get_output(0).shape:
                volume *= side
            total += volume * sizes[dtype]
    return {kind: dict(sorted(found.items())) for kind, found in sorted(counts.items())}, total


def _name(member: Any) -> str:
    """`HALF` of `DataType.HALF`: bound enumerations differ in what they call themselves."""
    return str(getattr(member, "name", member)).rpartition(".")[2]


def _check_precision(
    request: BuildRequest,
    toolkit: Toolkit,
    builder: Any,
    logger: Any,
    layers: dict[str, dict[str, int]],
    weight_bytes: int,
) -> None:
    """An fp16 engine has half matrix products only and not much more than half the weights."""
    products = layers.get("MATRIX_MULTIPLY", {})
    wanted = {"fp16": "HALF", "fp32": "FLOAT"}[request.precision]
    if not products or set(products) != {wanted}:
        found = ", ".join(f"{count} {dtype}" for dtype, count in products.items()) or "none"
        raise MismatchError(
            f"{Path(request.graph).name}: matrix products are {found}, an {request.precision} "
            f"engine wants {wanted} only; export the graph again with this mafsar"
        )
    if request.precision == "fp16":
        full = _parse(toolkit, builder, logger, Path(request.fp32_graph))
        _, full_bytes = _count(full)
        if weight_bytes > _WEIGHT_SHARE * full_bytes:
            raise MismatchError(
                f"{Path(request.graph).name}: its weights take {weight_bytes} bytes, the fp32 "
                f"graph's {full_bytes}; fp16 must not exceed {_WEIGHT_SHARE} of them"
            )


def _set_target(config: Any, toolkit: Toolkit, wanted: int, local: int | None) -> None:
    targets = toolkit.targets()
    if wanted in targets and hasattr(config, "num_compute_capabilities"):
        config.num_compute_capabilities = 1
        member = getattr(toolkit.module.ComputeCapability, f"SM{wanted}")
        if not config.set_compute_capability(member, 0):
            raise cannot_build_for(wanted)
    elif wanted != local:
        raise cannot_build_for(wanted)


def cannot_build_for(wanted: int, bundle: str = "NAME.mafsar") -> UnavailableError:
    """The error for a target that the toolkit does not know."""
    return UnavailableError(
        f"this TensorRT cannot build for SM {wanted // 10}.{wanted % 10}; copy {bundle} to the "
        f"device and run: mafsar export {bundle} --engine trt"
    )


def _profile(builder: Any, network: Any, bucket: int) -> Any:
    """One batch size exactly: kernels are chosen for it, a smaller batch is padded to it."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = (bucket, *tuple(tensor.shape)[1:])
        profile.set_shape(tensor.name, shape, shape, shape)
    return profile


def _load_timing_cache(config: Any, path: Path) -> None:
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is not None:
        config.set_timing_cache(cache, False)


def _save_timing_cache(config: Any, path: Path) -> None:
    from mafsar.runtime.files import written_beside

    cache = config.get_timing_cache()
    if cache is None:
        return
    data = bytes(memoryview(cache.serialize()))
    if data:
        with written_beside(path) as temporary:
            temporary.write_bytes(data)


def _make_logger(trt: Any) -> Any:
    """A logger that prints nothing and keeps the last error for the message."""

    base = getattr(trt, "ILogger", trt.Logger)

    class Kept(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self.last = "no reason given"

        def log(self, severity: Any, message: str) -> None:
            if _name(severity) in ("ERROR", "INTERNAL_ERROR"):
                self.last = " ".join(message.split())

    return Kept()


def _make_monitor(trt: Any, title: str, *, quiet: bool) -> Any:
    """Progress on stderr, on a terminal only; None where there is none to be had."""
    if quiet or not sys.stderr.isatty() or not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            of = self._steps.get(phase_name, 0)
            sys.stderr.write(f"\r\x1b[K{title}: {phase_name} {step + 1}/{of}")
            sys.stderr.flush()
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)
            if not self._steps:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()

    return Monitor()


def main(arguments: list[str]) -> int:
    """The child process: builds the engines of REQUEST.json, writes REQUEST.reply.json."""
    path = Path(arguments[0])
    reply = path.with_suffix(".reply.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        toolkit = Toolkit.find(gpu=has_cuda_driver())
        built = [
            build(
                BuildRequest(**item | {"buckets": tuple(item["buckets"])}),
                toolkit,
                local=content["local"],
            )
            for item in content["engines"]
        ]
        answer: dict[str, Any] = {"built": built}
    except MafsarError as error:
        kinds = (UnavailableError, InputError, MismatchError)
        kind = next((k for k in kinds if isinstance(error, k)), MafsarError)
        answer = {"error": str(error), "kind": kind.__name__}
    reply.write_text(json.dumps(answer), encoding="utf-8")
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
