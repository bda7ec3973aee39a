"""What does each part of the method add where classes differ only in the order of their frames?

A class and its partner are the same rendered clips forwards and backwards: what a frame shows, and
the mean over all frames, tell nothing. An episode is one such pair, one support and one query clip
a class, support and query of different people in different places; chance is 50 %. Towers are the
starter's, frozen, and every row starts its own parts anew:

    nothing         the frozen towers, no extra tokens, no prototype module, OTAM, untrained
    TPCM only       the prototype module, on features that are encoded once
    adapters only   adapters, text tokens and temporal embedding, no prototype module
    both            the method
    full tuning     the vision tower itself, no prototype module (the paper's baseline)

All rows of a seed see the same training episodes in the same batches; all rows and seeds answer the
same test episodes of pairs that nothing was trained on. There every clip is support once and query
once, so episodes are independent but for the pair, and differences between rows are taken episode
by episode. alpha and visual_scale are fitted on the validation pairs.

    python benchmarks/ablation.py [--episodes 1600] [--seeds 0,1,2] [--work DIR] [--write]

`--work DIR` keeps clips and finished rows there; the same command then goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation_table import write_results
from torch import Tensor, nn

from mafsar import kernels
from mafsar.data.episodes import Episodes
from mafsar.data.loader import EpisodeBatch
from mafsar.data.parallel import in_processes
from mafsar.data.synthetic.actions import action, class_names
from mafsar.data.synthetic.render import render_clip
from mafsar.model.network import MafsarNetwork
from mafsar.runtime.scores import Scoring, cosines, match_features
from mafsar.runtime.tally import evaluate_features
from mafsar.runtime.torch_encoder import TorchEncoder
from mafsar.training.config import TrainConfig, build_config, resolved
from mafsar.training.episode import Encode, drops_text, run_episode
from mafsar.training.pretrain import cosine_schedule
from mafsar.training.start import embed_texts, start_network
from mafsar.training.validate import fit_match

FROZEN = {f"model.{part}": False for part in ("gta", "lma", "lma_text", "joint", "temporal")}
ROWS: dict[str, dict[str, Any]] = {
    "nothing": FROZEN | {"model.tpcm": False},
    "TPCM only": FROZEN,
    "adapters only": {"model.tpcm": False},
    "both": {},
    "full tuning": {"model.tune": "full"},
}
CACHED = ("nothing", "TPCM only")
# No two parts share a seed, nor any with what the starter was trained on.
FIRST_SEEDS = {"train": 11_000_000, "val": 14_000_000, "test": 15_000_000}
ENCODED = 16  # clips in one run of the network


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The clips of one part.

    Attributes:
        names: Class names, each followed by its partner, (2 · P).
        frames: The forward clips, uint8 (P, M, T, S, S, 3), or their raw features, (P, M, T, E).
    """

    names: list[str]
    frames: Tensor

    def clips(self, pair: int, take: int) -> Tensor:
        """A clip forwards and backwards, (2, T, …)."""
        clip = self.frames[pair, take]
        return torch.stack([clip, clip.flip(0)])


def pair_names(part: str) -> list[str]:
    """Names of a part's classes that are one another backwards, partner after partner."""
    names = class_names(part)  # type: ignore[arg-type]
    first = [n for n in names if (other := action(n).partner) and action(other).backwards]
    return [name for forward in first for name in (forward, action(forward).partner or "")]


