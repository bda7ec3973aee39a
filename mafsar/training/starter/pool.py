"""Rendered clips in memory: as pictures for validation and tests, as maps of the stem for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mafsar.data.parallel import in_processes
from mafsar.model.network import MafsarNetwork
from mafsar.synthetic.actions.classes import action
from mafsar.synthetic.clips.captions import class_captions
from mafsar.synthetic.clips.render import Rendering, render
from mafsar.synthetic.clips.scene import paint_scene_clip
from mafsar.synthetic.painting.panoramas import paint_panorama_clip
from mafsar.training.starter.augment import augment, disguise

COLOUR_CELLS = 4  # a side of the coarse colour map of a frame
_BATCH = 16  # clips that go through the stem together
_CHUNK = 8  # clips that a process renders at a time


@dataclass(frozen=True)
class ClipPool:
    """Rendered clips of some classes.

    Attributes:
        names: Class names; a label is an index into them.
        frames: uint8 (n, T, S, S, 3) RGB.
        labels: int64 (n,).
    """

    names: list[str]
    frames: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class MapPool:
    """Maps of the frozen stem of the clips of some classes, each augmented once.

    Attributes:
        names: Class names; a label is an index into them.
        labels: int64 (n,), rising.
        maps: float16 (n, T, C, g, g), output of the stem.
        points: float32 (n, T, P, 2) picture fractions, NaN where absent.
        colours: float16 (n, T, 3, COLOUR_CELLS, COLOUR_CELLS), pixel values / 64 - 2.
        phrases: Phrases of each frame of each clip, [clip][frame][phrase].
    """

    names: list[str]
    labels: np.ndarray
    maps: Tensor
    points: Tensor
    colours: Tensor
    phrases: list[list[list[str]]]

    def captions(self, label: int) -> list[str]:
        """Return the descriptions of a class."""
        return class_captions(action(self.names[label]))

    def draw_classes(
        self, way: int, partner_share: float, rng: np.random.Generator, *, unnamed: bool
    ) -> list[int]:
        """Draw the classes of an episode, often together with the reversed class.

        Args:
            way: Number of classes.
            partner_share: Probability that a class brings its partner, [0, 1].
            rng: Draws them.
            unnamed: Draw unnamed classes instead of named ones.
        """
        among = [i for i, drawn in enumerate(self._unnamed) if drawn == unnamed]
        return draw_classes(among, self._partners, way, partner_share, rng)

    @cached_property
    def _unnamed(self) -> list[bool]:
        return [action(name).unnamed for name in self.names]

    @cached_property
    def _partners(self) -> dict[int, int]:
        return partners(self.names)

    def draw_clips(self, classes: list[int], each: int, rng: np.random.Generator) -> np.ndarray:
        """Draw different clips of each class, int64 (each, classes)."""
        picked = [rng.choice(self.clips_of(label), each, replace=False) for label in classes]
        return np.stack(picked, axis=1)

    def clips_of(self, label: int) -> np.ndarray:
        """Return the indices of a class's clips, int64."""
        first, last = np.searchsorted(self.labels, [label, label + 1])
        return np.arange(first, last)


def partners(names: Sequence[str]) -> dict[int, int]:
    """Return, for each class that has one, its backwards or mirrored class among the names."""
    places = {name: index for index, name in enumerate(names)}
    found = {index: places.get(action(name).partner or "") for index, name in enumerate(names)}
    return {index: other for index, other in found.items() if other is not None}


def draw_classes(
    among: Sequence[int],
    partner_of: Mapping[int, int],
    way: int,
    partner_share: float,
    rng: np.random.Generator,
) -> list[int]:
    """Draw classes; each brings its partner with a probability of ``partner_share``.

    Args:
        among: Labels to draw from.
        partner_of: See ``partners``.
        way: Number of classes.
        partner_share: In [0, 1].
        rng: Draws them.
    """
    drawn: list[int] = []
    for label in rng.permutation(among).tolist():
        group = [label]
        if label in partner_of and rng.random() < partner_share:
            group.append(partner_of[label])
        drawn += [member for member in group if member not in drawn]
        if len(drawn) >= way:
            break
    return drawn[:way]


def render_pool(
    names: Sequence[str],
    clips_per_class: int,
    *,
    first_seed: int,
    size: int,
    frames: int = 8,
    workers: int = 2,
) -> ClipPool:
    """Render the same number of clips of each class, no two with the same seed.

    Args:
        names: Class names.
        clips_per_class: Number of clips of each class.
        first_seed: The first of consecutive seeds.
        size: Side of the pictures, pixels.
        frames: Frames of a clip, T.
        workers: Processes; the pixels do not depend on it.
    """
    clips_each = [clips_per_class] * len(names)
    labels, jobs = _jobs(names, clips_each, first_seed, frames, size, False)
    clips = [clip.frames for clip in in_processes(_render_job, jobs, workers=workers, chunk=_CHUNK)]
    return ClipPool(list(names), np.stack(clips), labels)


