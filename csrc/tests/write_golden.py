"""Writes golden.txt: the results that the C++ kernels must give, computed in float64 by plain loops.

    python3 csrc/tests/write_golden.py > csrc/tests/golden.txt

It needs only the standard library. The matching formulas are those of
tests/restatements/matching.py, the others stand here; nothing of the package is used. Inputs are
float32 numbers, so that both sides start from the same values.
"""

from __future__ import annotations

import importlib.util
import math
import random
import struct
import sys
from pathlib import Path
from types import ModuleType

Vector = list[float]
Table = list[Vector]
GENERATOR = random.Random(20260101)


LAMBDAS = (10.0, 0.5, 0.1, 1e-3)
SMOOTH = 3  # of these are large enough for float32 gradients to be compared


def load_matching() -> ModuleType:
    path = Path(__file__).parents[2] / "tests" / "restatements" / "matching.py"
    spec = importlib.util.spec_from_file_location("restated_matching", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MATCHING = load_matching()


def single(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def numbers(count: int, scale: float = 1.0) -> Vector:
    return [single(scale * GENERATOR.uniform(-1, 1)) for _ in range(count)]


def cut(flat: Vector, width: int) -> Table:
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def flat(table: Table) -> Vector:
    return [value for line in table for value in line]


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
    """Pairs of one size a case. Costs of every λ; slopes of the smooth ones, λ by λ."""
    for pairs, rows, columns in ((1, 1, 1), (1, 1, 5), (6, 8, 8), (2, 7, 17), (1, 32, 9)):
        for scale in (1.0, 1e4):
            given = numbers(pairs * rows * columns, scale)
            tables = cut(cut(given, columns), rows)  # type: ignore[arg-type]
            costs = {lam: [MATCHING.both(table, lam) for table in tables] for lam in LAMBDAS}
            smooth = LAMBDAS[:SMOOTH] if scale == 1.0 else ()
            case(
                "otam",
                sizes=[float(pairs), float(rows), float(columns)],
                lam=list(LAMBDAS),
                given=given,
                cost=[one.value for lam in LAMBDAS for one in costs[lam]],
                slopes=[v for lam in smooth for one in costs[lam] for v in flat(one.gradient)],
            )
            write_bimhm([pairs, rows, columns], given)
    write_bimhm([1, 2, 3], [0.0, 1.0, 0.0, 1.0, 0.0, 0.0])  # ties


def write_bimhm(sizes: list[int], given: Vector) -> None:
    costs = [MATCHING.bimhm(table) for table in cut(cut(given, sizes[2]), sizes[1])]  # type: ignore[arg-type]
    case(
        "bimhm",
        sizes=[float(size) for size in sizes],
        lam=[1.0],
        given=given,
        cost=[one.value for one in costs],
        slopes=[v for one in costs for v in flat(one.gradient)],
    )


def write_matching() -> None:
    queries, classes, frames, width = 2, 3, 8, 20
    query = numbers(queries * frames * width)
    prototypes = numbers(classes * frames * width)
    query[:width] = [0.0] * width  # a zero vector has distance 1 to everything
    q, p = cut(cut(query, width), frames), cut(cut(prototypes, width), frames)  # type: ignore[arg-type]
    tables = [MATCHING.frame_distances(a, b) for a in q for b in p]  # type: ignore[arg-type]
    sizes = [float(value) for value in (queries, classes, frames, width)]
    for name, costs in (
        ("otam_match", [MATCHING.both(table, 0.5).value for table in tables]),
        ("bimhm_match", [MATCHING.bimhm(table).value for table in tables]),
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
