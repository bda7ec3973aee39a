"""The public functions. Each dispatches to torch or numpy by the type of its first argument."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

from mafsar.errors import ArgumentTypeError
from mafsar.kernels import numpy_ops

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

# A torch tensor or a numpy array; each function returns the kind that it was given.
ArrayT = TypeVar("ArrayT")


def _ops_for(array: object) -> Any:
    """The module whose ops take `array`. A tensor can exist only after torch was imported."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        import mafsar.kernels.torch_ops.matching_cuda  # noqa: F401 - registers the CUDA kernels
        from mafsar.kernels.torch_ops import matching

        return matching
    return numpy_ops


def otam(
    distances: ArrayT, lam: float = 0.5, bidirectional: bool = True, lengths: Any = None
) -> ArrayT:
    """Soft OTAM cost of every pair of clips (Cao et al. 2020, padded form).

    C[l, m] = d[l, m] + softmin_λ(C[l−1, m−1], C[l, m−1]), with a vertical step in the two padding
    columns and a plain sum in row 0; both directions are OTAM(D) + OTAM(Dᵀ). Values may be
    negative. In torch the result is differentiable once, or any number of times in float64, which
    the twin computes.

    Args:
        distances: Frame distances, (..., Tq, Ts), float16, bfloat16, float32 or float64; finite,
            and so are their sums over Tq and Ts frames. Others give NaN in torch.
        lam: Temperature λ of the soft minimum, > 0; the same unit as the distances.
        bidirectional: Add the cost of the transposed distances.
        lengths: The number of valid frames (tq, ts) of each pair, (..., 2), whole numbers, or None
            for all frames. Cells outside are ignored and have gradient 0.

    Returns:
        Costs, (...), float32 (float64 for float64).

    Raises:
        ArgumentTypeError: If `distances` is not floating or `lengths` not whole numbers.
        InputError: If a shape, a length or `lam` is not as above, or if a cost of numpy arrays is
            not finite.
    """
    cost: ArrayT = _ops_for(distances).otam(distances, lam, bidirectional, lengths)
    return cost


def bimhm(distances: ArrayT, lengths: Any = None) -> ArrayT:
    """Bidirectional mean Hausdorff distance: mean_i min_j D + mean_j min_i D.

    Args:
        distances: Frame distances, (..., Tq, Ts), float16, bfloat16, float32 or float64; finite,
            and so are their sums over Tq and Ts frames. Others give NaN in torch.
        lengths: The number of valid frames (tq, ts) of each pair, (..., 2), whole numbers, or None
            for all frames.

    Returns:
        Costs, (...), float32 (float64 for float64). At ties the gradient goes to the first index.

    Raises:
        ArgumentTypeError: If `distances` is not floating or `lengths` not whole numbers.
        InputError: If a shape or a length is not as above, or if a cost of numpy arrays is not
            finite.
    """
    cost: ArrayT = _ops_for(distances).bimhm(distances, lengths)
    return cost


def otam_match(
    query: ArrayT,
    prototypes: ArrayT,
    lam: float = 0.5,
    query_lengths: Any = None,
    prototype_lengths: Any = None,
) -> ArrayT:
    """OTAM in both directions over the cosine distances of every query to every prototype.

    The distances are computed a few pairs at a time and not kept. A zero vector has distance 1 and
    gradient 0.

    Args:
        query: Frame features, (..., Q, Tq, E), any scale, floating.
        prototypes: Frame features, (..., C, Ts, E), same leading sizes, dtype and device.
        lam: Temperature λ of the soft minimum, > 0.
        query_lengths: The number of valid frames of each query, (..., Q), whole numbers, or None
            for all Tq.
        prototype_lengths: The same for each prototype, (..., C), or None for all Ts.

    Returns:
        Costs, (..., Q, C), float32 (float64 for float64).

    Raises:
        ArgumentTypeError: If features are not floating or differ in dtype, or if lengths are not
            whole numbers.
        InputError: If a shape, a length or `lam` is not as above, or if a cost of numpy arrays is
            not finite.
        MismatchError: If the features are on different devices.
    """
    cost: ArrayT = _ops_for(query).otam_match(
        query, prototypes, lam, query_lengths, prototype_lengths
    )
    return cost


