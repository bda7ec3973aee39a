"""The ablation's table: accuracies of each row, and paired differences between rows, as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "ablation.md"
BEGIN, END = "<!-- table: benchmarks/ablation.py --write -->\n", "<!-- end of table -->\n"
SCORES = ("text off", "alpha 0", "fused")
# What the paper leads one to expect, and the baseline against the method.
EXPECTED = (
    ("TPCM only", "nothing"), ("adapters only", "TPCM only"), ("both", "adapters only"),
    ("both", "full tuning"),
)  # fmt: skip


def episodes_of(document: dict[str, Any], row: str, score: str) -> NDArray[np.float64]:
    """Share of right answers of each test episode, a line a seed, (seeds, n)."""
    return np.array([found[score] for found in document["results"] if found["row"] == row])


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean over episodes and half width of its 95 % interval, points; values (seeds, n).

    A test episode is one draw for all seeds: their mean is taken first.
    """
    each = 100 * values.mean(axis=0)
    return float(each.mean()), float(1.96 * each.std(ddof=1) / np.sqrt(len(each)))


def by_pair(document: dict[str, Any]) -> list[str]:
    """The third table: each pair on its own, text off; its episodes follow one another."""
    names = document["names"]
    rows = list(dict.fromkeys(found["row"] for found in document["results"]))
    lines = [f"| pair, text off, % | {' | '.join(rows)} |", "|---|" + "---|" * len(rows)]
    means = [
        100 * episodes_of(document, row, "text off").mean(axis=0).reshape(len(names) // 2, -1)
        for row in rows
    ]
    for pair, (first, second) in enumerate(zip(names[::2], names[1::2], strict=True)):
        cells = " | ".join(f"{of_row[pair].mean():.1f}" for of_row in means)
        lines.append(f"| {first}, {second} | {cells} |".replace("_", " "))
    return lines


def table(document: dict[str, Any]) -> str:
    """All tables."""
    rows = list(dict.fromkeys(found["row"] for found in document["results"]))
    lines = [
        "| row | tuned | text off, % | alpha = 0, % | fused, % | seeds, text off | training, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = [item for item in document["results"] if item["row"] == row]
        cells = []
        for score in SCORES:
            mean, half = interval(episodes_of(document, row, score))
            cells.append(f"{mean:.1f} ± {half:.1f}")
        seeds = " ".join(f"{100 * np.mean(item['text off']):.1f}" for item in found)
        tuned = found[0]["tuned"]
        seconds = float(np.mean([item["training_seconds"] for item in found]))
        lines.append(f"| {row} | {tuned:,} | {' | '.join(cells)} | {seeds} | {seconds:.0f} |")
    lines += [
        "",
        "| paired difference, points | text off | alpha = 0 | fused |",
        "|---|---|---|---|",
    ]
    for better, worse in EXPECTED:
        if better not in rows or worse not in rows:
            continue
        cells = []
        for score in SCORES:
            pair = (episodes_of(document, name, score) for name in (better, worse))
            mean, half = interval(np.subtract(*pair))
            cells.append(f"{mean:+.1f} ± {half:.1f}")
        lines.append(f"| {better} − {worse} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *by_pair(document)]) + "\n"


def write_results(document: dict[str, Any], *, keep: bool) -> None:
    """Prints the tables and, where asked, keeps them in the page and the figures behind them."""
    text = table(document)
    print(f"\n{text}\n{document['seconds']:.0f} s of processor time for all rows")
    if not keep:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ablation.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")


def with_table(page: str, text: str) -> str:
    """A page with other tables between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        raise ValueError(f"no place for the table: a page needs {BEGIN!r} and then {END!r}")
    return f"{before}{BEGIN}{text}{END}{after}"
