"""Builds engines from ONNX graphs with `tensorrt` 10.3 to 11 or `tensorrt_rtx` (no torch).

Runs in a process of its own (`python -m mafsar.export.engines.tensorrt REQUEST`), so that a device
with 8 GB holds the builder and nothing else. Members are looked up in the module, because versions
differ: the strongly-typed flag has another number in TensorRT 11, which has no precision flags.
The types in the graph decide the precision.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mafsar.errors import (
    MafsarError,
    MismatchError,
    Placeholder,
    UnavailableError,
    call,
    option,
)
from mafsar.export.engines.callbacks import make_logger, make_monitor
from mafsar.export.engines.errors import error_to_json
from mafsar.export.engines.layers import (
    Layers,
    check_engine,
    check_network,
    count_engine,
    count_network,
)
from mafsar.files import written_beside
from mafsar.runtime.engines.trt_encoder import MODULES, load_module
from mafsar.runtime.machine.system import peak_bytes

INSTALL = 'pip install "mafsar[trt]" (needs a GPU here) or "mafsar[trt-rtx]" (builds without one)'


@dataclass(frozen=True)
class Toolkit:
    """An installed TensorRT.

    Attributes:
        flavour: "trt" or "rtx".
        module: The Python module.
    """

    flavour: str
    module: Any

    @classmethod
    def find(cls, *, local: int | None, wanted: int | None = None) -> Toolkit:
        """The installed TensorRT to build with.

        On a machine with a GPU `tensorrt` comes first, else `tensorrt_rtx`. One that can build for
        `wanted` is preferred.

        Args:
            local: Compute capability of this machine's GPU, such as 86; None without one.
            wanted: Compute capability to build for; None leaves it open.

        Raises:
            UnavailableError: None is installed, or none can be loaded.
        """
        here = [f for f, name in MODULES.items() if importlib.util.find_spec(name) is not None]
        if not here:
            raise UnavailableError(option(engine="trt"), f": no TensorRT is installed; {INSTALL}")
        if local is None:
            here.sort(key=lambda flavour: flavour != "rtx")
        loaded, broken = [], []
        for flavour in here:
            try:
                toolkit = cls.load(flavour)
            except UnavailableError as error:
                broken.append(error)  # the other one may work
                continue
            if wanted in (None, local) or wanted in toolkit.targets():
                return toolkit
            loaded.append(toolkit)
        if not loaded:
            raise broken[0]
        return loaded[0]

    @classmethod
    def load(cls, flavour: str) -> Toolkit:
        """Loads the TensorRT of a flavour.

        Raises:
            UnavailableError: It cannot be loaded.
        """
        return cls(flavour, load_module(flavour))

    @property
    def version(self) -> str:
        """The module's version."""
        return str(self.module.__version__)

    def targets(self) -> list[int]:
        """Compute capabilities, such as 86, that it can build for on any machine."""
        members = getattr(self.module, "ComputeCapability", None)
        if members is None:
            return []
        names = [name for name in dir(members) if name.startswith("SM") and name[2:].isdigit()]
        return sorted(int(name[2:]) for name in names)


@dataclass(frozen=True)
class BuildRequest:
    """One engine to build.

    Attributes:
        graph: The ONNX file; its weights file is beside it.
        fp32_graph: The same branch in float32, whose weight bytes are compared.
        out: The engine file to write.
        precision: Precision of the graph, "fp32" or "fp16".
        buckets: Batch sizes; each gets an optimisation profile.
        compute_capability: GPU to build for, such as 86.
        workspace_gib: Memory that the builder may use to try kernels, GiB.
        timing_cache: File with the timings of earlier builds.
        quiet: Show no progress on stderr.
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
        local: Compute capability of this machine's GPU, or None without one.

    Returns:
        Facts about the engine: flavour, version, layers by type and precision as parsed and, where
        the engine runs on this machine, as built, weight bytes, seconds, the process's peak memory.

    Raises:
        UnavailableError: The toolkit cannot build for this compute capability.
        MismatchError: TensorRT refused the graph, or its layers are not of the requested precision.
    """
    trt = toolkit.module
    began = time.perf_counter()
    graph, out = Path(request.graph), Path(request.out)
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    full_bytes = None
    if request.precision == "fp16":
        # Counted first and freed, so that two networks are never in memory.
        full_bytes = count_network(_parse(toolkit, builder, logger, Path(request.fp32_graph)))[1]
    network = _parse(toolkit, builder, logger, graph)
    layers, weight_bytes = count_network(network)
    check_network(graph.name, request.precision, layers, weight_bytes, full_bytes)
    config = builder.create_builder_config()
    _set_target(config, toolkit, request.compute_capability, local)
    pool = trt.MemoryPoolType.WORKSPACE
    config.set_memory_pool_limit(pool, int(request.workspace_gib * 2**30))
    _set_flags(config, trt, request.precision)
    for bucket in request.buckets:
        if config.add_optimization_profile(_profile(builder, network, bucket)) < 0:
            raise MismatchError(
                f"{graph.name}: {MODULES[toolkit.flavour]} {toolkit.version} does not take a "
                f"profile of batch {bucket} ({logger.last}); use another ",
                option("batch"),
            )
    runs_here = request.compute_capability == local
    if runs_here:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the inspector
    # In tensorrt_rtx these calls are deprecated and do nothing.
    keeps_timings = toolkit.flavour == "trt"
    if keeps_timings:
        _load_timing_cache(config, Path(request.timing_cache))
    monitor = make_monitor(trt, out.name, quiet=request.quiet)
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise MismatchError(
            f"{graph.name}: {MODULES[toolkit.flavour]} {toolkit.version} could not build an engine "
            f"({logger.last}); try a smaller ",
            option("batch"),
            " or another ",
            option("workspace_gib"),
        )
    out.write_bytes(memoryview(plan))
    if keeps_timings:
        _save_timing_cache(config, Path(request.timing_cache))
    built = _inspect(toolkit, logger, plan, request.buckets[0]) if runs_here else {}
    check_engine(graph.name, request.precision, built)
    return {
        "flavour": toolkit.flavour,
        "version": toolkit.version,
        "layers": layers,
        "engine_layers": built,
        "weight_bytes": weight_bytes,
        "seconds": round(time.perf_counter() - began, 3),
        "peak_mb": round(peak_bytes() / 1e6),
    }


