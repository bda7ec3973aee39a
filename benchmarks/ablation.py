"""What does each part of the method add where classes differ only in the order of their frames?

A class and its partner are the same rendered clips forwards and backwards: what a frame shows, and
the mean over all frames, tell nothing. Only the middle frames of a clip are shown (`--middle`): its
first and last frame show the states before and after, which the towers know by name. An episode is
one such pair, one support and one query clip a class, support and query of different people in
different places; chance is 50 %. Towers are the starter's, frozen, and every row starts its own
parts anew:

    nothing         the frozen towers, no extra tokens, no prototype module, OTAM, untrained
    TPCM only       the prototype module, on features that are encoded once
    adapters only   adapters, text tokens and temporal embedding, no prototype module
    both            the method
    full tuning     the vision tower itself, no prototype module (the paper's baseline)

All rows of a seed see the same training episodes in the same batches; all rows and seeds answer the
same test episodes of pairs that nothing was trained on. There every clip is support once and query
once, so episodes are independent but for the pair, and differences between rows are taken episode
by episode. alpha and visual_scale are fitted on the validation pairs.

    python benchmarks/ablation.py [--episodes 640] [--seeds 0,1,2] [--work DIR] [--write]
    python benchmarks/ablation.py --on val --rows both --seeds 0 --learning-rate 1e-3    # to choose

`--work DIR` keeps clips and finished rows there; the same command then goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation_pairs import FIRST_SEEDS, Pairs, render_pairs, test_episodes, training_episodes
from ablation_table import write_results
from torch import Tensor, nn

from mafsar import kernels
from mafsar.choices import Scoring
from mafsar.model.network import MafsarNetwork
from mafsar.model.weights import base_sha256
from mafsar.runtime.engines.torch_encoder import TorchEncoder
from mafsar.runtime.evaluation.tally import evaluate_features
from mafsar.runtime.scoring.scores import cosines, match_features
from mafsar.training.config import TrainConfig, build_config, parse_pairs, resolved
from mafsar.training.episode import Encode, drops_text, run_episode
from mafsar.training.fit import fit_match
from mafsar.training.schedule import cosine_schedule
from mafsar.training.start import embed_texts, start_network

FROZEN = {f"model.{part}": False for part in ("gta", "lma", "lma_text", "joint", "temporal")}
ROWS: dict[str, dict[str, Any]] = {
    "nothing": FROZEN | {"model.tpcm": False},
    "TPCM only": FROZEN,
    "adapters only": {"model.tpcm": False},
    "both": {},
    "full tuning": {"model.tune": "full"},
}
CACHED = ("nothing", "TPCM only")
ENCODED = 16  # clips in one run of the network


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
    encode: Encode, pairs: Pairs, texts: Tensor, class_index: np.ndarray, *, guided: bool
) -> dict[str, np.ndarray]:
    """Every clip forwards and backwards, by both branches."""
    clips = torch.stack([pairs.frames, pairs.frames.flip(2)], dim=2).flatten(0, 2)
    found: dict[str, list[Tensor]] = {"query": [], "pooled": [], "support": []}
    for start in range(0, len(clips), ENCODED):
        chunk = clips[start : start + ENCODED]
        query, pooled = encode(chunk, None)
        support = query
        if guided:
            support, _ = encode(
                chunk, texts[torch.from_numpy(class_index[start : start + ENCODED])]
            )
        for name, value in (("query", query), ("pooled", pooled), ("support", support)):
            found[name].append(value)
    return {name: torch.cat(values).numpy() for name, values in found.items()}


def answers(
    network: MafsarNetwork, encode: Encode, parts: dict[str, Pairs], texts: dict[str, Tensor]
) -> dict[str, Any]:
    """Right answers of each episode, after fitting alpha and visual_scale on validation pairs.

    Without test pairs the validation pairs are answered.
    """
    match, guided = network.config.match, network.config.adapters is not None
    episodes, class_index = test_episodes(parts["val"])
    found = encode_all(encode, parts["val"], texts["val"], class_index, guided=guided)
    words = texts["val"].numpy()[episodes.classes]
    query, shown = episodes.queries[..., 0], episodes.support[..., 0]
    plain = Scoring(match.metric, match.lam, 0.0, 1.0)
    visual = -match_features(found["query"][query], found["support"][shown], plain).distances
    match = fit_match(visual, match.text_scale * cosines(found["pooled"][query], words), match)
    part = "test" if "test" in parts else "val"
    episodes, class_index = test_episodes(parts[part])
    found = encode_all(encode, parts[part], texts[part], class_index, guided=guided)
    scoring = Scoring(match.metric, match.lam, match.alpha, match.visual_scale, match.text_scale)
    worded = evaluate_features(
        found["query"], found["support"], class_index, episodes, scoring,
        pooled=found["pooled"], text=texts[part].numpy(),
    )  # fmt: skip
    silent = evaluate_features(found["query"], found["query"], class_index, episodes, scoring)
    return {
        "fused": worded.right.tolist(),
        "alpha 0": worded.right_visual.tolist(),
        "text off": silent.right.tolist(),
        "match": dataclasses.asdict(match),
    }


def row_config(row: str, seed: int, arguments: argparse.Namespace) -> TrainConfig:
    """A row's configuration; rows of a seed differ in what is tuned and in the learning rate."""
    rate = arguments.full_learning_rate if row == "full tuning" else arguments.learning_rate
    fields = {
        "model.name": arguments.model, "model.fresh": True, "seed": seed, "way": 2,
        "episodes": arguments.episodes, "optim.batch": arguments.batch,
        "optim.learning_rate": rate, "alpha": arguments.alpha,
        "visual_scale": arguments.visual_scale, "model.frames": arguments.middle,
    }  # fmt: skip
    more = parse_pairs(arguments.set or [])
    return resolved(build_config(None, fields | ROWS[row] | more), None)


