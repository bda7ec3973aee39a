"""Rendered streams for `benchmarks/watch.py`: actions that neither training nor the negatives have.

A person acts in one place, at known times, with idle time between (`mafsar/synthetic/clips/stream.py`).
The actions of a bank are drawn from the validation and test classes: the shipped model was trained
on the others, and its negatives show them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mafsar.synthetic import render_clip
from mafsar.synthetic.actions.classes import action
from mafsar.synthetic.clips.stream import plan_stream, stream_classes
from mafsar.video import write_video

CLASSES, SHOTS = 5, 5
SIZE, FPS = 160, 12.0
_CLIP_SECONDS, _TEMPO = 2.0, (0.6, 1.5)
_STREAM = 191
IDLE = "idle"


@dataclass(frozen=True)
class Segment:
    """An event: label, seconds, and when it was said (of a found one)."""

    label: str
    start: float
    end: float
    said: float = float("nan")


def held_out(seed: int) -> list[str]:
    """Classes of a bank; a class and its reverse come together."""
    names = [name for name in stream_classes() if action(name).split != "train"]
    chosen: list[str] = []
    for i in np.random.default_rng([_STREAM, seed]).permutation(len(names)):
        both = {names[i], action(names[i]).partner or names[i]}
        if len(chosen) + len(both - set(chosen)) <= CLASSES:
            chosen += sorted(both - set(chosen))
    return chosen


def other(seed: int) -> list[str]:
    """Training classes, for streams that show nothing of any bank."""
    names = [name for name in stream_classes() if action(name).split == "train"]
    order = np.random.default_rng([_STREAM, seed, 1]).permutation(len(names))
    return [names[i] for i in order[: 3 * CLASSES]]


def support(folder: Path, seed: int) -> Path:
    """Clips of the classes of a bank, by other people in other places, rendered once."""
    home = folder / f"seed-{seed}" / "support"
    for number, name in enumerate(held_out(seed)):
        for shot in range(SHOTS):
            path = home / name / f"clip-{shot}.mp4"
            if not path.exists():
                clip_seed = 100_000 * (seed + 1) + 100 * number + shot
                rng = np.random.default_rng([_STREAM, clip_seed])
                count = round(_CLIP_SECONDS * FPS * float(rng.uniform(*_TEMPO)))
                path.parent.mkdir(parents=True, exist_ok=True)
                frames = render_clip(name, seed=clip_seed, frames=count, size=SIZE)
                write_video(path, list(np.asarray(frames)), FPS)
    return home


def stream(folder: Path, seed: int, number: int, seconds: float, *, idle: bool = False) -> Path:
    """A stream with its truth beside it, `.csv`, rendered once."""
    kind = IDLE if idle else "stream"
    path = folder / f"seed-{seed}" / f"{kind}-{seconds:g}-{number:03d}.mp4"
    table = path.with_suffix(".csv")
    if not table.exists():
        planned = plan_stream(
            other(seed + number) if idle else held_out(seed),
            seed=1_000 * (seed + 1) + number + (500 if idle else 0),
            seconds=seconds,
            fps=FPS,
            size=SIZE,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, planned.stage.pictures(), FPS)
        with table.open("w", newline="") as file:
            rows = [(e.label, f"{e.start:.3f}", f"{e.end:.3f}") for e in planned.events]
            csv.writer(file).writerows([("label", "t_start", "t_end"), *rows])
    return path


def truth_of(path: Path) -> list[Segment]:
    """The events of a stream."""
    with path.with_suffix(".csv").open(newline="") as file:
        return [
            Segment(row["label"], float(row["t_start"]), float(row["t_end"]))
            for row in csv.DictReader(file)
        ]