def _inspect(toolkit: Toolkit, logger: Any, plan: Any, batch: int) -> Layers:
    """Layers of a built engine, on the GPU that it was built for."""
    runtime = toolkit.module.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise MismatchError(
            f"{MODULES[toolkit.flavour]} {toolkit.version} cannot load the engine that it built "
            f"({logger.last}); free memory on the GPU, or use ",
            option(engine="onnx"),
        )
    return count_engine(engine, toolkit.module, batch)


def _parse(toolkit: Toolkit, builder: Any, logger: Any, graph: Path) -> Any:
    """Parses a graph as a strongly typed network."""
    trt = toolkit.module
    # By name, because the bit differs between TensorRT 10 and 11.
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


def _set_target(config: Any, toolkit: Toolkit, wanted: int, local: int | None) -> None:
    targets = toolkit.targets()
    if wanted in targets and hasattr(config, "num_compute_capabilities"):
        config.num_compute_capabilities = 1
        member = getattr(toolkit.module.ComputeCapability, f"SM{wanted}")
        if not config.set_compute_capability(member, 0):
            raise cannot_build_for(wanted)
    elif wanted != local:
        raise cannot_build_for(wanted)


def _set_flags(config: Any, trt: Any, precision: str) -> None:
    if precision == "fp32":
        # On by default: products of float32 rounded to 10 bits would not be fp32.
        config.clear_flag(trt.BuilderFlag.TF32)
    # Of tensorrt_rtx: contexts never allocate while they run, so that runs can be recorded.
    user_allocation = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if user_allocation is not None:
        config.set_flag(user_allocation)


def cannot_build_for(wanted: int, bundle: str = Placeholder("bundle")) -> UnavailableError:
    """The error for a target that the installed TensorRT does not know."""
    return UnavailableError(
        f"this TensorRT cannot build for SM {wanted // 10}.{wanted % 10}; copy {bundle} to the "
        "device and run: ",
        call("export_model", bundle, engine="trt"),
    )


def _profile(builder: Any, network: Any, bucket: int) -> Any:
    """A profile of exactly one batch size; at run time a smaller batch is padded to it."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = (bucket, *tuple(tensor.shape)[1:])
        profile.set_shape(tensor.name, shape, shape, shape)
    return profile


def _load_timing_cache(config: Any, path: Path) -> None:
    data = b""
    with contextlib.suppress(OSError):  # the cache only saves time
        data = path.read_bytes()
    cache = config.create_timing_cache(data)
    if cache is not None:
        config.set_timing_cache(cache, False)


def _save_timing_cache(config: Any, path: Path) -> None:
    cache = config.get_timing_cache()
    if cache is None:
        return
    data = bytes(memoryview(cache.serialize()))
    if data:
        with contextlib.suppress(OSError), written_beside(path) as temporary:
            temporary.write_bytes(data)


def main(arguments: list[str]) -> int:
    """The child process: builds the engines of REQUEST.json, writes REQUEST.reply.json."""
    path = Path(arguments[0])
    reply = path.with_suffix(".reply.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        toolkit = Toolkit.load(content["flavour"])
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
        answer = {"error": error_to_json(error)}
    except Exception as error:  # noqa: BLE001 - the builder's own errors, a full disk: one line
        if os.environ.get("MAFSAR_DEBUG"):
            traceback.print_exc()
        reason = (str(error).strip().splitlines() or [""])[0]
        line = f"{type(error).__name__}: {reason}".removesuffix(": ")
        failed = UnavailableError(
            option(engine="trt"), f": the builder failed ({line}); MAFSAR_DEBUG=1 shows where"
        )
        answer = {"error": error_to_json(failed)}
    reply.write_text(json.dumps(answer), encoding="utf-8")
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