def run_row(
    row: str, seed: int, parts: dict[str, Pairs], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Trains and tests one row with one seed."""
    config = row_config(row, seed, arguments)
    network = start_network(config)
    encoder = TorchEncoder(network, device="cpu")
    labels = {part: [name.replace("_", " ") for name in item.names] for part, item in parts.items()}
    texts = {part: embed_texts(encoder, names) for part, names in labels.items()}
    encode = encode_of(row, network)
    began = time.process_time()
    if row != "nothing":
        tune(network, encode, parts["train"], texts["train"], config)
    trained = time.process_time()
    return answers(network, encode, parts, texts) | {
        "row": row,
        "seed": seed,
        "training_seconds": trained - began,
        "seconds": time.process_time() - began,
        "tuned": sum(v.numel() for v in network.tunable_parameters().values()),
    }


def frozen_features(
    parts: dict[str, Pairs], network: MafsarNetwork
) -> tuple[dict[str, Pairs], dict[str, Pairs]]:
    """What no row changes, computed once: the stem's maps, and raw features of the frozen towers."""
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
    parser.add_argument("--episodes", type=int, default=640, help="training tasks of each row")
    parser.add_argument("--batch", type=int, default=8, help="episodes a step")
    parser.add_argument("--takes", default="40,30,100", help="clips a pair: train, val, test")
    parser.add_argument("--middle", type=int, default=4, help="frames shown of the 8 of a clip")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--full-learning-rate", type=float, default=3e-4)
    parser.add_argument("--alpha", type=float, default=0.5, help="of the training loss")
    parser.add_argument("--visual-scale", type=float, default=1.0, help="of the training loss")
    parser.add_argument("--set", nargs="*", metavar="key=value", help="more fields of training")
    parser.add_argument("--on", choices=("test", "val"), default="test", help="pairs to answer")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--work", type=Path, help="keep clips and finished rows here")
    parser.add_argument(
        "--write", action="store_true", help="keep the figures in results/, the tables in docs/"
    )
    found = parser.parse_args()
    if found.write and found.on == "val":
        parser.error("--write keeps what test pairs gave; leave --on val out")
    return found


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    kernels.set_num_threads(arguments.threads)
    vision = start_network(build_config(None, {"model.name": arguments.model})).config
    takes = map(int, arguments.takes.split(","))
    if arguments.work is not None:
        arguments.work.mkdir(parents=True, exist_ok=True)
    parts = {
        part: render_pairs(part, count, vision.vision.image_size, vision.frames, arguments.work)
        for part, count in zip(FIRST_SEEDS, takes, strict=True)
        if part in ("train", "val", arguments.on)
    }
    parts = {part: item.middle(arguments.middle) for part, item in parts.items()}
    fields = {"model.name": arguments.model, "model.frames": arguments.middle, "model.tpcm": False}
    towers = start_network(build_config(None, fields | FROZEN)).eval()
    towers_sha256 = base_sha256(towers)

    @functools.cache  # rows that are kept need none
    def features() -> tuple[dict[str, Pairs], dict[str, Pairs]]:
        return frozen_features(parts, towers)

    results = []
    for seed in map(int, arguments.seeds.split(",")):
        for row in arguments.rows.split(","):
            found = kept_row(row, seed, features, arguments, towers_sha256)
            means = {n: 100 * np.mean(found[n]) for n in ("text off", "alpha 0", "fused")}
            said = "  ".join(f"{name} {value:.1f}" for name, value in means.items())
            print(f"seed {seed}  {row}: {said}  ({found['seconds']:.0f} s)", flush=True)
            results.append(found)
    document = {
        "machine": platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "towers_sha256": towers_sha256,
        "arguments": {k: str(v) for k, v in vars(arguments).items() if k != "work"},
        "names": parts[arguments.on].names,
        "pairs": {part: len(item.frames) for part, item in parts.items()},
        "takes": {part: item.frames.shape[1] for part, item in parts.items()},
        "seconds": sum(found["seconds"] for found in results),
        "results": results,
    }
    write_results(document, keep=arguments.write)


def kept_row(
    row: str,
    seed: int,
    features: Callable[[], tuple[dict[str, Pairs], dict[str, Pairs]]],
    arguments: argparse.Namespace,
    towers: str,
) -> dict[str, Any]:
    """`run_row`, or what the same arguments gave before with the same towers, named by hash."""
    if arguments.work is None:
        return run_row(row, seed, features()[row in CACHED], arguments)
    ignored = ("model", "on", "rows", "seeds", "threads", "work", "write")
    values = {n: str(v) for n, v in vars(arguments).items() if v is not None and n not in ignored}
    key = json.dumps([row, seed, towers, values], sort_keys=True)
    path = arguments.work / f"{arguments.on}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if not path.is_file():
        path.write_text(
            json.dumps(run_row(row, seed, features()[row in CACHED], arguments)), encoding="utf-8"
        )
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


if __name__ == "__main__":
    main()
