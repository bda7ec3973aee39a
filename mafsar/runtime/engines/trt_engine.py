"""Running a TensorRT engine: a context, buffers and a CUDA graph for each batch size.

Uses only names that TensorRT 10.3 (JetPack 6) has, and asks for those of newer ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Mapping, Sequence
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.errors import MismatchError, UnavailableError, option
from mafsar.runtime.engines.cuda_driver import Cuda

Arrays = dict[str, NDArray[Any]]
_DTYPES: dict[str, type[np.generic]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "BF16": np.uint16,  # the bits: numpy has no bfloat16
}


def plan_batches(count: int, buckets: Sequence[int]) -> list[tuple[int, int]]:
    """Splits `count` clips into runs.

    Args:
        count: Number of clips, ≥ 1.
        buckets: Batch sizes of the engine, ascending.

    Returns:
        (clips, bucket) of each run: the smallest bucket that holds the remaining clips, unless
        padding would double them; then the largest bucket that they fill.
    """
    plan = []
    while count > 0:
        holding = [bucket for bucket in buckets if bucket >= count]
        filled = [bucket for bucket in buckets if bucket <= count]
        if holding and (holding[0] < 2 * count or not filled):
            taken, bucket = count, holding[0]
        else:
            taken = bucket = filled[-1]
        plan.append((taken, bucket))
        count -= taken
    return plan


class _Buffer:
    """Memory of one tensor of a bucket: pinned host memory, seen as an array, and device memory."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], kind: str) -> None:
        self._cuda, self._is_bfloat16 = cuda, kind == "BF16"
        dtype = _DTYPES[kind]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.size_bytes = size
        self.host = cuda.allocate_pinned(size)
        try:
            self.device = cuda.allocate(size)
        except UnavailableError:
            cuda.free_pinned(self.host)
            raise
        memory = (ctypes.c_uint8 * size).from_address(self.host)
        self.array: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def fill(self, values: NDArray[Any]) -> None:
        """Writes the first rows, and zeros after them."""
        self.array[: len(values)] = _bfloat16_bits(values) if self._is_bfloat16 else values
        self.array[len(values) :] = 0

    def rows(self, count: int) -> NDArray[Any]:
        """A copy of the first rows; bfloat16 as float32."""
        if self._is_bfloat16:
            return (self.array[:count].astype(np.uint32) << 16).view(np.float32)
        return self.array[:count].copy()

    def free(self) -> None:
        self._cuda.free(self.device)
        self._cuda.free_pinned(self.host)


def _bfloat16_bits(values: NDArray[Any]) -> NDArray[np.uint16]:
    """The upper halves of float32 numbers, rounded to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


class Scratch:
    """Device memory that contexts use while they run: one block for all that run in turn.

    Each context would otherwise hold a block of its own, for the engine's largest batch.

    Attributes:
        address: The block's address; it changes when the block grows.
        size_bytes: Its size.
        lock: Held by the context that is running.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.address, self.size_bytes = 0, 0
        self.lock = threading.RLock()

    def reserve(self, size_bytes: int) -> None:
        """Makes the block at least this large; nothing may be running on it."""
        if size_bytes > self.size_bytes:
            self.free()
            self.address = self._cuda.allocate(size_bytes)
            self.size_bytes = size_bytes

    def free(self) -> None:
        """Frees the block; the next `reserve` makes one again."""
        if self.address:
            self._cuda.free(self.address)
        self.address, self.size_bytes = 0, 0


def _create_context(engine: Any, trt: Any) -> Any:
    """A context that is given its memory; None where TensorRT cannot make one."""
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    create_config = getattr(engine, "create_runtime_config", None)
    kernels = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
    if create_config is None or kernels is None:
        return engine.create_execution_context(strategy)
    # tensorrt_rtx compiles kernels for the shapes at hand in the background and runs general ones
    # until they are ready; a graph that is recorded before would keep the general ones.
    config = create_config()
    config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
    config.set_execution_context_allocation_strategy(strategy)
    return engine.create_execution_context(config)


