"""How well does p_none tell clips of unknown classes from clips of a bank's classes?

Banks of 1, 2, 5 and 20 classes are drawn from rendered test classes (for 20, with unnamed ones that no
training draws); as many clips of other test classes as of the bank's own are asked of each. Beside
`p_none` of the bundle stand the largest softmax share and the least distance, each with its views, λ and
scale chosen, and a logistic regression on it and the size of the bank fitted, on the same validation
episodes that the bundle's p_none was fitted on. Differences are paired, over the same episodes. With
--data and --real, real clips follow: each class in turn unknown to a bank of the others, and an
arm-wrestling clip and noise asked of a bank of scenes.

    python benchmarks/none.py [--model tiny] [--rounds 60] [--data DIR] [--real DIR] [--features DIR] [--write]

--data holds folders of class folders, --real the folders scenes6 and formats. --features keeps what was
encoded.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mafsar
from mafsar import kernels
from mafsar.choices import NonePrior
from mafsar.runtime.cache.speeds import processor_name
from mafsar.runtime.encoder import Encoder, Float32
from mafsar.runtime.engines.negatives import read_negatives
from mafsar.runtime.scoring.none import NoneJudge
from mafsar.runtime.scoring.scores import softmax
from mafsar.training.starter.negatives import (
    Clips,
    Episode,
    cross_entropy,
    draw_episode,
    draw_mixture,
    fit_logistic,
    held_out,
)
from mafsar.video import find_clips, load_clip

Float64 = NDArray[np.float64]
FAR, BINS, BOOTSTRAPS = 0.05, 15, 1000
BANKS = ((1, 1), (1, 5), (2, 1), (2, 5), (5, 1), (5, 5), (20, 1), (20, 5))
VIEWS = (("raw", 0.5), ("raw", 0.1), (0.25, 0.1), (0.5, 0.1))
SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)
Scores = list[Float64]  # p_none of the queries of each episode


@dataclass(frozen=True)
class Baseline:
    """A plain statistic with what was chosen for it on validation episodes."""

    name: str
    prior: NonePrior
    scale: float
    weights: Float64

    def rows(self, judge: NoneJudge, query: Float32, shots: int) -> Float64:
        """1, the statistic, and the size of the bank, (Q, 5)."""
        d = judge.distances(query).classes
        plain = d.min(axis=1)
        if self.name == "max-softmax":
            plain = -softmax(-self.scale * d).max(axis=1)
        ways = d.shape[1]
        size = np.tile([np.log(shots), np.log(ways), float(ways == 1)], (len(d), 1))
        return np.concatenate([np.ones((len(d), 1)), plain[:, None], size], axis=1)

    def p_none(self, judge: NoneJudge, query: Float32, shots: int) -> Float64:
        """The fitted probability, (Q,)."""
        return 1 / (1 + np.exp(-self.rows(judge, query, shots) @ self.weights))


def tune(
    name: str, drawn: Sequence[tuple[Clips, Episode]], prior: NonePrior, negatives: Float32
) -> Baseline:
    """Chooses views, λ and scale, and fits the weights."""
    truth = np.concatenate([episode.unknown for _, episode in drawn])
    best: tuple[float, Baseline] | None = None
    for views, lam in VIEWS:
        own = replace(prior, views=views, lam=lam)
        judges = [episode.judge(clips, own, negatives) for clips, episode in drawn]
        for scale in SCALES if name == "max-softmax" else (1.0,):
            tried = Baseline(name, own, scale, np.zeros(5))
            rows = np.concatenate(
                [
                    tried.rows(judge, clips.features[e.queries], e.support.shape[1])
                    for judge, (clips, e) in zip(judges, drawn, strict=True)
                ]
            )
            weights = fit_logistic(rows, truth)
            loss = cross_entropy(1 / (1 + np.exp(-rows @ weights)), truth)
            if best is None or loss < best[0]:
                best = loss, replace(tried, weights=weights)
    assert best is not None
    return best[1]


def auroc(p: Float64, unknown: NDArray[np.bool_]) -> float:
    """The probability that an unknown clip has the larger p_none; ties count half."""
    _, place, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    many = int(unknown.sum())
    return float((ranks[unknown].sum() - many * (many + 1) / 2) / (many * (len(p) - many)))


def kept(p: Float64, unknown: NDArray[np.bool_]) -> float:
    """Share of known clips below the p_none that 5 % of the unknown clips are below."""
    return float((p[~unknown] < np.quantile(p[unknown], FAR)).mean())


def ece(p: Float64, unknown: NDArray[np.bool_]) -> float:
    """Expected calibration error of p_none in 15 equal bins."""
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    gaps = [abs(float((p - unknown)[place == b].sum())) for b in range(BINS)]
    return sum(gaps) / len(p)


def compare(
    scores: dict[str, Scores], truth: list[NDArray[np.bool_]], rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Measures of each method, and 95 % paired intervals of ours minus it, over episodes."""
    measures: dict[str, Callable[[Float64, NDArray[np.bool_]], float]] = {
        "auroc": auroc, "kept": kept, "ece": ece,
    }  # fmt: skip
    whole = np.concatenate(truth)
    out: dict[str, dict[str, float]] = {
        name: {key: f(np.concatenate(p), whole) for key, f in measures.items()}
        for name, p in scores.items()
    }
    drawn = [rng.integers(0, len(truth), len(truth)) for _ in range(BOOTSTRAPS)]
    for key in ("auroc", "kept"):
        sampled = {
            name: np.array(
                [
                    measures[key](
                        np.concatenate([p[i] for i in rows]),
                        np.concatenate([truth[i] for i in rows]),
                    )
                    for rows in drawn
                ]
            )
            for name, p in scores.items()
        }
        for name, values in sampled.items():
            if name != "p_none":
                low, high = np.quantile(sampled["p_none"] - values, [0.025, 0.975])
                out[name] |= {f"{key}_low": float(low), f"{key}_high": float(high)}
    return out


