"""A stand-in for TensorRT in Python, with the names of TensorRT 10.3 only, and CUDA in host memory.

An engine is a JSON text that names an ONNX graph, which ONNX Runtime runs.
"""

# ruff: noqa: ARG002 - the signatures are TensorRT's
from __future__ import annotations

import ctypes
import json
import threading
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime

NAMES = frozenset(
    Path(__file__).with_name("trt-10.3-names.txt").read_text(encoding="utf-8").split()
)
KINDS = {"FLOAT": np.float32, "UINT8": np.uint8}


class FakeCuda:
    """The calls of `mafsar.runtime.engines.cuda_driver.Cuda`; a stream being recorded is a list."""

    def __init__(self, *, records: bool = True):
        self.buffers = {}
        self.recording = None
        self.graphs = []
        self.launched = 0
        self.streams, self.activated = 0, {threading.get_ident()}
        self.peak_bytes = 0
        self._records = records

    def activate(self):
        self.activated.add(threading.get_ident())

    def is_current(self):
        """Real memory, streams, engines and contexts are made on the thread's own device."""
        return threading.get_ident() in self.activated

    def allocate(self, size_bytes):
        assert self.is_current()
        # Real device memory is not zeroed.
        buffer = (ctypes.c_uint8 * size_bytes)(*b"\xa5" * size_bytes)
        self.buffers[ctypes.addressof(buffer)] = buffer
        self.peak_bytes = max(self.peak_bytes, sum(map(ctypes.sizeof, self.buffers.values())))
        return ctypes.addressof(buffer)

    allocate_pinned = allocate

    def free(self, address):
        del self.buffers[address]

    free_pinned = free

    def stream(self):
        assert self.is_current()
        self.streams += 1
        return 1

    def destroy_stream(self, stream):
        assert stream == 1
        self.streams -= 1

    def do(self, action):
        if self.recording is not None:
            self.recording.append(action)
        else:
            action()

    def to_device(self, to, of, size_bytes, stream):
        assert stream == 1
        self.do(lambda: ctypes.memmove(to, of, size_bytes))

    to_host = to_device

    def wait(self, stream):
        assert self.recording is None

    def begin_capture(self, stream):
        self.recording = []

    def end_capture(self, stream):
        recorded, self.recording = self.recording, None
        if not self._records:
            return None
        self.graphs.append(recorded)
        return len(self.graphs)

    def destroy_graph(self, graph):
        assert self.graphs[graph - 1] is not None
        self.graphs[graph - 1] = None

    def launch(self, graph, stream):
        self.launched += 1
        for action in self.graphs[graph - 1]:
            action()


class TensorIOMode(IntEnum):
    NONE, INPUT, OUTPUT = 0, 1, 2


