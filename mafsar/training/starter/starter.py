"""Train, measure and export the starter model ``tiny``: ``python -m mafsar.training.starter``.

The convolutional stem is that of EfficientNet-Lite0 and does not change. Phase 1 trains both towers
on rendered frames and captions. Phase 2 freezes them and trains the adapters on few-shot episodes
of named and unnamed motions. Phase 3 continues with more episodes of places, most of them real
views with motion in front, because phase 2 alone forgets how places look. Then frozen networks of
photographs are joined to the tower, and both are matched by views. α and visual_scale are fitted on
the validation classes; the test classes, which nothing saw before, give the results. The same seed,
sizes, library versions and thread count give the same bits on one machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from mafsar import kernels
from mafsar.choices import ViewPrior
from mafsar.errors import MafsarError
from mafsar.export.graphs.network_bundle import export_bundle
from mafsar.model.bundle_weights import load_bundle_network
from mafsar.model.names import MANIFEST, TOKENIZER_FILE
from mafsar.model.network import build_network
from mafsar.synthetic.actions.classes import class_names
from mafsar.training.choose_views import branch_prior
from mafsar.training.fit import fit_match
from mafsar.training.starter.accuracy import draw_pool_episodes, encode_pool, episode_logits
from mafsar.training.starter.kept import KeptPhases
from mafsar.training.starter.negatives import add_negatives
from mafsar.training.starter.photo import join_photo
from mafsar.training.starter.plan import StarterPlan
from mafsar.training.starter.pool import ClipPool, render_pool
from mafsar.training.starter.table import measure, print_table
from mafsar.training.starter.tower import FIRST_SEEDS, Trained, train_starter
from mafsar.training.starter.words import encode, save_tokenizer

NOTICE = (
    "tiny is a small starter model trained on rendered clips; for real use: "
    "pip install 'mafsar[train]', then model vit-b-16 (its 0.6 GB of CLIP weights are downloaded "
    "once)"
)


def fit_on_validation(trained: Trained, plan: StarterPlan, *, seed: int, workers: int = 2) -> None:
    """Fit α and visual_scale on the validation classes and keep them in the network's config."""
    network = trained.network
    pool = _pool("val", plan.held_out_clips, network.config.input_size, workers)
    with torch.no_grad():
        words = network.encode_text(
            encode(trained.tokenizer, [_label(name) for name in pool.names])
        )
    episodes = draw_pool_episodes(pool.labels, count=plan.episodes, way=5, seed=seed)
    scale = float(network.logit_scale.exp())
    match = dataclasses.replace(
        network.config.match,
        text_scale=round(scale, 4),
        lam=plan.photo.lam,
        views=plan.photo.change,
        view_prior=_prior(trained, plan, workers),
    )
    features = encode_pool(network, pool, words)
    visual, text = episode_logits(features, episodes, match, with_text=True)
    match = fit_match(visual, text, match)
    network.config = dataclasses.replace(network.config, match=match)


def _prior(trained: Trained, plan: StarterPlan, workers: int) -> ViewPrior:
    """μ0 and ε of both branches, over clips of the training classes."""
    pool = _pool("train", plan.photo.clips, trained.network.config.input_size, workers)
    texts = encode(trained.tokenizer, [_label(name) for name in pool.names])
    with torch.no_grad():
        features = encode_pool(trained.network, pool, trained.network.encode_text(texts))
    query, support = (branch_prior(one.numpy()) for one in (features.query, features.support))
    return ViewPrior(query, support)


def open_tower(bundle: Path) -> Trained:
    """Open the trained tower of an earlier run, a bundle with or without a photo embedding."""
    network = load_bundle_network(bundle)
    if network.photo is not None:
        tower = build_network(dataclasses.replace(network.config, photo=None))
        state = network.state_dict()
        tower.load_state_dict({name: state[name] for name in tower.state_dict()})
        network = tower
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(bundle / TOKENIZER_FILE))
    return Trained(network, tokenizer, manifest["known_words"], {}, {})


def run(
    out: Path,
    *,
    plan: StarterPlan,
    seed: int,
    pose: Path,
    tower: Path | None = None,
    work: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train, join, fit, measure and export.

    Args:
        out: The bundle to write.
        plan: Sizes and weights.
        seed: Draws everything.
        pose: ``pose_landmark_lite.tflite``.
        tower: A bundle whose trained tower is taken instead of training one.
        work: A folder that keeps finished phases, from which the same run goes on.
        overwrite: Replace `out`.

    Returns:
        What ``starter-metrics.json`` holds.
    """
    began = time.perf_counter()
    sizes = json.dumps(dataclasses.asdict(plan) | {"photo": None}, sort_keys=True)
    kept = KeptPhases(work, f"{sizes} {seed} {torch.get_num_threads()} {version('torch')}")
    trained = train_starter(plan, seed=seed, kept=kept) if tower is None else open_tower(tower)
    started = time.perf_counter()
    joined = join_photo(trained.network, plan.photo, pose=pose)
    seconds = trained.seconds | {"photo": time.perf_counter() - started}
    trained = dataclasses.replace(trained, network=joined, seconds=seconds)
    fit_on_validation(trained, plan, seed=seed)
    size = trained.network.config.input_size
    pool = _pool("test", plan.held_out_clips, size, 2)
    rows = measure(trained.network, trained.tokenizer, pool, episodes=plan.episodes, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer_file = Path(folder) / "tokenizer.json"
        save_tokenizer(trained.tokenizer, tokenizer_file)
        export_bundle(
            trained.network,
            tokenizer_file,
            out,
            extra={"known_words": trained.known_words, "notice": NOTICE},
            overwrite=overwrite,
        )
    return {
        "seed": seed,
        "plan": dataclasses.asdict(plan),
        "seconds": trained.seconds | {"total": time.perf_counter() - began},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": version("torch"),
        },
        "classes": {split: class_names(split) for split in ("train", "val", "test")},
        "match": trained.network.config.match.to_json(),
        "results": rows,
        "curves": trained.curves,
    }


def _pool(split: str, clips: int, size: int, workers: int) -> ClipPool:
    names = class_names(split)  # type: ignore[arg-type]
    return render_pool(names, clips, first_seed=FIRST_SEEDS[split], size=size, workers=workers)


def _label(name: str) -> str:
    return name.replace("_", " ")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m mafsar.training.starter",
        description="Train and export the starter model.",
    )
    parser.add_argument("--out", type=Path, required=True, help="the bundle folder to write")
    parser.add_argument(
        "--pose", type=Path, required=True, help="pose_landmark_lite.tflite (npm @mediapipe/pose)"
    )
    parser.add_argument(
        "--tower", type=Path, help="a bundle whose trained tower is taken instead of training one"
    )
    parser.add_argument(
        "--work", type=Path, help="keep finished phases here; the same command goes on from them"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=40.0, help="size of the run, as minutes on two idle cores"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--overwrite", "-y", action="store_true")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(chosen.threads)
    kernels.set_num_threads(chosen.threads)
    torch.use_deterministic_algorithms(True)
    if chosen.out.exists() and not chosen.overwrite:
        sys.stderr.write(f"error: {chosen.out}: exists already; remove it or add --overwrite\n")
        return 1
    try:
        metrics = run(
            chosen.out,
            plan=StarterPlan.for_minutes(chosen.minutes),
            seed=chosen.seed,
            pose=chosen.pose,
            tower=chosen.tower,
            work=chosen.work,
            overwrite=chosen.overwrite,
        )
        add_negatives(chosen.out)
    except MafsarError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    beside = chosen.out.with_name("starter-metrics.json")
    beside.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(print_table(metrics["results"]))
    return 0