def render_pairs(part: str, takes: int, size: int, frames: int, work: Path | None) -> Pairs:
    """Renders `takes` clips of each pair, or reads them where they are kept."""
    names = pair_names(part)
    kept = None if work is None else work / f"{part}-{takes}-{size}-{frames}.npy"
    if kept is not None and kept.is_file():
        return Pairs(names, torch.from_numpy(np.load(kept)))
    jobs = [
        (name, FIRST_SEEDS[part] + 10_000 * pair + take, frames, size)
        for pair, name in enumerate(names[::2])
        for take in range(takes)
    ]
    clips = np.stack(list(in_processes(_render, jobs, chunk=8)))
    clips = clips.reshape(len(names) // 2, takes, *clips.shape[1:])
    if kept is not None:
        np.save(kept, clips)
    return Pairs(names, torch.from_numpy(clips))


def _render(job: tuple[str, int, int, int]) -> np.ndarray:
    name, seed, frames, size = job
    return render_clip(name, seed=seed, frames=frames, size=size)


def training_episodes(pairs: Pairs, config: TrainConfig) -> Iterator[EpisodeBatch]:
    """Seeded episodes: a pair, one take of it as support and another as query."""
    for number in range(config.episodes or 0):
        rng = np.random.default_rng([config.seed, number])
        pair = int(rng.integers(len(pairs.frames)))
        support, query = rng.choice(pairs.frames.shape[1], 2, replace=False).tolist()
        classes = torch.tensor([2 * pair, 2 * pair + 1])
        clips = (pairs.clips(pair, take)[:, None] for take in (support, query))
        yield EpisodeBatch(number, *clips, classes)


def test_episodes(pairs: Pairs) -> tuple[Episodes, np.ndarray]:
    """Episodes in which every clip is support once and query once, and the clips' classes."""
    total, takes = pairs.frames.shape[:2]
    order = np.random.default_rng(0).permutation(takes)
    first = (np.arange(total)[:, None] * takes + order).ravel() * 2
    then = (np.arange(total)[:, None] * takes + np.roll(order, 1)).ravel() * 2
    both = np.arange(2)
    classes = 2 * np.repeat(np.arange(total), takes)[:, None] + both
    indices = [(start[:, None] + both)[..., None].astype(np.int32) for start in (first, then)]
    owners = np.repeat(np.arange(total), takes)[:, None] * 2 + both
    return Episodes(2, 1, 1, 0, classes.astype(np.int32), *indices), owners.ravel()


def encode_of(row: str, network: MafsarNetwork) -> Encode:
    """What encodes a row's clips, which are raw features where the towers stay as they are."""
    if row not in CACHED:
        return network.encode_support

    def encode(raw: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor]:
        features = raw if network.tpcm is None else network.tpcm(raw, text)
        return features, raw.mean(dim=1)

    return encode


def tune(
    network: MafsarNetwork, encode: Encode, pairs: Pairs, texts: Tensor, config: TrainConfig
) -> None:
    """Trains in place, as `mafsar.training.trainer` does, on the pairs' episodes."""
    tuned = list(network.tunable_parameters().values())
    optim = config.optim
    optimizer = torch.optim.AdamW(
        tuned, optim.learning_rate, (optim.beta1, optim.beta2), weight_decay=optim.weight_decay
    )
    guided = network.config.adapters is not None
    episodes = training_episodes(pairs, config)
    network.train()
    for step in range(config.steps):
        optimizer.zero_grad(set_to_none=True)
        for episode in itertools.islice(episodes, optim.batch):
            words = None if drops_text(config, episode.index) else texts[episode.classes]
            result = run_episode(
                encode, episode, words, network.config.match, guided=guided, smooth=config.smooth
            )
            torch.autograd.backward([result.loss / optim.batch])
        nn.utils.clip_grad_norm_(tuned, optim.clip_norm)
        factor = cosine_schedule(step, config.steps, round(optim.warm_up * config.steps))
        for group in optimizer.param_groups:
            group["lr"] = optim.learning_rate * factor
        optimizer.step()
    network.eval()


@torch.inference_mode()
def encode_all(
    encode: Encode, pairs: Pairs, texts: Tensor, owners: np.ndarray, *, guided: bool
) -> dict[str, np.ndarray]:
    """Every clip forwards and backwards, by both branches."""
    clips = torch.stack([pairs.frames, pairs.frames.flip(2)], dim=2).flatten(0, 2)
    found: dict[str, list[Tensor]] = {"query": [], "pooled": [], "support": []}
    for start in range(0, len(clips), ENCODED):
        chunk = clips[start : start + ENCODED]
        query, pooled = encode(chunk, None)
        support = query
        if guided:
            support, _ = encode(chunk, texts[torch.from_numpy(owners[start : start + ENCODED])])
        for name, value in (("query", query), ("pooled", pooled), ("support", support)):
            found[name].append(value)
    return {name: torch.cat(values).numpy() for name, values in found.items()}


def answers(
    network: MafsarNetwork, encode: Encode, parts: dict[str, Pairs], texts: dict[str, Tensor]
) -> dict[str, Any]:
    """Right answers of each test episode, after fitting alpha and visual_scale on validation."""
    match, guided = network.config.match, network.config.adapters is not None
    episodes, owners = test_episodes(parts["val"])
    found = encode_all(encode, parts["val"], texts["val"], owners, guided=guided)
    words = texts["val"].numpy()[episodes.classes]
    query, shown = episodes.queries[..., 0], episodes.support[..., 0]
    plain = Scoring(match.metric, match.lam, 0.0, 1.0)
    visual = -match_features(found["query"][query], found["support"][shown], plain).distances
    match = fit_match(visual, match.text_scale * cosines(found["pooled"][query], words), match)
    episodes, owners = test_episodes(parts["test"])
    found = encode_all(encode, parts["test"], texts["test"], owners, guided=guided)
    scoring = Scoring(match.metric, match.lam, match.alpha, match.visual_scale, match.text_scale)
    worded = evaluate_features(
        found["query"], found["support"], owners, episodes, scoring,
        pooled=found["pooled"], text=texts["test"].numpy(),
    )  # fmt: skip
    silent = evaluate_features(found["query"], found["query"], owners, episodes, scoring)
    return {
        "fused": worded.right.tolist(),
        "alpha 0": worded.right_visual.tolist(),
        "text off": silent.right.tolist(),
        "match": dataclasses.asdict(match),
    }


def run_row(
    row: str, seed: int, parts: dict[str, Pairs], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Trains and tests one row with one seed."""
    rate = arguments.full_learning_rate if row == "full tuning" else arguments.learning_rate
    fields = {
        "model.name": arguments.model, "model.fresh": True, "seed": seed, "way": 2,
        "episodes": arguments.episodes, "optim.batch": arguments.batch,
        "optim.learning_rate": rate, "alpha": arguments.alpha,
        "visual_scale": arguments.visual_scale,
    }  # fmt: skip
    config = resolved(build_config(None, fields | ROWS[row]), None)
    network = start_network(config)
    encoder = TorchEncoder(network, device="cpu")
    labels = {part: [name.replace("_", " ") for name in item.names] for part, item in parts.items()}
    texts = {part: embed_texts(encoder, names) for part, names in labels.items()}
    encode = encode_of(row, network)
    began = time.perf_counter()
    if row != "nothing":
        tune(network, encode, parts["train"], texts["train"], config)
    seconds = time.perf_counter() - began
    return answers(network, encode, parts, texts) | {
        "row": row,
        "seed": seed,
        "seconds": seconds,
        "tuned": sum(v.numel() for v in network.tunable_parameters().values()),
    }


def frozen_features(
    parts: dict[str, Pairs], model: str
) -> tuple[dict[str, Pairs], dict[str, Pairs]]:
    """What no row changes, computed once: the stem's maps, and raw features of the frozen towers."""
    config = build_config(None, {"model.name": model, "model.tpcm": False} | FROZEN)
    network = start_network(config).eval()
    stem = network.visual.stem
    maps, raw = {}, {}
    for part, pairs in parts.items():
        kept: tuple[list[Tensor], list[Tensor]] = ([], [])
        for chunk in pairs.frames.flatten(0, 1).split(ENCODED):
            with torch.no_grad():
                seen = chunk
                if stem is not None:
                    pixels = network._normalise(chunk)
                    seen = stem(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
                kept[0].append(seen)
                kept[1].append(network.encode_query(seen)[0])
        shape = pairs.frames.shape[:2]
        maps[part] = Pairs(pairs.names, torch.cat(kept[0]).unflatten(0, shape))
        raw[part] = Pairs(pairs.names, torch.cat(kept[1]).unflatten(0, shape))
    return maps, raw


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="its towers; any name that train takes")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--episodes", type=int, default=1600, help="training tasks of each row")
    parser.add_argument("--batch", type=int, default=8, help="episodes a step")
    parser.add_argument("--takes", default="40,30,100", help="clips a pair: train, val, test")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--full-learning-rate", type=float, default=1e-4)
    parser.add_argument("--alpha", type=float, default=0.5, help="of the training loss")
    parser.add_argument("--visual-scale", type=float, default=1.0, help="of the training loss")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--work", type=Path, help="keep clips and finished rows here")
    parser.add_argument("--write", action="store_true", help="keep the table in results/ and docs/")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    kernels.set_num_threads(arguments.threads)
    began = time.perf_counter()
    vision = start_network(build_config(None, {"model.name": arguments.model})).config
    takes = map(int, arguments.takes.split(","))
    if arguments.work is not None:
        arguments.work.mkdir(parents=True, exist_ok=True)
    parts = {
        part: render_pairs(part, count, vision.vision.image_size, vision.frames, arguments.work)
        for part, count in zip(FIRST_SEEDS, takes, strict=True)
    }
    parts, cached = frozen_features(parts, arguments.model)
    seconds = time.perf_counter() - began
    print(f"clips and frozen features: {seconds:.0f} s", flush=True)
    results = []
    for seed in map(int, arguments.seeds.split(",")):
        for row in arguments.rows.split(","):
            found = kept_row(row, seed, cached if row in CACHED else parts, arguments)
            means = {n: 100 * np.mean(found[n]) for n in ("text off", "alpha 0", "fused")}
            said = "  ".join(f"{name} {value:.1f}" for name, value in means.items())
            print(f"seed {seed}  {row}: {said}  ({found['seconds']:.0f} s)", flush=True)
            results.append(found)
    document = {
        "machine": platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "arguments": {k: str(v) for k, v in vars(arguments).items() if k != "work"},
        "pairs": {part: len(item.frames) for part, item in parts.items()},
        "takes": {part: item.frames.shape[1] for part, item in parts.items()},
        "seconds": seconds + sum(found["seconds"] for found in results),
        "results": results,
    }
    write_results(document, keep=arguments.write)


def kept_row(
    row: str, seed: int, parts: dict[str, Pairs], arguments: argparse.Namespace
) -> dict[str, Any]:
    """`run_row`, or what the same arguments gave before."""
    if arguments.work is None:
        return run_row(row, seed, parts, arguments)
    ignored = ("rows", "seeds", "threads", "work", "write")
    values = {name: str(v) for name, v in vars(arguments).items() if name not in ignored}
    key = json.dumps([row, seed, values], sort_keys=True)
    path = arguments.work / f"row-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if not path.is_file():
        path.write_text(json.dumps(run_row(row, seed, parts, arguments)), encoding="utf-8")
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


if __name__ == "__main__":
    main()