class _Bucket:
    """The context of one batch size, with its own buffers and stream."""

    def __init__(
        self, engine: Any, trt: Any, cuda: Cuda, scratch: Scratch, profile: int, batch: int
    ) -> None:
        self._cuda, self._scratch, self._held = cuda, scratch, 0
        self._graph: int | None = None
        self._runs = 0
        self.inputs: dict[str, _Buffer] = {}
        self.outputs: dict[str, _Buffer] = {}
        self._context: Any = None
        self._stream = cuda.stream()
        try:
            self._prepare(engine, trt, profile, batch)
        except BaseException:
            self.free()
            raise

    def _prepare(self, engine: Any, trt: Any, profile: int, batch: int) -> None:
        cuda = self._cuda
        self._context = _create_context(engine, trt)
        if self._context is None:
            raise UnavailableError(
                option(engine="trt"),
                f": no memory for a context of batch {batch} on the GPU; free some, or use ",
                option(engine="onnx"),
            )
        if not self._context.set_optimization_profile_async(profile, self._stream):
            raise MismatchError(f"the engine has no profile {profile} for batch {batch}")
        cuda.wait(self._stream)
        # Of this profile alone; never zero, which allocates nothing.
        self._scratch_bytes = max(256, int(engine.get_device_memory_size_for_profile_v2(profile)))
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        is_input = {n: engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT for n in names}
        for name in sorted(
            names, key=lambda n: not is_input[n]
        ):  # inputs first: they decide the outputs' shapes
            if is_input[name]:
                shape = (batch, *tuple(engine.get_tensor_shape(name))[1:])
                if not self._context.set_input_shape(name, shape):
                    raise MismatchError(f"the engine's input {name} does not take {shape}")
            shape = tuple(self._context.get_tensor_shape(name))
            kind = str(engine.get_tensor_dtype(name)).rpartition(".")[2]
            if kind not in _DTYPES:
                raise MismatchError(
                    f"the engine's tensor {name} is {kind}; known are {', '.join(_DTYPES)}"
                )
            buffer = _Buffer(cuda, shape, kind)
            (self.inputs if is_input[name] else self.outputs)[name] = buffer
            self._context.set_tensor_address(name, buffer.device)

    def run(self, inputs: Mapping[str, NDArray[Any]], count: int) -> Arrays:
        """Runs `count` clips, padded to the batch; returns copies of their rows."""
        self._take_scratch()
        for name, buffer in self.inputs.items():
            buffer.fill(inputs[name])
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self._cuda.wait(self._stream)
        self._runs += 1
        # Recorded after the first run, which allocates memory; a recording may not.
        if self._runs == 1:
            self._record()
        return {name: buffer.rows(count) for name, buffer in self.outputs.items()}

    def _take_scratch(self) -> None:
        """Gives the context the block; a graph that was recorded on an older one is dropped."""
        self._scratch.reserve(self._scratch_bytes)
        if self._held == self._scratch.address:
            return
        self._drop_graph()
        self._context.set_device_memory(self._scratch.address, self._scratch.size_bytes)
        self._held, self._runs = self._scratch.address, 0

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._cuda.destroy_graph(self._graph)
            self._graph = None

    def _enqueue(self) -> None:
        for buffer in self.inputs.values():
            self._cuda.to_device(buffer.device, buffer.host, buffer.size_bytes, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise UnavailableError(
                option(engine="trt"),
                ": TensorRT could not enqueue the engine; build it again on this device, or use ",
                option(engine="onnx"),
            )
        for buffer in self.outputs.values():
            self._cuda.to_host(buffer.host, buffer.device, buffer.size_bytes, self._stream)

    def _record(self) -> None:
        """Records a run as a graph, where TensorRT allows it; else each run is enqueued."""
        # tensorrt_rtx knows beforehand; tensorrt has no such question.
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(self._stream):
            return
        try:
            self._cuda.begin_capture(self._stream)
        except UnavailableError:
            return
        complete = False
        try:
            self._enqueue()
            complete = True
        except UnavailableError:
            pass  # this call has its results already, and the next ones do without a graph
        finally:
            graph = self._cuda.end_capture(self._stream)
            if graph is not None and not complete:
                self._cuda.destroy_graph(graph)
                graph = None
            self._graph = graph

    def free(self) -> None:
        """Destroys the graph, the context, the buffers and the stream, in this order."""
        with contextlib.suppress(UnavailableError):  # after an error of the GPU nothing else works
            self._cuda.activate()
        self._drop_graph()
        self._context = None  # TensorRT's destructor frees its memory
        self._cuda.destroy_stream(self._stream)
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            buffer.free()


class TrtEngine:
    """A loaded engine.

    Args:
        plan: Its bytes or mapped file. Check its hash before: an engine is code.
        trt: The module, `tensorrt` or `tensorrt_rtx`.
        cuda: The GPU.
        buckets: Batch sizes, in the order of the engine's profiles.
        scratch: Memory that it shares with engines that never run at the same time; None = its own.

    Raises:
        MismatchError: TensorRT cannot load it; it was built for another GPU or version.
    """

    def __init__(
        self,
        plan: bytes | mmap,
        trt: Any,
        cuda: Cuda,
        buckets: Sequence[int],
        scratch: Scratch | None = None,
    ) -> None:
        self._scratch = scratch or Scratch(cuda)
        self._trt, self._cuda, self._buckets = trt, cuda, tuple(buckets)
        level = getattr(trt.Logger, "ERROR", None)
        self._logger = trt.Logger() if level is None else trt.Logger(level)
        cuda.activate()  # engines and contexts belong to the thread's device
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise MismatchError("TensorRT cannot load it: it was built for another GPU or version")
        self._ready: dict[int, _Bucket] = {}
        # Not at the end of the process: the driver frees all, and a thread may still be running.
        weakref.finalize(self, _free_all, self._ready, self._scratch).atexit = False

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Runs any number of clips.

        Args:
            inputs: Arrays by name, (B, …), C-contiguous, of the engine's dtypes.

        Returns:
            Outputs by name, (B, …).
        """
        count = len(next(iter(inputs.values())))
        parts: list[Arrays] = []
        start = 0
        with self._scratch.lock:
            self._cuda.activate()
            for taken, size in plan_batches(count, self._buckets):
                chunk = {name: values[start : start + taken] for name, values in inputs.items()}
                parts.append(self._bucket(size).run(chunk, taken))
                start += taken
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _bucket(self, size: int) -> _Bucket:
        if size not in self._ready:
            profile = self._buckets.index(size)
            self._ready[size] = _Bucket(
                self._engine, self._trt, self._cuda, self._scratch, profile, size
            )
        return self._ready[size]

    def close(self) -> None:
        """Frees graphs, contexts, buffers and streams; the next run makes them again.

        The scratch memory is freed too; an engine that shares it makes it again. The same happens
        when the engine is no longer referenced.
        """
        _free_all(self._ready, self._scratch)


def _free_all(ready: dict[int, _Bucket], scratch: Scratch) -> None:
    with scratch.lock:
        for bucket in ready.values():
            bucket.free()
        ready.clear()
        scratch.free()
