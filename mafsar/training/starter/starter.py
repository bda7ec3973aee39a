"""Train, measure and export the starter model ``tiny``: ``python -m mafsar.training.starter``.

The convolutional stem is that of EfficientNet-Lite0 and does not change. Phase 1 trains both towers
on rendered frames and captions. Phase 2 freezes them and trains the adapters on few-shot episodes
of named and unnamed motions. Phase 3 continues with more episodes of places, most of them real
views with motion in front, because phase 2 alone forgets how places look. α and visual_scale are
fitted on the validation classes; the test classes, which nothing saw before, give the results. Last,
frozen networks of photographs are joined to the tower, and both are matched by views. The same seed, sizes, library versions and thread count give the same bits on one machine.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from mafsar.model.config import ModelConfig, named_config
from mafsar.model.names import MANIFEST, TOKENIZER_FILE
from mafsar.model.network import MafsarNetwork, build_network
from mafsar.synthetic.actions.classes import class_names, wild_names
from mafsar.training.choose_views import branch_prior
from mafsar.training.fit import fit_match
from mafsar.training.learner import one_thread_each
from mafsar.training.starter.accuracy import draw_pool_episodes, encode_pool, episode_logits
from mafsar.training.starter.episodic import train_episodes
from mafsar.training.starter.negatives import add_negatives
from mafsar.training.starter.photo import join_photo
from mafsar.training.starter.plan import StarterPlan
from mafsar.training.starter.pool import ClipPool, MapPool, map_pool, map_scenes, render_pool
from mafsar.training.starter.pretrain import pretrain
from mafsar.training.starter.stem_weights import load_stem_weights
from mafsar.training.starter.table import measure, print_table
from mafsar.training.starter.words import encode, known_words, save_tokenizer, train_tokenizer

log = logging.getLogger(__name__)

NOTICE = (
    "tiny is a small starter model trained on rendered clips; for real use: "
    "pip install 'mafsar[train]', then model vit-b-16 (its 0.6 GB of CLIP weights are downloaded "
    "once)"
)
# The seeds of the splits are far apart, so that no two clips share a body or a place.
_FIRST_SEEDS = {"train": 1_000_000, "val": 4_000_000, "test": 5_000_000}


@dataclass(frozen=True)
class Trained:
    """The trained network with its tokenizer, times and training curves."""

    network: MafsarNetwork
    tokenizer: Tokenizer
    known_words: list[str]
    seconds: dict[str, float]
    curves: dict[str, list[dict[str, float]]]


def train_starter(plan: StarterPlan, *, seed: int, workers: int = 2) -> Trained:
    """Render the training clips and run the three phases."""
    seconds: dict[str, float] = {}
    curves: dict[str, list[dict[str, float]]] = {"pretrain": [], "episodes": [], "places": []}
    started = time.perf_counter()
    stem = load_stem_weights()
    camera = build_network(named_config("tiny"), seed=seed)  # only its stem is used
    load_stem(camera, stem)
    named, unnamed = class_names("train"), wild_names(plan.unnamed)
    generator = torch.Generator().manual_seed(seed * 1_000 + 1)
    pool = map_pool(
        camera,
        named + unnamed,
        [plan.named_clips] * len(named) + [plan.unnamed_clips] * len(unnamed),
        first_seed=_FIRST_SEEDS["train"],
        generator=generator,
        workers=workers,
    )
    scenes = map_scenes(camera, plan.scenes, first_seed=0, generator=generator, workers=workers)
    real, _ = map_scenes(
        camera, plan.panoramas, first_seed=0, generator=generator, panoramas=True, workers=workers
    )
    seconds["render"] = time.perf_counter() - started
    log.info("rendered %d clips in %.0f s", len(pool.labels), seconds["render"])

    texts = training_texts(pool, len(named))
    base = named_config("tiny")
    tokenizer = train_tokenizer(
        texts, vocabulary=base.text.vocab_size, context=base.text.context_length
    )
    network = build_network(starter_config(tokenizer), seed=seed)
    load_stem(network, stem)
    started = time.perf_counter()
    pretrain(
        network, tokenizer, pool, scenes, plan.pretrain, seed=seed,
        report=_reporter("pretrain", curves["pretrain"], started, every=25),
    )  # fmt: skip
    seconds["pretrain"] = time.perf_counter() - started
    started = time.perf_counter()
    with torch.no_grad():
        words = [
            network.encode_text(encode(tokenizer, pool.captions(label)))
            for label in range(len(named))
        ]
    train_episodes(
        network, words, pool, scenes[0], plan.episodic, seed=seed,
        report=_reporter("episodes", curves["episodes"], started, every=25),
    )  # fmt: skip
    seconds["episodes"] = time.perf_counter() - started
    started = time.perf_counter()
    with one_thread_each():  # steps of a few clips gain little from more
        train_episodes(
            network, words, pool, torch.cat([scenes[0], real]), plan.places, seed=seed + 1_000_000,
            report=_reporter("places", curves["places"], started, every=25),
        )  # fmt: skip
    seconds["places"] = time.perf_counter() - started
    return Trained(network, tokenizer, known_words(texts), seconds, curves)


def load_stem(network: MafsarNetwork, weights: Mapping[str, torch.Tensor]) -> None:
    """Load the published weights into the stem of a network."""
    if network.visual.stem is None:
        raise ValueError("network.config.vision.stem is None: there is no stem to fill")
    network.visual.stem.load_state_dict(weights)


def starter_config(tokenizer: Tokenizer) -> ModelConfig:
    """Return the configuration of ``tiny`` with the vocabulary of a tokenizer."""
    base = named_config("tiny")
    text = dataclasses.replace(base.text, vocab_size=tokenizer.get_vocab_size())
    return dataclasses.replace(base, text=text)


def training_texts(pool: MapPool, named: int) -> list[str]:
    """Return all captions of the training clips, in a fixed order; the first classes are named."""
    classes = [text for label in range(named) for text in pool.captions(label)]
    frames = {", ".join(phrases): None for clip in pool.phrases for phrases in clip}
    return classes + list(frames)


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
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train, join, fit, measure and export.

    Args:
        out: The bundle to write.
        plan: Sizes and weights.
        seed: Draws everything.
        pose: ``pose_landmark_lite.tflite``.
        tower: A bundle whose trained tower is taken instead of training one.
        overwrite: Replace `out`.

    Returns:
        What ``starter-metrics.json`` holds.
    """
    began = time.perf_counter()
    trained = train_starter(plan, seed=seed) if tower is None else open_tower(tower)
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
    return render_pool(names, clips, first_seed=_FIRST_SEEDS[split], size=size, workers=workers)


def _label(name: str) -> str:
    return name.replace("_", " ")


def _reporter(
    phase: str, curve: list[dict[str, float]], started: float, *, every: int
) -> Callable[[int, dict[str, float]], None]:
    def report(step: int, values: dict[str, float]) -> None:
        curve.append({"step": step} | {name: round(value, 4) for name, value in values.items()})
        if step % every == 0:
            recent = curve[-1:] if phase == "pretrain" else curve[-every:]
            means = {n: sum(row[n] for row in recent) / len(recent) for n in values}
            shown = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
            log.info("%s %d  %.0f s  %s", phase, step, time.perf_counter() - started, shown)

    return report


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
