"""What does each part of the method add where classes differ only in the order of their frames?

A class and its partner are the same rendered clips forwards and backwards: what a frame shows, and
the mean over all frames, tell nothing. Only the middle frames of a clip are shown (`--middle`): its
first and last frame show the states before and after, which the towers know by name. An episode is
one such pair, one support and one query clip a class, support and query of different people in
different places; chance is 50 %. All pairs of the three parts of the renderer's classes are pooled
and held out in turn, in folds: a row is trained on the pairs of the other folds and answers those
of its own. The backbone is the starter's, frozen: its towers without adapters, and the photo
embedding beside them. Every row starts its own parts anew:

    nothing         the backbone, no extra tokens, no prototype module, untrained
    TPCM only       the prototype module, on tower features that are encoded once
    adapters only   adapters, text tokens and temporal embedding, no prototype module
    both            the method

What is matched, in training and tests, is the tower's features with the photo embedding beside
them. Tests match them raw, as training does and the paper has it, and by the starter's views, whose
means are those of the training pairs. All rows of a seed and fold see the same training episodes in
the same batches; all rows and seeds answer the same episodes, in which every held-out clip is
support once and query once. With names, only pairs whose words the towers know take part. alpha and
visual_scale of a fold are fitted to the answers of the other folds.

    python benchmarks/ablation.py [--episodes 640] [--takes 40,40] [--seeds 0,1,2] [--work DIR]
    python benchmarks/ablation.py --work DIR --write       # keep figures and tables

`--work DIR` keeps clips and finished rows there; the same command then goes on where it stopped.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation_pairs import FOLDS, Pair, all_pairs, fold_of, render_pairs
from ablation_rows import Arrays, Clips, Seen, encoder_of, held_out, see, tune
from ablation_table import accuracies, write_results
from torch import Tensor

from mafsar.choices import RAW_LAM, Scoring
from mafsar.model.network import MafsarNetwork
from mafsar.model.sources import create_network
from mafsar.model.weights import base_sha256
from mafsar.runtime.engines.torch_encoder import TorchEncoder
from mafsar.training.config import TrainConfig, build_config, parse_pairs, resolved
from mafsar.training.learner import one_thread_each
from mafsar.training.start import embed_texts, start_network

FROZEN = {f"model.{part}": False for part in ("gta", "lma", "lma_text", "joint", "temporal")}
ROWS: dict[str, dict[str, Any]] = {
    "nothing": FROZEN | {"model.tpcm": False},
    "TPCM only": FROZEN,
    "adapters only": {"model.tpcm": False},
    "both": {},
}
CACHED = ("nothing", "TPCM only")


@dataclass(frozen=True)
class Backbone:
    """The frozen towers, what they see of the pairs, and how their features are matched.

    Attributes:
        network: Without adapters.
        sha256: Of its weights.
        views: The starter's own views, which every row is matched by beside raw features.
        texts: Raw embeddings of the class names, (P, 2, E).
        known: Whether the towers know every word of a pair's names, (P,).
    """

    network: MafsarNetwork
    sha256: str
    views: Scoring
    texts: Tensor
    known: np.ndarray


def open_backbone(arguments: argparse.Namespace, pairs: list[Pair]) -> Backbone:
    """Loads the towers, and embeds the names of the pairs' classes."""
    fields = {"model.name": arguments.model, "model.frames": arguments.middle, "model.tpcm": False}
    network = start_network(build_config(None, fields | FROZEN)).eval()
    encoder = TorchEncoder(network, device="cpu")
    texts = embed_texts(encoder, [label for pair in pairs for label in pair.labels])
    known = known_pairs(encoder.spec.known_words, pairs)
    own = create_network(arguments.model).config.match
    return Backbone(
        network,
        base_sha256(network),
        own if own.views != "raw" else network.config.plain().match,
        texts[:, : network.config.embed_dim].unflatten(0, (-1, 2)),
        known,
    )


def known_pairs(words: frozenset[str] | None, pairs: list[Pair]) -> np.ndarray:
    """Whether every word of a pair's names is among those that the text tower knows, (P,)."""
    return np.array(
        [
            words is None
            or words.issuperset(word for label in pair.labels for word in label.split())
            for pair in pairs
        ]
    )


def row_config(row: str, seed: int, arguments: argparse.Namespace) -> TrainConfig:
    """A row's configuration; rows of a seed differ only in what is tuned."""
    fields = {
        "model.name": arguments.model, "model.fresh": True, "seed": seed, "way": 2,
        "episodes": arguments.episodes, "optim.batch": arguments.batch,
        "optim.learning_rate": arguments.learning_rate, "alpha": arguments.alpha,
        "visual_scale": arguments.visual_scale, "model.frames": arguments.middle,
    }  # fmt: skip
    more = parse_pairs(arguments.set or [])
    return resolved(build_config(None, fields | ROWS[row] | more), None)


def run_row(
    seed: int, row: str, fold: int, backbone: Backbone, seen: Seen, arguments: argparse.Namespace
) -> tuple[dict[str, Any], Arrays]:
    """Trains one row with one seed on the other folds, and answers the pairs of its own."""
    config = row_config(row, seed, arguments)
    network = start_network(config)
    cached = row in CACHED
    encode = encoder_of(network, cached=cached)
    clips = Clips(seen, cached, backbone.texts, backbone.known)
    folds = fold_of(all_pairs())
    others, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    learnt, asked = takes_of(arguments)
    began = time.thread_time()
    if row != "nothing":
        tune(network, encode, clips, others, learnt, config)
    trained = time.thread_time()
    scorings = ways(backbone)
    found = held_out(encode, clips, (others, held), asked, scorings)
    about = {
        "row": row,
        "seed": seed,
        "fold": fold,
        "training_seconds": trained - began,
        "seconds": time.thread_time() - began,
        "tuned": sum(v.numel() for v in network.tunable_parameters().values()),
    }
    return about, found


