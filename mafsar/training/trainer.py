"""The parts of a run together (data, network, optimiser), and one optimiser step."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mafsar.choices import Scoring
from mafsar.data.catalogue import Catalogue
from mafsar.data.episodes import draw_episodes
from mafsar.data.folders import read_own
from mafsar.data.frames import frames_of
from mafsar.data.loader import EpisodeBatch, EpisodeDataset, EpisodeLoader
from mafsar.data.open_data import open_data
from mafsar.data.splits import Split
from mafsar.errors import TrainingError
from mafsar.model.weights import base_sha256
from mafsar.runtime.engines.torch_encoder import TorchEncoder
from mafsar.training.choose_views import Candidate, choose_views, view_prior
from mafsar.training.config import TrainConfig
from mafsar.training.decay import parameter_groups
from mafsar.training.encode import encode_clips
from mafsar.training.episode import Encode
from mafsar.training.learner import Learner
from mafsar.training.precision import autocast
from mafsar.training.processes import Processes
from mafsar.training.run_split import run_split
from mafsar.training.schedule import cosine_schedule
from mafsar.training.start import (
    embed_texts,
    embed_texts_or_none,
    start_network,
)
from mafsar.training.validate import Validator, choose_clips

log = logging.getLogger(__name__)

_KNOWN_CLIPS = 512  # training clips, about, whose mean is the μ0 of the views


@dataclass(frozen=True)
class StepResult:
    """Means over a step's episodes.

    Attributes:
        loss: L.
        loss_visual: L_Q2S.
        loss_text: ½(L_S2T + L_Q2T) over the episodes with class names; None without any.
        accuracy: Of the visual term on the training queries, %.
        learning_rate: Of this step.
        grad_norm: Before clipping.
    """

    loss: float
    loss_visual: float
    loss_text: float | None
    accuracy: float
    learning_rate: float
    grad_norm: float


def open_clips(config: TrainConfig, split: Split | None = None) -> Catalogue:
    """The data set that a configuration names.

    Args:
        config: The configuration.
        split: See `run_split`; None = as the configuration says.
    """
    data = config.data
    split = split or run_split(config)
    if split is not None and data.folder is not None:
        return read_own(Path(data.folder), split, frames_pattern=data.frames_pattern)
    paths = {
        name: None if value is None else Path(value)
        for name, value in (
            ("root", data.root), ("lists", data.lists), ("data", data.folder), ("split", data.split)
        )
    }  # fmt: skip
    return open_data(dataset=data.dataset, frames_pattern=data.frames_pattern, **paths)


class Trainer:
    """The parts that a training step needs.

    Attributes:
        config: A resolved configuration.
        processes: The processes of the run.
        network: On this process's device.
        tuned: The parameters that the optimiser changes, by name, in its order.
        optimizer: AdamW over `tuned`.
        learner: Adds the gradients of episodes to the parameters.
        validator: None where `val.every` is 0.
        base_sha256: Hash of the towers that the run starts from.
        device: As torch names it.
    """

    def __init__(self, config: TrainConfig, catalogue: Catalogue, processes: Processes) -> None:
        """Builds the parts; trains nothing.

        Args:
            config: A resolved configuration.
            catalogue: The data set.
            processes: The processes of the run.

        Raises:
            MafsarError: The model, the device or the data is not available.
        """
        self.config, self.processes = config, processes
        train = catalogue.select("train")
        episodes = draw_episodes(
            train.class_index,
            train.labels,
            way=config.way,
            shot=config.shot,
            query=config.query or 1,
            episodes=config.episodes or 1,
            seed=config.seed,
        )
        val = catalogue.select("val") if config.val.every else None
        self.network = start_network(config)
        self.base_sha256 = base_sha256(self.network)
        encoder = TorchEncoder(self.network, device=processes.device)
        self.device = encoder.device
        self._texts = embed_texts(encoder, train.texts) if config.text else None
        self.tuned = self.network.tunable_parameters()
        optim = config.optim
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.tuned, optim),
            lr=optim.learning_rate,
            betas=(optim.beta1, optim.beta2),
        )
        source = frames_of(catalogue, config.data.ignore_clock)
        shape = {"frames": config.model.frames, "size": self.network.config.input_size}
        self._dataset = EpisodeDataset(
            train, episodes, source, train=True, flip=bool(config.data.flip), **shape
        )
        self.validator = None
        if val is not None:
            words = embed_texts_or_none(encoder, val.texts) if config.text else None
            self.validator = Validator(val, source, config, words)
        self._source = source
        self._said: set[str] = set()
        self._known = choose_clips(train, config, max(1, _KNOWN_CLIPS // len(train.labels)))
        self._match = self.network.config.match
        encode: Encode = self.network.encode_support
        if config.run.compile:
            encode = torch.compile(self.network.encode_support)
        self.learner = Learner(
            self.network,
            encode,
            config,
            self._texts,
            autocast=self.autocast,
            device=self.device,
            share=-(-optim.batch // processes.world),
        )
        self.network.train()

    def choose_views(self, match: Scoring) -> list[Candidate]:
        """Tries raw features and views on the validation classes, by the present weights.

        Args:
            match: The run's scoring with raw features.

        Returns:
            The candidates, one of them chosen; none without validation or without fitting.
        """
        if self.validator is None or not self.validator.fits:
            return []
        clips, class_index = self._known
        known = encode_clips(
            self.network,
            clips,
            self._source,
            self._texts,
            class_index,
            autocast=self.autocast,
            device=self.device,
            workers=max(1, self.config.data.workers),
        )
        features = self.validator.encode(self.network, self.autocast, self.device)
        return choose_views(self.validator, features, match, view_prior(known))

    def episodes_from(self, step: int) -> EpisodeLoader:
        """This process's episodes from a step on, loaded ahead: rank, rank + world, ..."""
        processes, first = self.processes, step * self.config.optim.batch
        return EpisodeLoader(
            self._dataset,
            start=first + (processes.rank - first) % processes.world - processes.rank,
            rank=processes.rank,
            world=processes.world,
            workers=self.config.data.workers,
            pin_memory=self.device.startswith("cuda"),
            # Forked workers would inherit locks that torch's and CUDA's threads hold.
            context="spawn" if self.device.startswith("cuda") else None,
        )

    def say_repairs(self, loader: EpisodeLoader) -> None:
        """Logs what was repaired in reading clips, each clip once."""
        for name, said in (loader.repairs | self._source.repairs).items():
            if name not in self._said:
                self._said.add(name)
                log.warning("%s: %s", name, "; ".join(said))

    def step(self, step: int, batches: Iterator[EpisodeBatch]) -> StepResult:
        """One optimiser step over `optim.batch` episodes of all processes.

        Args:
            step: Steps done before this one.
            batches: This process's episodes, in order.

        Raises:
            TrainingError: A loss or gradient is not a finite number, and nothing was changed; or
                another process has ended.
        """
        config, batch = self.config, self.config.optim.batch
        first, last = step * batch, min((step + 1) * batch, len(self._dataset))
        processes = self.processes
        start = first + (processes.rank - first) % processes.world
        totals = torch.zeros(6, dtype=torch.float64, device=self.device)
        losses: list[tuple[int, Tensor]] = []
        self.optimizer.zero_grad(set_to_none=True)
        numbers = range(start, last, processes.world)
        for learned in self.learner.learn(numbers, batches, last - first):
            losses.append((learned.index, learned.loss))
            totals += learned.sums
        loss, visual, text, with_text, right, queries = processes.sum(totals).tolist()
        if not math.isfinite(loss):
            self._refuse(step, losses)
        parameters: list[nn.Parameter] = list(self.tuned.values())
        processes.sum_gradients(parameters)
        norm = float(nn.utils.clip_grad_norm_(parameters, config.optim.clip_norm or math.inf))
        if not math.isfinite(norm):
            raise TrainingError(
                f"step {step + 1}: the gradient is {norm} (episodes {first}–{last - 1} of seed "
                f"{config.seed}); {self._advice()}"
            )
        rate = config.optim.learning_rate * cosine_schedule(
            step, config.steps, round(config.optim.warm_up * config.steps)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        count = last - first
        return StepResult(
            loss=loss / count,
            loss_visual=visual / count,
            loss_text=text / with_text if with_text else None,
            accuracy=100 * right / queries,
            learning_rate=rate,
            grad_norm=norm,
        )

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Autocast to bf16 if the configuration asks for it."""
        return autocast(self.config.run.precision, self.device)

    def memory_bytes(self) -> int:
        """Peak memory so far: of the GPU, or of this process on a CPU."""
        if self.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated(self.device)
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def _refuse(self, step: int, losses: list[tuple[int, Tensor]]) -> None:
        """Raises an error that names the episode with this loss, if it is this process's."""
        wrong = [(episode, float(loss)) for episode, loss in losses if not torch.isfinite(loss)]
        named = "an episode of another process"
        if wrong:
            named = f"episode {wrong[0][0]} of seed {self.config.seed}"
        value = wrong[0][1] if wrong else math.nan
        raise TrainingError(f"step {step + 1}: the loss is {value} ({named}); {self._advice()}")

    def _advice(self) -> str:
        return (
            "the last checkpoint is kept; lower optim.learning_rate (now "
            f"{self.config.optim.learning_rate:g}) or set run.precision to fp32"
        )
