"""Native kernels. Addresses of contiguous float32 (lengths: int64, 0 for none), then sizes.

Nothing is checked here; call `mafsar.kernels`, which does.
"""

def otam_forward(
    distances: int,
    lengths: int,
    pairs: int,
    rows: int,
    columns: int,
    lam: float,
    bidirectional: bool,
    out: int,
) -> None: ...
def otam_backward(
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
def bimhm_forward(
    distances: int, lengths: int, pairs: int, rows: int, columns: int, out: int
) -> None: ...
def bimhm_backward(
    grad: int, distances: int, lengths: int, pairs: int, rows: int, columns: int, out: int
) -> None: ...
def match_forward(
    metric: str,
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
def match_backward(
    metric: str,
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
def set_num_threads(count: int) -> None: ...
def get_num_threads() -> int: ...
def isa() -> str:
    """Instruction set in use: avx512, avx2, sse2, neon or generic."""

def use_isa(name: str) -> bool:
    """Use the kernels of another instruction set; False if this processor has none such."""