def ways(backbone: Backbone) -> dict[str, Scoring]:
    """How the held-out episodes are matched."""
    match = backbone.network.config.match
    return {
        "raw": Scoring("otam", RAW_LAM, text_scale=match.text_scale),
        "views": Scoring(
            "otam", backbone.views.lam, text_scale=match.text_scale, views=backbone.views.views
        ),
    }


def takes_of(arguments: argparse.Namespace) -> tuple[int, int]:
    """Takes of each pair to train on, and to answer where it is held out."""
    learnt, asked = map(int, arguments.takes.split(","))
    return learnt, asked


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="its towers; any name that train takes")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--folds", default=",".join(map(str, range(FOLDS))), help="held out, ≥ 2")
    parser.add_argument(
        "--episodes", type=int, default=640, help="training tasks of a row and fold"
    )
    parser.add_argument("--batch", type=int, default=8, help="episodes a step")
    parser.add_argument("--takes", default="40,40", help="clips a pair: in training, held out")
    parser.add_argument("--middle", type=int, default=4, help="frames shown of the 8 of a clip")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--alpha", type=float, default=0.5, help="of the training loss")
    parser.add_argument("--visual-scale", type=float, default=1.0, help="of the training loss")
    parser.add_argument("--set", nargs="*", metavar="key=value", help="more fields of training")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--work", type=Path, help="keep clips and finished rows here")
    parser.add_argument(
        "--write", action="store_true", help="keep the figures in results/, the tables in docs/"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    if arguments.work is not None:
        arguments.work.mkdir(parents=True, exist_ok=True)
    pairs = all_pairs()
    backbone = open_backbone(arguments, pairs)

    began = time.perf_counter()
    seeds, folds = (map(int, text.split(",")) for text in (arguments.seeds, arguments.folds))
    rows = arguments.rows.split(",")
    jobs = [(seed, row, fold) for seed, fold, row in itertools.product(seeds, folds, rows)]
    paths = [kept_path(*job, backbone, arguments) for job in jobs]
    finished = all(path is not None and path.is_file() for path in paths)
    # Rows beside each other, each on one thread, are faster than threads inside an operation.
    with one_thread_each(), ThreadPoolExecutor(arguments.threads) as threads:
        seen = None if finished else kept_seen(backbone, pairs, arguments)
        run = functools.partial(kept_row, backbone=backbone, seen=seen, arguments=arguments)
        results = list(threads.map(run, jobs, paths))
    document = {
        "machine": platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "towers_sha256": backbone.sha256,
        "views": {"weight": backbone.views.views, "lam": backbone.views.lam},
        "arguments": {k: str(v) for k, v in vars(arguments).items() if k != "work"},
        "pairs": [
            {"names": pair.names, "part": pair.part, "fold": int(fold), "known": bool(known)}
            for pair, fold, known in zip(pairs, fold_of(pairs), backbone.known, strict=True)
        ],
        "seconds": sum(about["seconds"] for about in results),
        "wall_seconds": time.perf_counter() - began,
    }
    document["results"] = accuracies(results, document["pairs"])
    write_results(document, keep=arguments.write)


def kept_seen(backbone: Backbone, pairs: list[Pair], arguments: argparse.Namespace) -> Seen:
    """What the frozen parts see of all clips, computed once."""
    config = create_network(arguments.model).config
    sizes = (max(takes_of(arguments)), config.input_size, config.frames, arguments.middle)
    path = None
    if arguments.work is not None:
        said = "-".join(map(str, sizes))
        path = arguments.work / f"seen-{said}-{backbone.sha256[:16]}.pt"
        if path.is_file():
            return Seen(**torch.load(path, weights_only=True))
    clips = render_pairs(pairs, *sizes, arguments.work)
    found = see(backbone.network, clips, arguments.threads)
    if path is not None:
        torch.save(vars(found), path)
    return found


def kept_path(
    seed: int, row: str, fold: int, backbone: Backbone, arguments: argparse.Namespace
) -> Path | None:
    """Where the answers of the same arguments are kept, with the same towers, named by hash."""
    if arguments.work is None:
        return None
    ignored = ("folds", "model", "rows", "seeds", "threads", "work", "write")
    values = {n: str(v) for n, v in vars(arguments).items() if v is not None and n not in ignored}
    values["views"] = f"{backbone.views.views} {backbone.views.lam}"
    key = json.dumps([row, seed, fold, backbone.sha256, values], sort_keys=True)
    name = f"row-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    found: Path = arguments.work / name
    return found


def kept_row(
    job: tuple[int, str, int],
    path: Path | None,
    *,
    backbone: Backbone,
    seen: Seen | None,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """`run_row` of a seed, row and fold, or what is kept at `path`."""
    if path is not None and path.is_file():
        with np.load(path) as kept:
            arrays = {name: kept[name] for name in kept.files if name != "about"}
            return json.loads(str(kept["about"])) | {"found": arrays}
    assert seen is not None
    about, found = run_row(*job, backbone, seen, arguments)
    if path is not None:
        np.savez(path, about=json.dumps(about), **found)  # type: ignore[arg-type]
    print(f"seed {job[0]}  {job[1]}  fold {job[2]}  {about['seconds']:.0f} s", flush=True)
    return about | {"found": found}


if __name__ == "__main__":
    main()
