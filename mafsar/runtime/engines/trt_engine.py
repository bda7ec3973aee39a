"""Running a TensorRT engine: a context, buffers and a CUDA graph for each batch size.

Uses only names that TensorRT 10.3 (JetPack 6) has.
"""

from __future__ import annotations

import ctypes
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
    "INT64": np.int64,
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

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self._cuda = cuda
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.size_bytes = size
        self.host = cuda.allocate_pinned(size)
        self.device = cuda.allocate(size)
        memory = (ctypes.c_uint8 * size).from_address(self.host)
        self.array: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def free(self) -> None:
        self._cuda.free(self.device)
        self._cuda.free_pinned(self.host)


class _Bucket:
    """The context of one batch size, with its own buffers and stream."""

    def __init__(self, engine: Any, trt: Any, cuda: Cuda, profile: int, batch: int) -> None:
        self._cuda, self._stream = cuda, cuda.stream()
        self._context = engine.create_execution_context()
        if self._context is None:
            raise UnavailableError(
                option(engine="trt"),
                f": no memory for a context of batch {batch} on the GPU; free some, or use ",
                option(engine="onnx"),
            )
        if not self._context.set_optimization_profile_async(profile, self._stream):
            raise MismatchError(f"the engine has no profile {profile} for batch {batch}")
        cuda.wait(self._stream)
        self.inputs: dict[str, _Buffer] = {}
        self.outputs: dict[str, _Buffer] = {}
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
            dtype = str(engine.get_tensor_dtype(name)).rpartition(".")[2]
            buffer = _Buffer(cuda, shape, _DTYPES[dtype])
            (self.inputs if is_input[name] else self.outputs)[name] = buffer
            self._context.set_tensor_address(name, buffer.device)
        self._graph: int | None = None
        self._runs = 0

    def run(self, inputs: Mapping[str, NDArray[Any]], count: int) -> Arrays:
        """Runs `count` clips, padded to the batch; returns copies of their rows."""
        for name, buffer in self.inputs.items():
            buffer.array[:count] = inputs[name]
            buffer.array[count:] = 0
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self._cuda.wait(self._stream)
        self._runs += 1
        # Recorded after the first run, which allocates memory; a recording may not.
        if self._runs == 1:
            self._record()
        return {name: buffer.array[:count].copy() for name, buffer in self.outputs.items()}

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
        self._cuda.begin_capture(self._stream)
        try:
            self._enqueue()
        finally:
            self._graph = self._cuda.end_capture(self._stream)

    def free(self) -> None:
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            buffer.free()


class TrtEngine:
    """A loaded engine.

    Args:
        plan: Its bytes or mapped file. Check its hash before: an engine is code.
        trt: The module, `tensorrt` or `tensorrt_rtx`.
        cuda: The GPU.
        buckets: Batch sizes, in the order of the engine's profiles.

    Raises:
        MismatchError: TensorRT cannot load it; it was built for another GPU or version.
    """

    def __init__(self, plan: bytes | mmap, trt: Any, cuda: Cuda, buckets: Sequence[int]) -> None:
        self._trt, self._cuda, self._buckets = trt, cuda, tuple(buckets)
        level = getattr(trt.Logger, "ERROR", None)
        self._logger = trt.Logger() if level is None else trt.Logger(level)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise MismatchError("TensorRT cannot load it: it was built for another GPU or version")
        self._ready: dict[int, _Bucket] = {}

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
            self._ready[size] = _Bucket(self._engine, self._trt, self._cuda, profile, size)
        return self._ready[size]

    def close(self) -> None:
        """Frees the buffers."""
        for bucket in self._ready.values():
            bucket.free()
        self._ready.clear()
