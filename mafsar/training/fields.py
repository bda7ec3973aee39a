"""The sections of a training configuration, one frozen dataclass each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Decay = Literal["weights", "all"]


@dataclass(frozen=True)
class ModelFields:
    """`model.…`: what is tuned, and its sizes.

    Attributes:
        name: Name of the model, as `mafsar.load_model` takes it.
        fresh: Start new adapters instead of tuning those that the weights bring.
        tune: "adapters", or "full" for the vision tower itself without adapters. None: adapters;
            full with a ResNet, which cannot have adapters.
        gta: Temporal token and Adapter_T.
        lma: Adapter_M after the attention inside a frame.
        lma_text: Text token of the support branch.
        joint: Adapter_J parallel to the MLP.
        temporal: Learned temporal embedding.
        tpcm: Prototype module. None: yes, except for a fully tuned transformer.
        ratio: Adapter width / tower width.
        joint_scale: s, the factor on Adapter_J.
        frames: T, frames of a clip.
        prompts: Templates with {} for the class name; empty: the model's own.
    """

    name: str = "tiny"
    fresh: bool = False
    tune: Literal["adapters", "full"] | None = None
    gta: bool = True
    lma: bool = True
    lma_text: bool = True
    joint: bool = True
    temporal: bool = True
    tpcm: bool | None = None
    ratio: float = 0.25
    joint_scale: float = 0.5
    frames: int = 8
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataFields:
    """`data.…`: which clips, and how they are loaded.

    Attributes:
        dataset: Name of a standard data set; needs `root`.
        root: Folder of its videos.
        lists: Folder of its train, val and test lists.
        folder: The user's own clips: class folders, a CSV or a packed data set.
        split: JSON with the train, val and test classes of `folder`, or "auto": drawn by the seed.
        frames_pattern: Which pictures are frames in folders that hold several kinds.
        ignore_clock: Frames per second that replace the timestamps of video files.
        flip: Mirror half of the training clips. None: as the preset says; no for own clips.
        workers: Processes that load clips ahead; 0 loads them in this process.
    """

    dataset: str | None = None
    root: str | None = None
    lists: str | None = None
    folder: str | None = None
    split: str | None = None
    frames_pattern: str | None = None
    ignore_clock: float | None = None
    flip: bool | None = None
    workers: int = 2


@dataclass(frozen=True)
class OptimFields:
    """`optim.…`: AdamW on a cosine schedule with warm-up.

    Attributes:
        learning_rate: Its highest value.
        weight_decay: Of AdamW.
        decay: What it applies to: "weights" leaves out biases, the parameters of norms and
            embeddings, as is usual for transformers; "all" leaves out nothing.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        warm_up: Share of the steps, 0–1.
        batch: Episodes of a step, over all processes.
        clip_norm: Largest norm of the gradient; 0 does not clip.
    """

    learning_rate: float = 2e-4
    weight_decay: float = 0.05
    decay: Decay = "weights"
    beta1: float = 0.9
    beta2: float = 0.999
    warm_up: float = 0.05
    batch: int = 8
    clip_norm: float = 1.0


@dataclass(frozen=True)
class ValFields:
    """`val.…`: the choice of the best weights on the validation classes.

    Attributes:
        every: Steps between validations; 0 never validates and keeps the last weights.
        episodes: Validation episodes.
        clips: Clips of a class at most, drawn by the seed; 0 takes all.
        fit: Fit α and visual_scale to the validation episodes.
    """

    every: int = 100
    episodes: int = 1_000
    clips: int = 20
    fit: bool = True


@dataclass(frozen=True)
class RunFields:
    """`run.…`: how the run computes and what it saves.

    Attributes:
        precision: "auto" is bf16 on CUDA and fp32 on a CPU.
        recompute: Compute blocks a second time in the backward pass to save memory.
        compile: Compile the encoder with `torch.compile`.
        save_every: Steps between checkpoints.
        tensorboard: Write TensorBoard events where it is installed.
    """

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    recompute: bool = False
    compile: bool = False
    save_every: int = 25
    tensorboard: bool = True