class DataType(IntEnum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64 = range(9)

    def __str__(self):
        return f"DataType.{self.name}"


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class BuilderFlag(IntEnum):
    FP16, INT8, TF32 = 0, 1, 7


class IExecutionContext:
    def __init__(self, engine):
        self._engine, self._profile, self._shapes, self._addresses = engine, 0, {}, {}
        self._memory = None

    def set_device_memory(self, memory, size):
        # Read when a run is enqueued, as its address stays in a recorded graph.
        self._memory = memory, size

    def set_optimization_profile_async(self, index, stream):
        self._profile = index
        return index < len(self._engine._plan["profiles"])

    def set_input_shape(self, name, shape):
        self._shapes[name] = tuple(shape)
        return shape[0] == self._engine._plan["profiles"][self._profile]

    def get_tensor_shape(self, name):
        batch = self._engine._plan["profiles"][self._profile]
        return (batch, *self._engine.get_tensor_shape(name)[1:])

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        recording = self._engine._cuda.recording is not None
        if self._engine._plan.get("broken") or (recording and self._engine._plan.get("no_capture")):
            return False
        memory = self._memory
        self._engine._cuda.do(lambda: self._run(*memory))
        return True

    def _run(self, memory, size):
        engine = self._engine
        assert ctypes.sizeof(engine._cuda.buffers[memory]) >= size  # still allocated
        assert size >= engine.get_device_memory_size_for_profile_v2(self._profile)
        ctypes.memset(memory, 0x5A, size)
        arrays = {}
        for name, (kind, _) in engine._plan["tensors"].items():
            shape = self.get_tensor_shape(name)
            size = int(np.prod(shape)) * np.dtype(KINDS[kind]).itemsize
            memory = (ctypes.c_uint8 * size).from_address(self._addresses[name])
            arrays[name] = np.frombuffer(memory, KINDS[kind]).reshape(shape)
        inputs = {name: arrays[name].copy() for name in engine._plan["inputs"]}
        names = ["features", "pooled"]
        for name, value in zip(names, engine._session.run(names, inputs), strict=True):
            wrong = engine._plan.get("wrong_batch") == len(value)
            arrays[name][:] = value * (-1 if wrong else engine._plan.get("factor", 1))


class ICudaEngine:
    def __init__(self, plan, cuda):
        self._plan, self._cuda = plan, cuda
        self._session = onnxruntime.InferenceSession(
            plan["graph"], providers=["CPUExecutionProvider"]
        )
        self.contexts = 0

    @property
    def num_io_tensors(self):
        return len(self._plan["tensors"])

    def get_tensor_name(self, index):
        return list(self._plan["tensors"])[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self._plan["inputs"] else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name):
        return tuple(self._plan["tensors"][name][1])

    def get_tensor_dtype(self, name):
        return DataType[self._plan["tensors"][name][0]]

    def get_device_memory_size_for_profile_v2(self, index):
        return 1000 * self._plan["profiles"][index]

    def create_execution_context(self, strategy=ExecutionContextAllocationStrategy.STATIC):
        assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        assert self._cuda.is_current()
        return None if self._plan.get("full") else IExecutionContext(self)

    def create_engine_inspector(self):
        return EngineInspector(self)


class EngineInspector:
    """Gives types only for an engine built with detailed verbosity, once shapes are set."""

    execution_context = None

    def __init__(self, engine):
        self._engine = engine

    def get_engine_information(self, layer_format):
        assert layer_format == LayerInformationFormat.JSON
        plan = self._engine._plan
        names = [f"product {index}" for index, _ in enumerate(plan["products"])]
        if not plan["detailed"]:
            return json.dumps({"Layers": names, "Bindings": []})
        known = self.execution_context is not None and self.execution_context._shapes
        layers = [
            {
                "Name": name,
                "LayerType": "gemm",
                "Inputs": [
                    {"Format/Datatype": dtype if known else "N/A due to dynamic shapes"},
                ],
            }
            for name, dtype in zip(names, plan["products"], strict=True)
        ]
        return json.dumps({"Layers": layers, "Bindings": []})


def plan_of(graph: Path, profiles, **more) -> bytes:
    """The engine of an ONNX graph."""
    model = onnx.load(str(graph), load_external_data=False).graph
    kinds = {1: "FLOAT", 2: "UINT8"}

    def described(value):
        kind = value.type.tensor_type
        return [kinds[kind.elem_type], [-1, *(d.dim_value for d in kind.shape.dim[1:])]]

    # Outputs first: callers must not depend on the order.
    tensors = {value.name: described(value) for value in (*model.output, *model.input)}
    plan = {
        "graph": str(graph),
        "profiles": list(profiles),
        "tensors": tensors,
        "inputs": [value.name for value in model.input],
    }
    return json.dumps(plan | more).encode()


class Severity(IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Logger:
    def __init__(self, min_severity=Severity.WARNING):
        self.min_severity = min_severity

    def log(self, severity, message):
        pass


class NetworkDefinitionCreationFlag(IntEnum):
    EXPLICIT_BATCH, STRONGLY_TYPED = 0, 1


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class ProfilingVerbosity(IntEnum):
    LAYER_NAMES_ONLY, NONE, DETAILED = 0, 1, 2


class LayerInformationFormat(IntEnum):
    ONELINE, JSON = 0, 1


class LayerType(IntEnum):
    MATRIX_MULTIPLY, CONSTANT = 0, 1


class ILayer:
    def __init__(self, kind, dtype, shape):
        self.type = kind
        self._output = SimpleNamespace(dtype=dtype, shape=shape)

    def get_output(self, index):
        assert index == 0
        return self._output


class ITensor:
    def __init__(self, name, shape):
        self.name, self.shape = name, shape


class INetworkDefinition:
    """A network whose matrix products have the types that a test sets."""

    products = (("FLOAT", 4),)

    def __init__(self, flags):
        assert flags == 1 << 1, "strongly typed is bit 1 in TensorRT 10"
        self._layers, self._inputs = [], []

    @property
    def num_layers(self):
        return len(self._layers)

    def get_layer(self, index):
        return self._layers[index]

    @property
    def num_inputs(self):
        return len(self._inputs)

    def get_input(self, index):
        return self._inputs[index]


class IOptimizationProfile:
    def __init__(self):
        self._shapes = {}

    def set_shape(self, name, smallest, best, largest):
        assert smallest == best == largest
        self._shapes[name] = best


class IHostMemory(bytes):
    """Bytes, as a buffer."""


class ITimingCache:
    def __init__(self, data):
        self._data = data

    def serialize(self):
        return IHostMemory(self._data + b"+")


class IBuilderConfig:
    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY

    def __init__(self):
        self._profiles, self._pools, self._cache = [], {}, None
        self._flags = {BuilderFlag.TF32}

    def clear_flag(self, flag):
        self._flags.discard(flag)

    def set_flag(self, flag):
        self._flags.add(flag)

    def set_memory_pool_limit(self, pool, size):
        self._pools[pool] = size

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, data):
        return ITimingCache(data)

    def set_timing_cache(self, cache, ignore_mismatch):
        assert ignore_mismatch is False
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


class Builder:
    flaws: ClassVar = {}  # how the engine differs from the network

    def __init__(self, logger):
        self.logger = logger

    def create_network(self, flags=0):
        return INetworkDefinition(flags)

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        if not config._pools:
            return None
        batches = [profile._shapes["frames"][0] for profile in config._profiles]
        products = ["Half" if name == "HALF" else "Float" for name, _ in network.products]
        detailed = config.profiling_verbosity == ProfilingVerbosity.DETAILED
        told = {"products": products, "detailed": detailed, "flags": sorted(config._flags)}
        told |= self.flaws
        return IHostMemory(plan_of(network._path, batches, **told))


class ParserError:
    def desc(self):
        return "an operator that is not known"


class OnnxParser:
    num_errors = 1

    def __init__(self, network, logger):
        self._network = network

    def parse_from_file(self, path):
        self._network._path = Path(path)
        for value in onnx.load(path, load_external_data=False).graph.input:
            sides = [d.dim_value for d in value.type.tensor_type.shape.dim[1:]]
            self._network._inputs.append(ITensor(value.name, (-1, *sides)))
        kinds = INetworkDefinition.products
        if "fp32" in path:
            kinds = [("FLOAT", width) for _, width in kinds]
        for dtype, width in kinds:
            for kind in (LayerType.MATRIX_MULTIPLY, LayerType.CONSTANT):
                self._network._layers.append(ILayer(kind, DataType[dtype], (width, width)))
        return bool(kinds)

    def get_error(self, index):
        return ParserError()


BOUND = (
    Builder, BuilderFlag, DataType, ExecutionContextAllocationStrategy, EngineInspector, IBuilderConfig, ICudaEngine, IExecutionContext, IHostMemory,
    ILayer, INetworkDefinition, IOptimizationProfile, ITensor, ITimingCache, LayerInformationFormat,
    LayerType, Logger, MemoryPoolType, NetworkDefinitionCreationFlag, OnnxParser, ParserError,
    ProfilingVerbosity, TensorIOMode,
)  # fmt: skip


def fake_module(cuda: FakeCuda) -> SimpleNamespace:
    """The module. TensorRT 10.3 has every public name of it and of its classes."""

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, plan):
            assert cuda.is_current()
            try:
                return ICudaEngine(json.loads(bytes(plan)), cuda)
            except ValueError:
                return None

    module = {cls.__name__: cls for cls in (*BOUND, Runtime)}
    own = {"products", "contexts", "flaws"}  # for tests only
    for name, cls in module.items():
        assert name in NAMES, name
        for member in vars(cls):
            if not member.startswith("_") and member not in own:
                assert f"{name}.{member}" in NAMES, f"{name}.{member}"
    return SimpleNamespace(__version__="10.3.0", __name__="tensorrt", **module)
