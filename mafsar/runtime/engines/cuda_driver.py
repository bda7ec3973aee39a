"""The calls of the CUDA runtime that the TensorRT encoder needs, by ctypes (no torch).

On a Jetson this is the system's library; elsewhere it can also come from a pip package.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from mafsar.errors import UnavailableError, option

_NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12")
_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_NON_BLOCKING = 1  # cudaStreamNonBlocking: does not wait for other libraries' default stream
_THREAD_LOCAL = 1  # cudaStreamCaptureMode: other threads may allocate meanwhile


class Cuda:
    """One device.

    Args:
        index: The device's number.

    Attributes:
        peak_bytes: The most device memory that was allocated at once by this object.

    Raises:
        UnavailableError: There is no CUDA runtime, or no such device.
    """

    def __init__(self, index: int = 0) -> None:
        self._library = _load()
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        self._index = index
        self._sizes: dict[int, int] = {}
        self.peak_bytes = 0
        self.activate()

    def activate(self) -> None:
        """Makes the device the calling thread's own; each thread starts with device 0."""
        self.check(self._library.cudaSetDevice(self._index), f"select GPU {self._index}")

    def check(self, status: int, what: str) -> None:
        """Raises UnavailableError if a call failed."""
        if status != 0:
            reason = self._library.cudaGetErrorString(status).decode()
            raise UnavailableError(
                f"CUDA could not {what}: {reason} ({status}); free memory on the GPU or use ",
                option(engine="onnx", device="cpu"),
            )

    def allocate(self, size_bytes: int) -> int:
        """Allocates device memory; returns its address."""
        pointer = ctypes.c_void_p()
        size = ctypes.c_size_t(size_bytes)
        self.check(
            self._library.cudaMalloc(ctypes.byref(pointer), size), f"allocate {size_bytes} bytes"
        )
        address = pointer.value or 0
        self._sizes[address] = size_bytes
        self.peak_bytes = max(self.peak_bytes, sum(self._sizes.values()))
        return address

    def allocate_pinned(self, size_bytes: int) -> int:
        """Allocates pinned host memory, which is copied without a detour; returns its address."""
        pointer = ctypes.c_void_p()
        size = ctypes.c_size_t(size_bytes)
        self.check(
            self._library.cudaHostAlloc(ctypes.byref(pointer), size, ctypes.c_uint(0)),
            f"pin {size_bytes} bytes",
        )
        return pointer.value or 0

    def free(self, address: int) -> None:
        """Frees device memory; errors, as at the end of a process, are ignored."""
        self._sizes.pop(address, None)
        self._library.cudaFree(ctypes.c_void_p(address))

    def free_pinned(self, address: int) -> None:
        """Frees pinned host memory."""
        self._library.cudaFreeHost(ctypes.c_void_p(address))

    def stream(self) -> int:
        """Creates a stream; returns its handle."""
        handle = ctypes.c_void_p()
        status = self._library.cudaStreamCreateWithFlags(
            ctypes.byref(handle), ctypes.c_uint(_NON_BLOCKING)
        )
        self.check(status, "make a stream")
        return handle.value or 0

    def destroy_stream(self, stream: int) -> None:
        """Frees a stream."""
        self._library.cudaStreamDestroy(ctypes.c_void_p(stream))

    def to_device(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        """Enqueues a copy from host to device."""
        self._copy(device, host, size_bytes, _TO_DEVICE, stream)

    def to_host(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        """Enqueues a copy from device to host."""
        self._copy(host, device, size_bytes, _TO_HOST, stream)

    def _copy(self, to: int, of: int, size_bytes: int, kind: int, stream: int) -> None:
        status = self._library.cudaMemcpyAsync(
            ctypes.c_void_p(to),
            ctypes.c_void_p(of),
            ctypes.c_size_t(size_bytes),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )
        self.check(status, f"copy {size_bytes} bytes")

    def wait(self, stream: int) -> None:
        """Waits for everything enqueued on a stream."""
        self.check(self._library.cudaStreamSynchronize(ctypes.c_void_p(stream)), "run the engine")

    def begin_capture(self, stream: int) -> None:
        """Begins to record what is enqueued on the stream, instead of running it."""
        status = self._library.cudaStreamBeginCapture(
            ctypes.c_void_p(stream), ctypes.c_int(_THREAD_LOCAL)
        )
        self.check(status, "begin a graph")

    def end_capture(self, stream: int) -> int | None:
        """Ends recording; returns the graph, ready to launch, or None if it could not be recorded."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        status = self._library.cudaStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph))
        if status == 0 and graph.value:
            status = self._library.cudaGraphInstantiateWithFlags(
                ctypes.byref(ready), graph, ctypes.c_ulonglong(0)
            )
            self._library.cudaGraphDestroy(graph)
        if status != 0 or not ready.value:
            self._library.cudaGetLastError()  # clears the error, or the next call would report it
            return None
        return ready.value

    def destroy_graph(self, graph: int) -> None:
        """Frees a recorded graph."""
        self._library.cudaGraphExecDestroy(ctypes.c_void_p(graph))

    def launch(self, graph: int, stream: int) -> None:
        """Enqueues a recorded graph."""
        status = self._library.cudaGraphLaunch(ctypes.c_void_p(graph), ctypes.c_void_p(stream))
        self.check(status, "launch a graph")


def _load() -> ctypes.CDLL:
    """The first CUDA runtime that fits the driver.

    Raises:
        UnavailableError: There is none; says which were too new for the driver.
    """
    too_new = []
    for name in candidates():
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        runtime, driver = (_version(library, part) for part in ("Runtime", "Driver"))
        # A driver runs the runtimes of its own major version and of older ones.
        if driver and runtime // 1000 > driver // 1000:
            too_new.append(f"{name} is CUDA {runtime // 1000}, the driver CUDA {driver // 1000}")
            continue
        return library
    raise UnavailableError(
        option(engine="trt"),
        f": {too_new[0]}; update the driver or pip install nvidia-cuda-runtime of its version"
        if too_new
        else ": the CUDA runtime (libcudart.so) is not found; pip install nvidia-cuda-runtime, on a "
        "Jetson: sudo apt install nvidia-jetpack",
    )


def _version(library: ctypes.CDLL, part: str) -> int:
    """Of the runtime or of the driver below it, as 12040; 0 where it is not known."""
    value = ctypes.c_int()
    status = getattr(library, f"cuda{part}GetVersion")(ctypes.byref(value))
    return value.value if status == 0 else 0


def candidates(root: Path = Path("/")) -> Iterator[str]:
    """Where the CUDA runtime may be, the most likely first.

    Args:
        root: Root of the file system.
    """
    yield from _NAMES
    # The toolkit's folder; on a Jetson, LD_LIBRARY_PATH does not always have it.
    toolkit = root / "usr/local/cuda"
    for folder in (toolkit / "lib64", toolkit / "targets/aarch64-linux/lib"):
        yield from map(str, sorted(folder.glob("libcudart.so*")))
    # pip packages for aarch64 do not support a Jetson's GPU.
    if not (root / "etc/nv_tegra_release").exists():
        yield from map(str, _from_packages())


def _from_packages() -> Iterator[Path]:
    """Where NVIDIA's pip packages put the library."""
    spec = importlib.util.find_spec("nvidia")
    for folder in [] if spec is None else list(spec.submodule_search_locations or []):
        yield from sorted(Path(folder).glob("*/lib/libcudart.so.*"), reverse=True)
