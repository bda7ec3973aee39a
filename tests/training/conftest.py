"""A small labelled data set of frame folders, and a CLIP small enough to train in a second."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mafsar.model.config import ModelConfig, TextConfig, VisionConfig, named_config
from mafsar.model.network import build_network
from mafsar.model.weights import save_weights
from mafsar.training.config import TrainConfig, build_config

SIZE = 32
SPLIT = {
    "train": ["left", "right", "up", "down"],
    "val": ["left_up", "right_up", "grow"],
    "test": ["left_down", "right_down", "shrink"],
}
MOVES = {
    "left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "left_up": (-1, -1),
    "right_up": (1, -1), "grow": (0, 0), "left_down": (-1, 1), "right_down": (1, 1),
    "shrink": (0, 0),
}  # fmt: skip


def small_clip() -> ModelConfig:
    """A CLIP of two blocks over 32 pixels; its vocabulary is CLIP's own, so it has a tokenizer."""
    return dataclasses.replace(
        named_config("tiny"),
        embed_dim=32,
        frames=4,
        vision=VisionConfig(32, 2, 4, 8, SIZE, activation="gelu"),
        text=TextConfig(16, 1, 4, 77, 49408, activation="gelu"),
        prompts=("a photo of {}",),
    ).plain()


@pytest.fixture(scope="session")
def small_clip_config() -> ModelConfig:
    """See `small_clip`."""
    return small_clip()


@pytest.fixture(scope="session")
def moving_squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`CLASS/K/*.png`: squares that move, 4 clips a class, and `split.json`."""
    root = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(7)
    for label, (dx, dy) in MOVES.items():
        for clip in range(4):
            folder = root / label / f"clip{clip}"
            folder.mkdir(parents=True)
            colour, (x0, y0) = rng.integers(90, 255, 3), rng.integers(14, 22, 2)
            for t in range(6):
                frame = rng.integers(0, 30, (40, 40, 3)).astype(np.uint8)
                side = {"grow": 4 + t, "shrink": 10 - t}.get(label, 7)
                x, y = (int(v + d * (t - 3) * 3) for v, d in ((x0, dx), (y0, dy)))
                frame[max(0, y) : y + side, max(0, x) : x + side] = colour
                Image.fromarray(frame).save(folder / f"{t:03d}.png")
    (root / "split.json").write_text(json.dumps(SPLIT))
    return root


@pytest.fixture(scope="session")
def base_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a small CLIP with random weights in a file."""
    path = tmp_path_factory.mktemp("base") / "clip.safetensors"
    save_weights(build_network(small_clip(), seed=3), path)
    return f"tiny:{path}"


@pytest.fixture
def small_run(moving_squares: Path, base_clip: str) -> Callable[..., TrainConfig]:
    """A configuration of twelve 3-way episodes; more values by dotted name."""

    def build(**values: Any) -> TrainConfig:
        given = {name.replace("__", "."): value for name, value in values.items()}
        return build_config(None, small_values(moving_squares, base_clip) | given)

    return build


def small_values(squares: Path, base: str) -> dict[str, Any]:
    """What `small_run` starts from, by dotted name."""
    return {
        "model.name": base, "model.frames": 4, "data.folder": str(squares),
        "data.split": str(squares / "split.json"), "data.workers": 0, "way": 3, "episodes": 12,
        "optim.batch": 2, "optim.learning_rate": 1e-3, "val.every": 3, "val.episodes": 40,
        "run.save_every": 2, "run.tensorboard": False,
    }  # fmt: skip


@pytest.fixture
def small_words(moving_squares: Path, base_clip: str) -> list[str]:
    """The same as words of the command line."""
    values = small_values(moving_squares, base_clip)
    return [f"{name}={value}" for name, value in values.items()]