def measure(
    drawn: Sequence[tuple[Clips, Episode]],
    prior: NonePrior,
    negatives: Float32,
    baselines: Sequence[Baseline],
    seed: int,
) -> dict[str, dict[str, float]]:
    """All methods on the same episodes, and what `threshold="auto"` does."""
    scores: dict[str, Scores] = {name: [] for name in ("p_none", *(b.name for b in baselines))}
    auto = []
    for clips, episode in drawn:
        query, shots = clips.features[episode.queries], episode.support.shape[1]
        judge = episode.judge(clips, prior, negatives)
        p = judge.p_none(query)
        scores["p_none"].append(p)
        taken = p <= judge.threshold(FAR)
        auto.append([taken[episode.unknown].mean(), taken[~episode.unknown].mean()])
        for baseline in baselines:
            other = episode.judge(clips, baseline.prior, negatives)
            scores[baseline.name].append(baseline.p_none(other, query, shots))
    truth = [episode.unknown for _, episode in drawn]
    out = compare(scores, truth, np.random.default_rng([seed, 1]))
    far, share = np.mean(auto, axis=0)
    out["p_none"] |= {"auto_far": float(far), "auto_kept": float(share)}
    return out


def read_folder(encoder: Encoder, root: Path) -> tuple[Clips, list[str], list[str]]:
    """The clips of class folders, the classes, and the stem of each clip's name."""
    spec = encoder.spec
    found, labels, stems = [], [], []
    classes = sorted(path for path in root.iterdir() if path.is_dir())
    for label, folder in enumerate(classes):
        for clip in find_clips(folder):
            pixels = load_clip(clip, frames=spec.frames, size=spec.image_size).pixels
            found.append(encoder.encode_query(pixels[None]).frames[0])
            labels.append(label)
            stems.append(clip.stem.partition("_")[0])
    return Clips(np.stack(found), np.array(labels)), [c.name for c in classes], stems


def in_turn(
    clips: Clips, groups: list[str], shot: int, rounds: int, rng: np.random.Generator
) -> list[tuple[Clips, Episode]]:
    """Each class in turn is unknown to a bank of the others; people are kept apart."""
    number = int(clips.class_index.max()) + 1
    apart = len(set(groups)) < len(groups)
    drawn = []
    for unknown in range(number):
        for _ in range(rounds):
            support, known, used = [], [], set()
            for label in (c for c in range(number) if c != unknown):
                order = rng.permutation(np.flatnonzero(clips.class_index == label))
                support.append(order[:shot])
                used |= {groups[i] for i in order[:shot]}
            shown = set(np.array(support).ravel().tolist())
            for i in rng.permutation(len(groups)):
                if i not in shown and not (apart and groups[i] in used):
                    known.append(int(i))
            strange = [i for i in known if clips.class_index[i] == unknown]
            usual = [i for i in known if clips.class_index[i] != unknown][: len(strange)]
            if strange and usual:
                asked = np.array(usual + strange)
                truth = np.r_[np.zeros(len(usual), bool), np.ones(len(strange), bool)]
                drawn.append((clips, Episode(np.array(support), asked, truth)))
    return drawn


def cases(encoder: Encoder, real: Path, prior: NonePrior, negatives: Float32) -> dict[str, object]:
    """An arm-wrestling clip and noise asked of a bank of scenes, and left-out scenes beside them."""
    clips, _, _ = read_folder(encoder, real / "scenes6")
    judge = NoneJudge(clips.features, clips.class_index, prior, negatives)
    limit = judge.threshold(FAR)
    spec = encoder.spec
    pixels = load_clip(
        real / "formats" / "mmaction2_demo_armwrestling.mp4",
        frames=spec.frames, size=spec.image_size,
    ).pixels  # fmt: skip
    shape = (4, *pixels.shape)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    asked = encoder.encode_query(np.concatenate([pixels[None], noise])).frames
    p = judge.p_none(asked)
    right = []
    for i in range(len(clips.features)):
        others = np.arange(len(clips.features)) != i
        left = NoneJudge(clips.features[others], clips.class_index[others], prior, negatives)
        right.append(left.p_none(clips.features[i : i + 1])[0] <= left.threshold(FAR))
    return {
        "threshold": limit,
        "arm_wrestling": float(p[0]),
        "noise": [float(value) for value in p[1:]],
        "all_none": bool((p > limit).all()),
        "scenes_kept": float(np.mean(right)),
    }


