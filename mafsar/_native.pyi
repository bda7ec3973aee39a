"""The native kernels: addresses of contiguous float32 (lengths: int64, 0 for none), then sizes.

Only the metric is checked here. Call `mafsar.kernels`, which checks all arguments.
"""

from typing import Literal, TypeAlias

_Metric: TypeAlias = Literal["otam", "bimhm"]

def align_forward(
    metric: _Metric,
    distances: int,
    lengths: int,
    pairs: int,
    rows: int,
    columns: int,
    lam: float,
    bidirectional: bool,
    out: int,
) -> None:
    """The metric of given distances; "bimhm" ignores lam and bidirectional.

    Raises:
        ValueError: If `metric` is another word. The same holds for every function that takes one.
    """

def align_backward(
    metric: _Metric,
    grad: int,
    distances: int,
    lengths: int,
    pairs: int,
    rows: int,
    columns: int,
    lam: float,
    bidirectional: bool,
    out: int,
) -> None: ...
def match_forward(
    metric: _Metric,
    query: int,
    prototypes: int,
    query_lengths: int,
    prototype_lengths: int,
    batch: int,
    queries: int,
    classes: int,
    rows: int,
    columns: int,
    width: int,
    lam: float,
    scores: int,
) -> None: ...
def windows_forward(
    metric: _Metric,
    features: int,
    prototypes: int,
    mean: int,
    floor: float,
    appearance: float,
    change: float,
    windows: int,
    classes: int,
    frames: int,
    columns: int,
    width: int,
    lam: float,
    scores: int,
) -> None:
    """Windows of float16 features, (windows, frames, width); 0 for `mean`: they are matched raw."""

def match_backward(
    metric: _Metric,
    grad: int,
    query: int,
    prototypes: int,
    query_lengths: int,
    prototype_lengths: int,
    batch: int,
    queries: int,
    classes: int,
    rows: int,
    columns: int,
    width: int,
    lam: float,
    grad_query: int,
    grad_prototypes: int,
) -> None: ...
def norm_forward(
    x: int,
    weight: int,
    bias: int,
    clips: int,
    frames: int,
    heads: int,
    width: int,
    eps: float,
    normed: int,
) -> None: ...
def norm_backward(
    grad: int,
    skip: int,
    x: int,
    weight: int,
    clips: int,
    frames: int,
    heads: int,
    width: int,
    eps: float,
    out: int,
) -> None: ...
def attend_forward(
    qkv: int, clips: int, frames: int, heads: int, width: int, mixed: int
) -> None: ...
def attend_backward(
    grad: int, qkv: int, clips: int, frames: int, heads: int, width: int, grad_qkv: int
) -> None: ...
def gelu_forward(x: int, count: int, out: int) -> None: ...
def gelu_backward(grad: int, x: int, count: int, grad_x: int) -> None: ...
def adapter_forward(
    c: int,
    weights: list[int],
    clips: int,
    frames: int,
    heads: int,
    width: int,
    hidden: int,
    eps: float,
    kept: list[int],
    out: int,
) -> None: ...
def adapter_backward(
    grad: int,
    c: int,
    weights: list[int],
    kept: list[int],
    clips: int,
    frames: int,
    heads: int,
    width: int,
    hidden: int,
    eps: float,
    depth: int,
    scratch: list[int],
    grads: list[int],
) -> None:
    """All steps in one call; the lists are in the order of the structs of csrc/mafsar/adapter.h."""

def set_num_threads(count: int) -> None: ...
def get_num_threads() -> int: ...
def use_team(address: int) -> None:
    """Run on the threads of an OpenMP runtime, by the address of its GOMP_parallel; 0 for our own."""

def isa() -> str:
    """Instruction set in use: avx512, avx2, sse2, neon or generic."""

def use_isa(name: str) -> bool:
    """Use the kernels of another instruction set; False if this processor does not have it."""

# The rest exists only if the module was built with CUDA. Device addresses, the stream last, `grad` 0
# in the forward pass; nothing waits. `storage` is 0 for float32, 1 for float16, 2 for bfloat16.

def cuda_norm(
    storage: int,
    grad: int,
    skip: int,
    x: int,
    weight: int,
    bias: int,
    rows: int,
    width: int,
    eps: float,
    out: int,
    stream: int,
) -> None: ...
def cuda_attend(
    storage: int,
    grad: int,
    qkv: int,
    clips: int,
    frames: int,
    heads: int,
    width: int,
    out: int,
    stream: int,
) -> None: ...
def cuda_gelu(storage: int, grad: int, x: int, count: int, out: int, stream: int) -> None: ...
def cuda_adapter_forward(
    storage: int,
    c: int,
    weights: list[int],
    clips: int,
    frames: int,
    heads: int,
    width: int,
    hidden: int,
    eps: float,
    kept: list[int],
    out: int,
    stream: int,
) -> None: ...
def cuda_adapter_backward(
    storage: int,
    grad: int,
    c: int,
    weights: list[int],
    kept: list[int],
    clips: int,
    frames: int,
    heads: int,
    width: int,
    hidden: int,
    eps: float,
    depth: int,
    scratch: list[int],
    grads: list[int],
    stream: int,
) -> None: ...
def cuda_align(
    metric: _Metric,
    grad: int,
    distances: int,
    lengths: int,
    pairs: int,
    rows: int,
    columns: int,
    lam: float,
    bidirectional: bool,
    out: int,
    stream: int,
) -> None: ...
def cuda_match(
    metric: _Metric,
    grad: int,
    own: int,
    other: int,
    own_lengths: int,
    other_lengths: int,
    batch: int,
    own_videos: int,
    other_videos: int,
    own_frames: int,
    other_frames: int,
    width: int,
    own_stride: int,
    other_stride: int,
    lam: float,
    slices: int,
    out: int,
    stream: int,
) -> None: ...
def cuda_match_blocks(batch: int, videos: int, frames: int) -> int: ...
def cuda_match_steps(videos: int, frames: int) -> int: ...
def cuda_match_shared_bytes(rows: int, columns: int) -> int: ...
def cuda_align_shared_bytes(rows: int, columns: int) -> int: ...
def cuda_shared_bytes_of_device(index: int) -> int: ...
def cuda_multiprocessors_of_device(index: int) -> int: ...
def cuda_problem(index: int) -> str:
    """Why the kernels cannot run on a device, "" where they can; loads them."""

def cuda_driver_version() -> int:
    """Of the driver, as 12040; 0 where there is none."""

def cuda_devices() -> int:
    """The number of devices, 0 where the driver gives none."""

def cuda_architectures() -> str:
    """Compute capabilities that the kernels were built for: "75 80 …"."""
