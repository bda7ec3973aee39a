"""The last phase: frozen photo embeddings are joined to the trained tower (`mafsar.model.photo`).

Nothing is trained here. The projections are the main components of each network's pooled map over
rendered clips of the training classes and views of real places; their scale sets how much each part
counts beside the tower's features, as shares of variance over the same clips.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mafsar.data.parallel import in_processes
from mafsar.model.network import MafsarNetwork, build_network
from mafsar.model.photo_table import PHOTO_SIZE, PhotoConfig
from mafsar.synthetic.actions.classes import class_names
from mafsar.synthetic.clips.render import render
from mafsar.synthetic.painting.panoramas import paint_panorama_clip
from mafsar.training.learner import one_thread_each
from mafsar.training.starter.photo_weights import load_people_weights
from mafsar.training.starter.stem_weights import load_things_weights

_BATCH = 16
_FIRST_SEED = 2_500_000


@dataclass(frozen=True)
class PhotoPlan:
    """Sizes and weights of the phase; the weights were chosen on validation classes.

    Attributes:
        clips: Rendered clips of each training class.
        places: Views of real places.
        things: Variance of the embedding of things, in units of the tower's.
        people: Variance of the embedding of people, in units of the tower's.
        change: Weight of the change view.
        lam: OTAM's λ.
    """

    clips: int = 4
    places: int = 120
    things: float = 2.0
    people: float = 0.18
    change: float = 0.55
    lam: float = 0.1


@dataclass(frozen=True)
class PhotoFeatures:
    """What each part sees in the clips of the phase.

    Attributes:
        tower: F̃ of the query branch without a photo embedding, (n, T, embed_dim).
        things: Pooled maps, (n, T, THINGS_WIDTH).
        people: Pooled maps, (n, T, PEOPLE_WIDTH).
    """

    tower: Tensor
    things: Tensor
    people: Tensor


def join_photo(
    network: MafsarNetwork, plan: PhotoPlan, *, pose: Path, workers: int = 2
) -> MafsarNetwork:
    """Return a network with the photo embeddings beside the trained tower.

    Args:
        network: The trained starter, without a photo embedding.
        plan: Sizes and weights.
        pose: ``pose_landmark_lite.tflite``.
        workers: Processes that render; the result does not depend on it.
    """
    config = dataclasses.replace(network.config, photo=PhotoConfig())
    joined = build_network(config)
    state = joined.state_dict() | dict(network.state_dict())
    things = {f"photo.things.{k}": v for k, v in load_things_weights().items()}
    people = {f"photo.people.{k}": v for k, v in load_people_weights(pose).items()}
    joined.load_state_dict(state | things | people)
    features = _see(joined, plan, workers)
    total = _variance(features.tower)
    photo = joined.photo
    assert photo is not None
    for layer, pooled, share in (
        (photo.things_proj, features.things, plan.things),
        (photo.people_proj, features.people, plan.people),
    ):
        weight, bias = _components(pooled.flatten(0, 1), layer.out_features, share * total)
        layer.load_state_dict({"weight": weight, "bias": bias})
    return joined.eval()


def _variance(features: Tensor) -> float:
    """Mean squared distance from the mean, of features (n, T, E)."""
    rows = features.flatten(0, 1).double()
    return float((rows - rows.mean(dim=0)).square().sum(dim=1).mean())


def _components(rows: Tensor, width: int, variance: float) -> tuple[Tensor, Tensor]:
    """The projection to the first `width` main components, scaled to a variance in all.

    Returns:
        Weight (width, D) and bias (width,), float32.
    """
    rows = rows.double()
    mean = rows.mean(dim=0)
    centred = rows - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))  # rising
    kept = vectors[:, -width:].flip(1)
    # The sign of a component is free; a fixed one keeps the weights reproducible.
    kept = kept * kept.gather(0, kept.abs().argmax(dim=0, keepdim=True)).sign()
    weight = kept.T * (variance / float(values[-width:].sum())) ** 0.5
    return weight.float(), (-weight @ mean).float()


def _see(network: MafsarNetwork, plan: PhotoPlan, workers: int) -> PhotoFeatures:
    """Render the clips of the phase and keep what each part sees in them."""
    photo, stem = network.photo, network.visual.stem
    assert photo is not None
    assert stem is not None

    @torch.no_grad()
    def see(clip: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        pixels = torch.from_numpy(clip).permute(0, 3, 1, 2).float()  # (T, 3, S, S)
        # Depthwise convolutions take half the time with channels last.
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        images = network.scale_pixels(pixels)
        things, people = photo.pooled(images, pixels / 255, stem)
        small = F.avg_pool2d(images, 2)[None]
        return network.encode_tower(small, None)[0][0], things, people

    # Clips beside each other, each on one thread, are faster than threads inside an operation.
    with one_thread_each(), ThreadPoolExecutor(workers) as threads:
        parts = [
            part
            for clips in _batches(plan, network.config.frames, workers)
            for part in threads.map(see, clips)
        ]
    return PhotoFeatures(*(torch.stack(each) for each in zip(*parts, strict=True)))


def _batches(plan: PhotoPlan, frames: int, workers: int) -> Iterator[list[np.ndarray]]:
    """Yields lists of clips uint8 (T, S, S, 3): rendered classes, then places."""
    names = [name for name in class_names("train") for _ in range(plan.clips)]
    jobs = [(name, _FIRST_SEED + i, frames) for i, name in enumerate(names)]
    places = [("", i, frames) for i in range(plan.places)]
    rendered = in_processes(_render_job, [*jobs, *places], workers=workers, chunk=_BATCH)
    while batch := list(islice(rendered, _BATCH)):
        yield batch


def _render_job(job: tuple[str, int, int]) -> np.ndarray:
    name, seed, frames = job
    if not name:
        return paint_panorama_clip(seed, 0, frames=frames, size=PHOTO_SIZE)
    return render(name, seed=seed, frames=frames, size=PHOTO_SIZE, photos=True).frames