def bimhm_match(
    query: ArrayT, prototypes: ArrayT, query_lengths: Any = None, prototype_lengths: Any = None
) -> ArrayT:
    """Bi-MHM over the cosine distances of every query to every prototype.

    Args, Returns and Raises are those of `otam_match`, without `lam`.
    """
    cost: ArrayT = _ops_for(query).bimhm_match(query, prototypes, query_lengths, prototype_lengths)
    return cost


def mean_match(query: ArrayT, prototypes: ArrayT) -> ArrayT:
    """1 − cosine of the time means of every query and every prototype.

    Args:
        query: Frame features, (..., Q, Tq, E), any scale, floating.
        prototypes: Frame features, (..., C, Ts, E), same leading sizes, dtype and device.

    Returns:
        Distances, (..., Q, C), float32 (float64 for float64), 0 to 2.

    Raises:
        ArgumentTypeError, InputError, MismatchError: As `otam_match`.
    """
    distance: ArrayT = _ops_for(query).mean_match(query, prototypes)
    return distance


def frame_distances(query: ArrayT, prototypes: ArrayT) -> ArrayT:
    """Cosine distance d(i, j) = 1 − cos(q_i, s_j) of every frame to every frame.

    Args:
        query: Frame features, (..., Q, Tq, E), any scale, floating.
        prototypes: Frame features, (..., C, Ts, E), same leading sizes, dtype and device.

    Returns:
        Distances, (..., Q, C, Tq, Ts), float32 (float64 for float64), 0 to 2.

    Raises:
        ArgumentTypeError, InputError, MismatchError: As `otam_match`.
    """
    distances: ArrayT = _ops_for(query).frame_distances(query, prototypes)
    return distances


def otam_alignment(distances: npt.NDArray[Any], lam: float = 0.5) -> npt.NDArray[np.floating[Any]]:
    """Soft alignment of clips: d OTAM (both directions) / d distances, numpy only.

    The value of a cell is the share of the low-cost paths that run through it, ≥ 0. In one
    direction, each row sums to at least 1.

    Args:
        distances: Frame distances, (..., Tq, Ts), floating.
        lam: Temperature λ of the soft minimum, > 0.

    Returns:
        Weights, (..., Tq, Ts), float32 (float64 for float64), ≥ 0.

    Raises:
        ArgumentTypeError: If `distances` is not floating.
        InputError: If the shape or `lam` is not as above, or if the alignment is not finite.
    """
    return numpy_ops.otam_alignment(distances, lam)


def temporal_adapter(
    c: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    down_weight: Tensor,
    down_bias: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
    *,
    heads: int,
    eps: float = 1e-5,
) -> Tensor:
    """Global temporal adaptation of class tokens, torch only.

    c' = c + W_up · GELU(W_down · (W_o · Attn_T(W_qkv · LN(c) + b_qkv) + b_o) + b_down) + b_up, with
    the exact GELU and attention over the T frames of a clip. The result is differentiable once, and
    gradients are computed only for the inputs that require one. Within autocast, all inputs are cast
    to its dtype, and c' has that dtype. The twin computes float64, more than 32 frames and exported
    graphs; it is differentiable any number of times.

    Args:
        c: Class tokens, (B, T, D), float16, bfloat16, float32 or float64; half precision is
            accumulated in float32.
        norm_weight: (D,), with the dtype and device of `c`, as all tensors that follow.
        norm_bias: (D,).
        qkv_weight: Rows of q, then k, then v, (3 D, D).
        qkv_bias: (3 D,).
        out_weight: (D, D).
        out_bias: (D,).
        down_weight: (h, D).
        down_bias: (h,).
        up_weight: (D, h).
        up_bias: (D,).
        heads: Attention heads; divides D.
        eps: Added to the variance of the layer norm, ≥ 0.

    Returns:
        c', (B, T, D), dtype of `c`.

    Raises:
        ArgumentTypeError: If `c` is not a torch tensor or not floating, or if dtypes differ.
        InputError: If a shape, `heads` or `eps` is not as above.
        MismatchError: If the tensors are on different devices.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(c, torch.Tensor):
        raise ArgumentTypeError(f"c must be a torch tensor, got {type(c).__name__}")
    from mafsar.kernels.torch_ops import adapter

    adapted: Tensor = adapter.temporal_adapter(
        c,
        norm_weight,
        norm_bias,
        qkv_weight,
        qkv_bias,
        out_weight,
        out_bias,
        down_weight,
        down_bias,
        up_weight,
        up_bias,
        heads,
        eps,
    )
    return adapted
