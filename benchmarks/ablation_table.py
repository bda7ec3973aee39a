"""The ablation's tables: accuracies of each row, and paired differences between rows, as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import Scoring
from mafsar.training.fit import fit_match, fused_scores, share_right

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "ablation.md"
BEGIN, END = "<!-- table: benchmarks/ablation.py --write -->\n", "<!-- end of table -->\n"
WAYS = ("raw", "views")
SCORES = {"off": "text off", "on": "alpha = 0", "fused": "fused"}
COLUMNS = [f"{way} {score}" for way in WAYS for score in SCORES]
# What the paper leads one to expect, and the method against its backbone.
EXPECTED = (
    ("TPCM only", "nothing"), ("adapters only", "TPCM only"), ("both", "adapters only"),
    ("both", "nothing"),
)  # fmt: skip

Floats = NDArray[np.float64]


def accuracies(results: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> list[Any]:
    """Share of right answers of every pair, by each way to match and use of names.

    Args:
        results: Of each row, seed and fold: `found` (`ablation_rows.held_out`) and facts about it.
        pairs: In their order, with `fold` and `known`.

    Returns:
        Of each row and seed its facts and, by `raw off` to `views fused`, the pairs' accuracies,
        None where names are used and not known, and in folds that were not run.
    """
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for item in results:
        runs.setdefault((item["row"], item["seed"]), []).append(item)
    return [_one_run(folds, pairs) for folds in runs.values()]


def _one_run(folds: list[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    kept: dict[str, list[float | None]] = {name: [None] * len(pairs) for name in COLUMNS}
    fitted = []
    for own in folds:
        held = [i for i, pair in enumerate(pairs) if pair["fold"] == own["fold"]]
        known = [i for i in held if pairs[i]["known"]]
        for way in WAYS:
            match = fit_on([one["found"] for one in folds if one is not own], way)
            found = own["found"]
            visual, text = (found[name].astype(np.float64) for name in (f"{way} on", "text"))
            right = {
                "off": (held, share_right(found[f"{way} off"])),
                "on": (known, share_right(visual)),
                "fused": (known, share_right(fused_scores(visual, text, match))),
            }
            for score, (places, shares) in right.items():
                means = shares.reshape(len(places), -1).mean(axis=1)
                for place, mean in zip(places, means, strict=True):
                    kept[f"{way} {score}"][place] = round(float(mean), 6)
            fitted.append(
                {"fold": own["fold"], "way": way, "alpha": match.alpha, "scale": match.visual_scale}
            )
    facts = {name: folds[0][name] for name in ("row", "seed", "tuned")}
    seconds = {name: sum(o[name] for o in folds) for name in ("training_seconds", "seconds")}
    return facts | seconds | {"fitted": fitted, "accuracy": kept}


def fit_on(others: Sequence[dict[str, Any]], way: str) -> Scoring:
    """α and visual_scale of a fold, from the answers of the other folds."""
    visual, text = (
        np.concatenate([found[name].astype(np.float64) for found in others])
        for name in (f"{way} on", "text")
    )
    return fit_match(visual, text, Scoring())


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by Fisher's expansion; right to 0.1 % from 5 on."""
    z, v = 1.959963984540054, float(freedom)
    terms = (
        z,
        (z**3 + z) / (4 * v),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3),
    )
    return sum(terms)


def interval(values: Floats) -> tuple[float, float]:
    """Mean over pairs and half width of its 95 % interval, points; shares (P,) of pairs."""
    each = 100 * values
    half = t_quantile(len(each) - 1) * each.std(ddof=1) / math.sqrt(len(each))
    return float(each.mean()), float(half)


def of_pairs(document: dict[str, Any], row: str, column: str, parts: Sequence[str]) -> Floats:
    """Accuracy of each pair that has one, mean over seeds, (P,)."""
    runs = [run["accuracy"][column] for run in document["results"] if run["row"] == row]
    taken = [
        i
        for i, pair in enumerate(document["pairs"])
        if pair["part"] in parts and runs[0][i] is not None
    ]
    return np.array(runs, dtype=object)[:, taken].astype(np.float64).mean(axis=0)


def table(document: dict[str, Any]) -> str:
    """All tables."""
    rows = list(dict.fromkeys(run["row"] for run in document["results"]))
    heads = [f"{way}, {name}" for way in WAYS for name in SCORES.values()]
    every = ("train", "val", "test")
    lines = [f"| row | tuned | {' | '.join(heads)} | training, s |", "|---" * 9 + "|"]
    for row in rows:
        runs = [run for run in document["results"] if run["row"] == row]
        means = (interval(of_pairs(document, row, column, every)) for column in COLUMNS)
        cells = " | ".join(f"{mean:.1f} ± {half:.1f}" for mean, half in means)
        seconds = float(np.mean([run["training_seconds"] for run in runs]))
        lines.append(f"| {row} | {runs[0]['tuned']:,} | {cells} | {seconds:.0f} |")
    for title, parts in (
        ("difference, points, all pairs", every),
        ("difference, points, pairs of which the towers saw no frame", ("val", "test")),
    ):
        lines += ["", f"| {title} | {' | '.join(heads)} |", "|---" * 7 + "|"]
        for better, worse in EXPECTED:
            if better in rows and worse in rows:
                cells = " | ".join(_difference(document, better, worse, parts))
                lines.append(f"| {better} − {worse} | {cells} |")
    return "\n".join([*lines, "", *_by_seed(document, rows)]) + "\n"


def _difference(
    document: dict[str, Any], better: str, worse: str, parts: Sequence[str]
) -> list[str]:
    cells = []
    for column in COLUMNS:
        one, two = (of_pairs(document, row, column, parts) for row in (better, worse))
        mean, half = interval(one - two)
        cells.append(f"{mean:+.1f} ± {half:.1f}")
    return cells


def _by_seed(document: dict[str, Any], rows: Sequence[str]) -> list[str]:
    """The last table: what another initialisation changes, text off."""
    lines = ["| seeds, text off, % | raw | views |", "|---|---|---|"]
    for row in rows:
        runs = [run["accuracy"] for run in document["results"] if run["row"] == row]
        cells = (" ".join(_mean(accuracy[f"{way} off"]) for accuracy in runs) for way in WAYS)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def _mean(accuracies: Sequence[float | None]) -> str:
    return f"{100 * np.mean([value for value in accuracies if value is not None]):.1f}"


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
