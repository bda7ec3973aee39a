"""Torch twins of the native ops: the specification that the native kernels are tested against.

Plain differentiable torch, written to be read: any device, any floating dtype, derivatives of every
order, exportable. OTAM is Cao et al. 2020 in the usual padded form; its soft minimum subtracts the
minimum before it divides by λ,

    softmin_λ(x) = m − λ · log Σ exp((m − x) / λ),   m = min x,

because −λ·logsumexp(−x/λ) in float32 has a gradient error of 1.0 at λ = 1e-3, |d| = 1e4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from mafsar.kernels.checks import AlignmentMetric, check_metric

SHORTEST_NORM = 1e-6


def soft_minimum(values: Sequence[torch.Tensor], lam: float) -> torch.Tensor:
    """Soft minimum of tensors of one shape, element by element.

    The minimum is a constant for autograd, because the value does not depend on it. So the gradient
    is softmax((m − x)/λ) of the same differences that gave the value.
    """
    stacked = torch.stack(tuple(values))  # (n, ...)
    minimum = stacked.detach().amin(dim=0)
    return minimum - lam * torch.exp((minimum - stacked) / lam).sum(dim=0).log()


def _one_direction(
    distances: torch.Tensor, lam: float, lengths: torch.Tensor | None
) -> torch.Tensor:
    """OTAM of (..., Tq, Ts), query frames along the rows, with a zero column on either side."""
    rows, columns = distances.shape[-2:]
    zero = torch.zeros_like(distances[..., 0, 0])
    above = [zero]  # C[l-1, 0 … Ts]; the closing column is kept apart in `closing`
    for m in range(1, columns + 1):
        above.append(above[m - 1] + distances[..., 0, m - 1])

    def last_frame(row: list[torch.Tensor]) -> torch.Tensor:
        """C[l, ts]: the last of the pair's own columns."""
        if lengths is None:
            return row[columns]
        index = lengths[..., 1:].long()
        return torch.stack(row, dim=-1).gather(-1, index).squeeze(-1)

    closing = last_frame(above)
    for row in range(1, rows):
        current = [zero]
        for m in range(1, columns + 1):
            ways = [above[m - 1], current[m - 1]]
            if m == 1:
                ways.insert(1, above[1])
            current.append(distances[..., row, m - 1] + soft_minimum(ways, lam))
        closed = soft_minimum([last_frame(above), closing, last_frame(current)], lam)
        closing = closed if lengths is None else torch.where(row < lengths[..., 0], closed, closing)
        above = current
    return closing