def map_pool(
    network: MafsarNetwork,
    names: Sequence[str],
    clips: Sequence[int],
    *,
    first_seed: int,
    generator: torch.Generator,
    photos: bool = True,
    workers: int = 2,
) -> MapPool:
    """Render clips, augment each once and keep its stem maps.

    Args:
        network: Has the stem; its configuration gives the number and size of the frames.
        names: Class names.
        clips: Number of clips of each class.
        first_seed: The first of consecutive seeds.
        generator: Draws the augmentation.
        photos: Use photographs for some places.
        workers: Processes that render; the result does not depend on it.
    """
    config = network.config
    size = config.vision.image_size
    labels, jobs = _jobs(names, clips, first_seed, config.frames, size, photos)
    maps, points, colours, phrases = [], [], [], []
    rendered = in_processes(_render_job, jobs, workers=workers, chunk=_CHUNK)
    while batch := list(islice(rendered, _BATCH)):
        frames = torch.from_numpy(np.stack([clip.frames for clip in batch]))
        at = torch.from_numpy(np.stack([clip.points for clip in batch]))
        pixels, moved = augment(frames, at, generator)
        if moved is None:
            raise RuntimeError("augment lost the points it was given")
        maps.append(stem_maps(network, pixels))
        points.append(moved)
        cells = F.adaptive_avg_pool2d(pixels.flatten(0, 1), COLOUR_CELLS) / 64 - 2
        colours.append(torch.unflatten(cells, 0, pixels.shape[:2]).half())
        phrases += [clip.phrases for clip in batch]
    return MapPool(
        list(names), labels, torch.cat(maps), torch.cat(points), torch.cat(colours), phrases
    )


def map_scenes(
    network: MafsarNetwork,
    count: int,
    *,
    first_seed: int,
    generator: torch.Generator,
    photos: bool = True,
    panoramas: bool = False,
    workers: int = 2,
) -> tuple[Tensor, Tensor]:
    """Render places without actions, two takes of each, and keep their stem maps.

    Args:
        network: Has the stem.
        count: Number of places.
        first_seed: The first of consecutive seeds.
        generator: Draws disguises and augmentation.
        photos: Use photographs for some places.
        panoramas: Use views of real places throughout, every other batch undisguised.
        workers: Processes that render; the result does not depend on it.

    Returns:
        Maps float16 (count, 2, T, C, g, g), and the mean colour of each take, float32 (count, 2, 3).
    """
    config = network.config
    size, frames = config.vision.image_size, config.frames
    jobs = [
        (first_seed + index, take, frames, size, photos, panoramas)
        for index in range(count)
        for take in range(2)
    ]
    maps: list[Tensor] = []
    colours: list[Tensor] = []
    rendered = in_processes(_scene_job, jobs, workers=workers, chunk=_CHUNK)
    while batch := list(islice(rendered, _BATCH)):
        places = torch.unflatten(torch.from_numpy(np.stack(batch)), 0, (-1, 2))
        if not panoramas or len(maps) % 2:
            places = disguise(places.transpose(0, 1), generator).transpose(0, 1)
        takes = places.flatten(0, 1)
        pixels, _ = augment(takes, None, generator)
        maps.append(torch.unflatten(stem_maps(network, pixels), 0, (-1, 2)))
        colours.append(torch.unflatten(pixels.mean(dim=(1, 3, 4)), 0, (-1, 2)))
    return torch.cat(maps), torch.cat(colours)


@torch.inference_mode()
def stem_maps(network: MafsarNetwork, pixels: Tensor) -> Tensor:
    """Run the frozen stem over pictures.

    Args:
        network: Has the stem.
        pixels: float32 (B, T, 3, S, S) in [0, 255].

    Returns:
        float16 (B, T, C, g, g).
    """
    stem = network.visual.stem
    if stem is None:
        raise ValueError("network.config.vision.stem is None: there is no stem to run")
    flat = network.scale_pixels(pixels).flatten(0, 1).to(memory_format=torch.channels_last)
    # Half precision is enough for training data, and four times as fast on CPUs with bf16.
    with torch.autocast("cpu", torch.bfloat16):
        maps: Tensor = stem(flat)
    return torch.unflatten(maps.half().contiguous(), 0, pixels.shape[:2])


def _jobs(
    names: Sequence[str],
    clips: Sequence[int],
    first_seed: int,
    frames: int,
    size: int,
    photos: bool,
) -> tuple[np.ndarray, list[tuple[str, int, int, int, bool]]]:
    labels = np.repeat(np.arange(len(names)), clips)
    return labels, [
        (names[int(label)], first_seed + index, frames, size, photos)
        for index, label in enumerate(labels)
    ]


def _render_job(job: tuple[str, int, int, int, bool]) -> Rendering:
    name, seed, frames, size, photos = job
    return render(name, seed=seed, frames=frames, size=size, photos=photos)


def _scene_job(job: tuple[int, int, int, int, bool, bool]) -> np.ndarray:
    seed, take, frames, size, photos, panoramas = job
    if panoramas:
        return paint_panorama_clip(seed, take, frames=frames, size=size)
    return paint_scene_clip(seed, take, frames=frames, size=size, photos=photos)
