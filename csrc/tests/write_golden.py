"""Writes golden.txt: what the C++ kernels must give, computed in float64 by plain loops.

    python3 csrc/tests/write_golden.py > csrc/tests/golden.txt

Nothing but the standard library, and nothing of the package: the formulas are those of docs/method.md.
Inputs are float32 numbers, so that both sides start from the same.
"""

from __future__ import annotations

import math
import random
import struct
import sys

Vector = list[float]
Table = list[Vector]
GENERATOR = random.Random(20260101)


def single(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def numbers(count: int, scale: float = 1.0) -> Vector:
    return [single(scale * GENERATOR.uniform(-1, 1)) for _ in range(count)]


def otam(distances: Table, lam: float) -> tuple[float, Table]:
    """Cost and gradient of one direction (Cao et al. 2020), cell by cell over the padded table."""
    rows, last = len(distances), len(distances[0]) + 1
    cost = [[0.0] * (last + 1) for _ in range(rows)]
    ways: dict[tuple[int, int], list[tuple[tuple[int, int], float]]] = {}

    def padded(row: int, m: int) -> float:
        return 0.0 if m in (0, last) else distances[row][m - 1]

    for m in range(1, last + 1):
        cost[0][m] = padded(0, m) + cost[0][m - 1]
    for row in range(1, rows):
        for m in range(1, last + 1):
            before = [(row - 1, m - 1), (row, m - 1)]
            if m in (1, last):
                before.append((row - 1, m))
            least = min(cost[r][c] for r, c in before)
            terms = [math.exp((least - cost[r][c]) / lam) for r, c in before]
            cost[row][m] = padded(row, m) + least - lam * math.log(math.fsum(terms))
            ways[row, m] = [
                (cell, term / math.fsum(terms)) for cell, term in zip(before, terms, strict=True)
            ]
    flow = [[0.0] * (last + 1) for _ in range(rows)]
    flow[-1][last] = 1.0
    for row in range(rows - 1, 0, -1):
        for m in range(last, 0, -1):
            for (r, c), weight in ways[row, m]:
                flow[r][c] += weight * flow[row][m]
    for m in range(last, 0, -1):
        flow[0][m - 1] += flow[0][m]
    return cost[-1][last], [line[1:last] for line in flow]


def both(distances: Table, lam: float) -> tuple[float, Table]:
    """Both directions summed."""
    there, slopes = otam(distances, lam)
    back, turned = otam(transposed(distances), lam)
    return there + back, added(slopes, transposed(turned))


def bimhm(distances: Table) -> tuple[float, Table]:
    """Cost and gradient; the first of equal minima takes the gradient."""
    rows, columns = len(distances), len(distances[0])
    slopes = [[0.0] * columns for _ in range(rows)]
    cost = 0.0
    for row in range(rows):
        m = min(range(columns), key=lambda m: distances[row][m])
        cost += distances[row][m] / rows
        slopes[row][m] += 1 / rows
    for m in range(columns):
        row = min(range(rows), key=lambda row: distances[row][m])
        cost += distances[row][m] / columns
        slopes[row][m] += 1 / columns
    return cost, slopes


def transposed(table: Table) -> Table:
    return [list(line) for line in zip(*table, strict=True)]


def added(a: Table, b: Table) -> Table:
    return [[x + y for x, y in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]


def cut(flat: Vector, width: int) -> Table:
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def flat(table: Table) -> Vector:
    return [value for line in table for value in line]


def frame_distances(query: Table, prototype: Table) -> Table:
    def norm(v: Vector) -> float:
        return max(math.sqrt(math.fsum(x * x for x in v)), 1e-6)

    return [
        [
            1 - math.fsum(x * y for x, y in zip(q, s, strict=True)) / (norm(q) * norm(s))
            for s in prototype
        ]
        for q in query
    ]


def norm_rows(x: Table, weight: Vector, bias: Vector, eps: float) -> Table:
    result = []
    for row in x:
        mean = math.fsum(row) / len(row)
        variance = math.fsum((value - mean) ** 2 for value in row) / len(row)
        scale = 1 / math.sqrt(variance + eps)
        result.append(
            [(v - mean) * scale * w + b for v, w, b in zip(row, weight, bias, strict=True)]
        )
    return result


def attend(qkv: Table, heads: int) -> Table:
    """Multi-head attention over the frames of one clip; each row is q, k, v one after the other."""
    width = len(qkv[0]) // 3
    own = width // heads
    result = []
    for row in qkv:
        mixed: Vector = []
        for head in range(heads):
            part = range(head * own, (head + 1) * own)
            scores = [
                math.fsum(row[i] * other[width + i] for i in part) / math.sqrt(own) for other in qkv
            ]
            most = max(scores)
            shares = [math.exp(score - most) for score in scores]
            whole = math.fsum(shares)
            mixed += [
                math.fsum(share * other[2 * width + i] for share, other in zip(shares, qkv))  # noqa: B905
                / whole
                for i in part
            ]
        result.append(mixed)
    return result


def gelu(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def case(name: str, **arrays: Vector) -> None:
    lines = [f"case {name} {len(arrays)}"]
    for key, values in arrays.items():
        lines.append(" ".join([key, str(len(values)), *(f"{value:.9g}" for value in values)]))
    sys.stdout.write("\n".join(lines) + "\n")


def write_alignment() -> None:
    for rows, columns, scale in ((1, 1, 1.0), (1, 5, 1.0), (8, 8, 1.0), (7, 17, 1.0), (8, 8, 1e4)):
        given = numbers(rows * columns, scale)
        sizes = [float(rows), float(columns)]
        for lam in (0.5, 1e-3):
            cost, slopes = both(cut(given, columns), lam)
            case("otam", sizes=sizes, lam=[lam], given=given, cost=[cost], slopes=flat(slopes))
        cost, slopes = bimhm(cut(given, columns))
        case("bimhm", sizes=sizes, lam=[0.0], given=given, cost=[cost], slopes=flat(slopes))
    ties = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    cost, slopes = bimhm(cut(ties, 3))
    case("bimhm", sizes=[2.0, 3.0], lam=[0.0], given=ties, cost=[cost], slopes=flat(slopes))


def write_matching() -> None:
    queries, classes, frames, width = 2, 3, 8, 20
    query = numbers(queries * frames * width)
    prototypes = numbers(classes * frames * width)
    query[:width] = [0.0] * width  # a zero vector has distance 1 to everything
    q, p = cut(cut(query, width), frames), cut(cut(prototypes, width), frames)  # type: ignore[arg-type]
    tables = [frame_distances(a, b) for a in q for b in p]  # type: ignore[arg-type]
    sizes = [float(value) for value in (queries, classes, frames, width)]
    for name, costs in (
        ("otam_match", [both(table, 0.5)[0] for table in tables]),
        ("bimhm_match", [bimhm(table)[0] for table in tables]),
    ):
        case(name, sizes=sizes, lam=[0.5], query=query, prototypes=prototypes, scores=costs)


def write_adapter() -> None:
    clips, frames, heads, width = 2, 5, 2, 14
    sizes = [float(value) for value in (clips, frames, heads, width)]
    x, weight, bias = numbers(clips * frames * width, 3.0), numbers(width), numbers(width)
    normed = norm_rows(cut(x, width), weight, bias, 1e-5)
    case("norm_rows", sizes=sizes, x=x, weight=weight, bias=bias, normed=flat(normed))
    qkv = numbers(clips * frames * 3 * width, 2.0)
    mixed = [attend(clip, heads) for clip in cut(cut(qkv, 3 * width), frames)]  # type: ignore[arg-type]
    case("attend", sizes=sizes, qkv=qkv, mixed=[v for clip in mixed for v in flat(clip)])
    x = [*numbers(29, 6.0), 0.0, 30.0, -30.0]
    case("gelu", x=x, out=[gelu(value) for value in x])


if __name__ == "__main__":
    write_alignment()
    write_matching()
    write_adapter()