def _own_cells(distances: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """True where a cell lies inside its pair's (tq, ts); (..., Tq, Ts)."""
    rows, columns = distances.shape[-2:]
    row = torch.arange(rows, device=distances.device)
    column = torch.arange(columns, device=distances.device)
    inside_rows = row < lengths[..., 0, None]  # (..., Tq)
    inside_columns = column < lengths[..., 1, None]  # (..., Ts)
    return inside_rows[..., :, None] & inside_columns[..., None, :]


def otam(
    distances: torch.Tensor,
    lam: float = 0.5,
    bidirectional: bool = True,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Soft OTAM cost of every pair, Cao et al. 2020; see `mafsar.kernels.otam`."""
    if lengths is not None:
        lengths = lengths.to(distances.device)
        # Cells outside may hold anything, NaN included.
        distances = distances.masked_fill(~_own_cells(distances, lengths), 0.0)
    cost = _one_direction(distances, lam, lengths)
    if bidirectional:
        swapped = None if lengths is None else lengths.flip(-1)
        cost = cost + _one_direction(distances.transpose(-1, -2), lam, swapped)
    return cost


def bimhm(distances: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
    """Bidirectional mean Hausdorff distance of every pair; see `mafsar.kernels.bimhm`.

    `min(dim)` rather than `amin`, because at a tie the first index takes the whole gradient.
    """
    if lengths is None:
        nearest_support = distances.min(dim=-1).values  # (..., Tq)
        nearest_query = distances.min(dim=-2).values  # (..., Ts)
        return nearest_support.mean(dim=-1) + nearest_query.mean(dim=-1)
    lengths = lengths.to(distances.device)
    inside = _own_cells(distances, lengths)
    distances = distances.masked_fill(~inside, float("inf"))
    cost = torch.zeros_like(distances[..., 0, 0])
    for dim, side in ((-1, 0), (-2, 1)):
        nearest = distances.min(dim=dim).values.masked_fill(~inside.any(dim=dim), 0.0)
        cost = cost + nearest.sum(dim=-1) / lengths[..., side]
    return cost


def align(
    metric: AlignmentMetric,
    distances: torch.Tensor,
    lam: float,
    bidirectional: bool,
    lengths: torch.Tensor | None,
) -> torch.Tensor:
    """The cost of every pair in the named metric; Bi-MHM ignores `lam` and `bidirectional`."""
    check_metric(metric)
    if metric == "otam":
        return otam(distances, lam, bidirectional, lengths)
    return bimhm(distances, lengths)


def unit_vectors(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors over max(‖·‖, 1e-6) along the last axis; a zero vector has gradient 0."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    scale = torch.where(norm > 0, 1.0 / norm.clamp_min(SHORTEST_NORM), torch.zeros_like(norm))
    return vectors * scale


def frame_distances(query: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Cosine distance of every query frame to every prototype frame, (..., Q, C, Tq, Ts)."""
    return 1.0 - torch.einsum(
        "...qie,...cje->...qcij", unit_vectors(query), unit_vectors(prototypes)
    )


def pair_lengths(
    query: torch.Tensor,
    prototypes: torch.Tensor,
    query_lengths: torch.Tensor | None,
    prototype_lengths: torch.Tensor | None,
) -> torch.Tensor | None:
    """(tq, ts) of every pair from the lengths of the videos, (..., Q, C, 2), or None."""
    if query_lengths is None and prototype_lengths is None:
        return None
    shape = (*query.shape[:-2], prototypes.shape[-3])  # (..., Q, C)
    full = torch.ones(shape, dtype=torch.int64, device=query.device)
    rows = full * query.shape[-2]
    columns = full * prototypes.shape[-2]
    if query_lengths is not None:
        rows = full * query_lengths.to(query.device)[..., :, None]
    if prototype_lengths is not None:
        columns = full * prototype_lengths.to(query.device)[..., None, :]
    return torch.stack((rows, columns), dim=-1)


def otam_match(
    query: torch.Tensor,
    prototypes: torch.Tensor,
    lam: float = 0.5,
    query_lengths: torch.Tensor | None = None,
    prototype_lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Bidirectional OTAM over cosine distances; see `mafsar.kernels.otam_match`."""
    return match("otam", query, prototypes, lam, query_lengths, prototype_lengths)


def bimhm_match(
    query: torch.Tensor,
    prototypes: torch.Tensor,
    query_lengths: torch.Tensor | None = None,
    prototype_lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Bi-MHM over cosine distances; see `mafsar.kernels.bimhm_match`."""
    return match("bimhm", query, prototypes, 1.0, query_lengths, prototype_lengths)


def match(
    metric: AlignmentMetric,
    query: torch.Tensor,
    prototypes: torch.Tensor,
    lam: float,
    query_lengths: torch.Tensor | None,
    prototype_lengths: torch.Tensor | None,
) -> torch.Tensor:
    """The cost of every query to every prototype in the named metric; Bi-MHM ignores `lam`."""
    check_metric(metric)
    lengths = pair_lengths(query, prototypes, query_lengths, prototype_lengths)
    return align(metric, frame_distances(query, prototypes), lam, True, lengths)


def mean_match(query: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """1 − cosine of the time means of every pair, (..., Q, C)."""
    query_means = unit_vectors(query.mean(dim=-2))  # (..., Q, E)
    prototype_means = unit_vectors(prototypes.mean(dim=-2))  # (..., C, E)
    return 1.0 - query_means @ prototype_means.transpose(-1, -2)


def temporal_adapter(
    c: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    qkv_weight: torch.Tensor,
    qkv_bias: torch.Tensor,
    out_weight: torch.Tensor,
    out_bias: torch.Tensor,
    down_weight: torch.Tensor,
    down_bias: torch.Tensor,
    up_weight: torch.Tensor,
    up_bias: torch.Tensor,
    heads: int,
    eps: float = 1e-5,
) -> torch.Tensor:
    """c + W_up · GELU(W_down · MSA(LN(c))), all with biases; see `mafsar.kernels.temporal_adapter`.

    Attention is written out, because the fused operator exports as a lot of shape arithmetic.
    """
    normed = F.layer_norm(c, c.shape[-1:], norm_weight, norm_bias, eps)
    qkv = F.linear(normed, qkv_weight, qkv_bias)  # (B, T, 3 D)
    split = qkv.reshape(*c.shape[:2], 3, heads, c.shape[-1] // heads)  # (B, T, 3, heads, D / heads)
    q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, T, D / heads)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, heads, T, T)
    mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)  # (B, T, D)
    attended = F.linear(mixed, out_weight, out_bias)
    hidden = F.gelu(F.linear(attended, down_weight, down_bias))  # (B, T, h)
    return c + F.linear(hidden, up_weight, up_bias)
