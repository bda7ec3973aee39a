"""The trained tower of the starter: clips are rendered, and three phases follow.

Every phase draws from its own seed, so a run that goes on from kept phases gives the bits of one that
never stopped.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer

from mafsar.model.config import ModelConfig, named_config
from mafsar.model.network import MafsarNetwork, build_network
from mafsar.synthetic.actions.classes import class_names, wild_names
from mafsar.training.learner import one_thread_each
from mafsar.training.starter.episodic import train_episodes
from mafsar.training.starter.kept import KeptPhases
from mafsar.training.starter.plan import StarterPlan
from mafsar.training.starter.pool import MapPool, map_pool, map_scenes
from mafsar.training.starter.pretrain import pretrain
from mafsar.training.starter.stem_weights import load_stem_weights
from mafsar.training.starter.words import encode, known_words, train_tokenizer

log = logging.getLogger(__name__)

FIRST_SEEDS = {"train": 1_000_000, "val": 4_000_000, "test": 5_000_000}
"""The seeds of the splits are far apart, so that no two clips share a body or a place."""
_EVERY = 25  # steps between two lines of the log
Report = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Trained:
    """The trained network with its tokenizer, times and training curves."""

    network: MafsarNetwork
    tokenizer: Tokenizer
    known_words: list[str]
    seconds: dict[str, float]
    curves: dict[str, list[dict[str, float]]]


def train_starter(plan: StarterPlan, *, seed: int, kept: KeptPhases, workers: int = 2) -> Trained:
    """Render the training clips and run the three phases; those that are kept are not run again."""
    stem = load_stem_weights()
    named = class_names("train")
    rendered = kept.phase("render", lambda: _render(plan, seed, stem, workers))
    pool = MapPool(**(rendered["pool"] | {"labels": rendered["pool"]["labels"].numpy()}))
    scenes, colours, real = rendered["scenes"], rendered["colours"], rendered["real"]
    texts = training_texts(pool, len(named))
    base = named_config("tiny")
    tokenizer = train_tokenizer(
        texts, vocabulary=base.text.vocab_size, context=base.text.context_length
    )
    network = build_network(starter_config(tokenizer), seed=seed)
    load_stem(network, stem)
    seconds = {"render": rendered["seconds"]}
    curves: dict[str, list[dict[str, float]]] = {}

    def phase(name: str, train: Callable[[Report], None]) -> None:
        def run() -> dict[str, Any]:
            curve: list[dict[str, float]] = []
            started = time.perf_counter()
            train(_reporter(name, curve, started))
            spent = time.perf_counter() - started
            return {"state": network.state_dict(), "curve": curve, "seconds": spent}

        found = kept.phase(name, run)
        network.load_state_dict(found["state"])
        seconds[name], curves[name] = found["seconds"], found["curve"]

    phase(
        "pretrain",
        lambda report: pretrain(
            network, tokenizer, pool, (scenes, colours), plan.pretrain, seed=seed, report=report
        ),
    )
    with torch.no_grad():
        words = [
            network.encode_text(encode(tokenizer, pool.captions(label)))
            for label in range(len(named))
        ]
    phase(
        "episodes",
        lambda report: train_episodes(
            network, words, pool, scenes, plan.episodic, seed=seed, report=report
        ),
    )
    places = torch.cat([scenes, real])
    with one_thread_each():  # steps of a few clips gain little from more
        phase(
            "places",
            lambda report: train_episodes(
                network, words, pool, places, plan.places, seed=seed + 1_000_000, report=report
            ),
        )
    return Trained(network, tokenizer, known_words(texts), seconds, curves)


def _render(
    plan: StarterPlan, seed: int, stem: Mapping[str, torch.Tensor], workers: int
) -> dict[str, Any]:
    """The clips and places of the three phases, as the stem's maps."""
    started = time.perf_counter()
    camera = build_network(named_config("tiny"), seed=seed)  # only its stem is used
    load_stem(camera, stem)
    named, unnamed = class_names("train"), wild_names(plan.unnamed)
    generator = torch.Generator().manual_seed(seed * 1_000 + 1)
    pool = map_pool(
        camera,
        named + unnamed,
        [plan.named_clips] * len(named) + [plan.unnamed_clips] * len(unnamed),
        first_seed=FIRST_SEEDS["train"],
        generator=generator,
        workers=workers,
    )
    scenes, colours = map_scenes(
        camera, plan.scenes, first_seed=0, generator=generator, workers=workers
    )
    real, _ = map_scenes(
        camera, plan.panoramas, first_seed=0, generator=generator, panoramas=True, workers=workers
    )
    spent = time.perf_counter() - started
    log.info("rendered %d clips in %.0f s", len(pool.labels), spent)
    found = {field.name: getattr(pool, field.name) for field in dataclasses.fields(pool)}
    return {
        "pool": found | {"labels": torch.from_numpy(pool.labels)},
        "scenes": scenes,
        "colours": colours,
        "real": real,
        "seconds": spent,
    }


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


def _reporter(phase: str, curve: list[dict[str, float]], started: float) -> Report:
    def report(step: int, values: dict[str, float]) -> None:
        curve.append({"step": step} | {name: round(value, 4) for name, value in values.items()})
        if step % _EVERY == 0:
            recent = curve[-1:] if phase == "pretrain" else curve[-_EVERY:]
            means = {n: sum(row[n] for row in recent) / len(recent) for n in values}
            shown = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
            log.info("%s %d  %.0f s  %s", phase, step, time.perf_counter() - started, shown)

    return report