def rows_of(name: str, found: dict[str, dict[str, float]]) -> list[str]:
    """One line of the Markdown table."""
    ours = found["p_none"]
    cells = [name, f"{ours['auroc']:.3f}", f"{100 * ours['kept']:.0f}"]
    for other in ("max-softmax", "max-distance"):
        theirs = found[other]
        cells.append(
            f"{theirs['auroc']:.3f} ({theirs['auroc_low']:+.3f} to {theirs['auroc_high']:+.3f})"
        )
        cells.append(
            f"{100 * theirs['kept']:.0f} ({100 * theirs['kept_low']:+.0f} to"
            f" {100 * theirs['kept_high']:+.0f})"
        )
    cells += [f"{ours['ece']:.3f}", f"{100 * ours['auto_far']:.0f} / {100 * ours['auto_kept']:.0f}"]
    return cells


HEAD = (
    "bank", "p_none AUROC", "kept, %", "max-softmax AUROC", "kept, %", "max-distance AUROC",
    "kept, %", "ECE", "auto: false accepts / kept, %",
)  # fmt: skip


def main() -> None:
    """Measure, print, and keep with --write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rounds", type=int, default=60, help="banks of each size")
    parser.add_argument("--tune", type=int, default=10, help="validation banks of each size")
    parser.add_argument("--data", type=Path, help="folder of folders of class folders")
    parser.add_argument("--real", type=Path, help="folder with scenes6 and formats")
    parser.add_argument("--features", type=Path, help="where encoded clips are kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="keep the figures in results/")
    options = parser.parse_args()
    encoder = mafsar.load_model(options.model)
    prior, negatives = encoder.spec.none_prior, read_negatives(encoder.spec)
    if prior is None or negatives is None:
        parser.error(f"{options.model} has no negatives; see mafsar.training.starter.negatives")
    val = _kept(encoder, "val", options.features, options.workers)
    test = _kept(encoder, "test", options.features, options.workers)
    validation = draw_mixture(*val, rounds=options.tune, seed=options.seed)
    baselines = [
        tune(name, validation, prior, negatives) for name in ("max-softmax", "max-distance")
    ]
    results: dict[str, object] = {"rendered": {}, "real": {}}
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]

    def run(name: str, drawn: Sequence[tuple[Clips, Episode]], kind: str) -> None:
        found = measure(drawn, prior, negatives, baselines, options.seed)
        results[kind][name] = found  # type: ignore[index]
        lines.append("| " + " | ".join(rows_of(name, found)) + " |")
        print(lines[-1], flush=True)

    rng = np.random.default_rng([options.seed, 2])
    for way, shot in BANKS:
        pool = test[way > 5]
        drawn = [(pool, draw_episode(pool, way, shot, rng)) for _ in range(options.rounds)]
        run(f"{way} classes, {shot} shot", drawn, "rendered")
    mixed = draw_mixture(*test, rounds=max(1, options.rounds // 10), seed=options.seed)
    run("all sizes", mixed, "rendered")
    for root in sorted(options.data.iterdir()) if options.data else ():
        if root.is_dir():
            clips, classes, stems = read_folder(encoder, root)
            for shot in (1, 5) if len(classes) > 5 else (1, 3):
                drawn = in_turn(clips, stems, shot, max(1, options.rounds // 6), rng)
                run(f"{root.name}, each class in turn, {shot} shot", drawn, "real")
    if options.real:
        results["cases"] = cases(encoder, options.real, prior, negatives)
        print(results["cases"])
    results |= {
        "model": options.model,
        "weights_sha256": encoder.spec.weights_sha256,
        "prior": prior.to_json(),
        "negatives": len(negatives),
        "baselines": {
            b.name: {"views": b.prior.views, "lam": b.prior.lam, "scale": b.scale}
            for b in baselines
        },
        "backend": kernels.status()[0].backend,
        "machine": f"{processor_name()}, Python {platform.python_version()}",
    }
    if options.write:
        folder = Path(__file__).parent / "results"
        (folder / "none.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (folder / "none.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _kept(encoder: Encoder, part: str, folder: Path | None, workers: int) -> tuple[Clips, Clips]:
    """`held_out`, from the folder if it was encoded before."""
    file = None if folder is None else folder / f"{part}-{encoder.spec.weights_sha256[:12]}.npz"
    if file is not None and file.is_file():
        stored = np.load(file)
        return tuple(Clips(stored[f"x{i}"], stored[f"y{i}"]) for i in range(2))  # type: ignore[return-value]
    pools = held_out(encoder, part, workers=workers)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        parts = {f"{key}{i}": v for i, pool in enumerate(pools)
                 for key, v in (("x", pool.features), ("y", pool.class_index))}  # fmt: skip
        np.savez(file, **parts)
    return pools


if __name__ == "__main__":
    main()
