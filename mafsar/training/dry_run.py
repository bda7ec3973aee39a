"""A dry run: the configuration, the clips, and measured time and memory of a step."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from mafsar.data.splits import PARTS
from mafsar.training.config import TrainConfig, resolved, to_toml
from mafsar.training.processes import open_processes
from mafsar.training.trainer import Trainer, open_clips

MEASURED_STEPS = 20
LIMIT_SECONDS = 120.0
"""No step begins after this; a large model on a CPU needs few steps to be known as slow."""


@dataclass(frozen=True)
class DryRun:
    """What a dry run found and measured.

    Attributes:
        config_toml: The resolved configuration.
        title: Name of the data set and its place.
        parts: Number of classes and clips of each part.
        parameters: Parameters of the whole network.
        tuned: Parameters that training changes.
        device: The device that was measured.
        steps: Steps of the whole run.
        batch: Episodes of a step.
        measured: Measured steps.
        seconds_step: Mean time of a step, without the first one (warm-up) if there are more.
        wait_share: Share of this time spent waiting for clips, 0–1.
        memory_bytes: Peak memory: of the GPU, or of this process on a CPU.
        seconds_all: Estimated time of all steps, without validation.
    """

    config_toml: str
    title: str
    parts: dict[str, tuple[int, int]]
    parameters: int
    tuned: int
    device: str
    steps: int
    batch: int
    measured: int
    seconds_step: float
    wait_share: float
    memory_bytes: int
    seconds_all: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def dry_run(config: TrainConfig, *, device: str = "auto") -> DryRun:
    """Measures some steps of a run and writes no files.

    Args:
        config: The run's configuration.
        device: As for `train`.

    Raises:
        MafsarError: As `train`.
    """
    with open_processes(device) as processes:
        catalogue = open_clips(config)
        config = resolved(config, catalogue.preset)
        run = Trainer(config, catalogue, processes)
        loader = run.episodes_from(0)
        batches = iter(loader)
        seconds: list[float] = []
        for step in range(min(MEASURED_STEPS, config.steps)):
            if sum(seconds) > LIMIT_SECONDS:
                break
            began = time.perf_counter()
            run.step(step, batches)
            seconds.append(time.perf_counter() - began)
    steady = seconds[1:] or seconds
    seconds_step = sum(steady) / len(steady)
    parameters = sum(value.numel() for value in run.network.parameters())
    counts = {
        part: (
            sum(item.part == part for item in catalogue.classes),
            sum(clip.part == part for clip in catalogue.clips),
        )
        for part in PARTS
    }
    return DryRun(
        config_toml=to_toml(config),
        title=f"{catalogue.title} in {catalogue.root}",
        parts={part: found for part, found in counts.items() if found != (0, 0)},
        parameters=parameters,
        tuned=sum(value.numel() for value in run.tuned.values()),
        device=run.device,
        steps=config.steps,
        batch=config.optim.batch,
        measured=len(seconds),
        seconds_step=seconds_step,
        wait_share=loader.wait_share,
        memory_bytes=run.memory_bytes(),
        seconds_all=seconds_step * config.steps,
    )
