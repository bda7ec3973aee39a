"""One TensorRT engine at run time: a context, buffers and a CUDA graph for each batch size.

Touches only names that TensorRT 10.3 (JetPack 6) binds.
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
    """Cuts `count` clips into runs.

    Args:
        count: Clips, ≥ 1.
        buckets: Batch sizes of the engine, rising.

    Returns:
        (clips, bucket) of each run: the least bucket that holds the rest where padding does not
        double it, else the largest one that is filled.
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
    """One tensor of one bucket: pinned host memory seen as an array, and device memory."""

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
    """A context bound to the profile of one batch size, with its own buffers and stream."""

    def __init__(self, engine: Any, trt: Any, cuda: Cuda, profile: int, batch: int) -> None:
        self._cuda, self._stream = cuda, cuda.stream()
        self._context = engine.create_execution_context()
        if self._context is None:
            raise UnavailableError(
                option(engine="trt"),
                f": no memory for a context of batch {batch}; free some on the GPU",
            )
        if not self._context.set_optimization_profile_async(profile, self._stream):
            raise MismatchError(f"the engine has no profile {profile} for batch {batch}")
        cuda.wait(self._stream)
        self.inputs: dict[str, _Buffer] = {}
        self.outputs: dict[str, _Buffer] = {}
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        is_input = {n: engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT for n in names}
        for name in sorted(names, key=lambda n: not is_input[n]):  # outputs follow from inputs
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
        """Runs `count` clips, the rest of the batch is padding; copies of the first rows."""
        for name, buffer in self.inputs.items():
            buffer.array[:count] = inputs[name]
            buffer.array[count:] = 0
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self._cuda.wait(self._stream)
        self._runs += 1
        # The first run allocates what a recording may not; the second one is worth recording.
        if self._runs == 1:
            self._record()
        # By the clips that were asked for: rows of padding never come back.
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
    """A deserialised engine.

    Args:
        plan: Its bytes or a mapped file, whose hash has been checked: a plan is code.
        trt: The module, `tensorrt` or `tensorrt_rtx`.
        cuda: The device.
        buckets: Batch sizes, in the order of the engine's profiles.

    Raises:
        MismatchError: The module does not take the plan; it was made for another device or version.
    """

    def __init__(self, plan: bytes | mmap, trt: Any, cuda: Cuda, buckets: Sequence[int]) -> None:
        self._trt, self._cuda, self._buckets = trt, cuda, tuple(buckets)
        level = getattr(trt.Logger, "ERROR", None)
        self._logger = trt.Logger() if level is None else trt.Logger(level)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise MismatchError("TensorRT does not take it: made for another device or version")
        self._ready: dict[int, _Bucket] = {}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Runs any number of clips.

        Args:
            inputs: By name, the first axis the batch, C-contiguous, of the engine's types.

        Returns:
            Outputs by name, one row a clip.
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
        """Gives the buffers back."""
        for bucket in self._ready.values():
            bucket.free()
        self._ready.clear()
