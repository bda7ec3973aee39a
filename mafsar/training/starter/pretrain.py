"""Phase 1: both towers from scratch, from captions and known contents of single frames.

Besides CLIP's contrastive loss there are targets that the renderer knows: the positions of joints
and things (read from the direction of the frame's embedding, and as the patch that shows each), and
a coarse colour map of the frame. They let a small tower learn poses from few examples and keep
appearance; their heads are discarded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from mafsar.model.config import VisionConfig
from mafsar.model.network import MafsarNetwork
from mafsar.synthetic.actions.classes import action
from mafsar.synthetic.clips.captions import caption
from mafsar.synthetic.clips.render import POINTS
from mafsar.synthetic.painting.figure import TRACKED
from mafsar.synthetic.palette import name_of
from mafsar.training.losses import contrastive_loss
from mafsar.training.schedule import cosine_schedule
from mafsar.training.starter.pool import COLOUR_CELLS, MapPool
from mafsar.training.starter.words import encode

_PELVIS = TRACKED.index("pelvis")


@dataclass(frozen=True)
class PretrainPlan:
    """Settings of phase 1; every number is a choice of this project."""

    steps: int
    batch: int = 128
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warm_up: int = 40
    class_caption_share: float = 0.35
    scene_share: float = 0.1
    text_size: float = 0.25
    place_weight: float = 0.4
    pose_weight: float = 15.0
    colour_weight: float = 1.5


class FrameHeads(nn.Module):
    """Linear heads on a frame that exist only in training."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.places = nn.ModuleList(nn.Linear(width, POINTS) for _ in range(2))
        self.pose = nn.Linear(embed_dim, 2 * POINTS + 2 * len(TRACKED))
        self.colour = nn.Linear(embed_dim, 3 * COLOUR_CELLS**2)

    def forward(
        self, patches: list[Tensor], features: Tensor
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return patch logits (B, N, P) of two depths, positions (B, ·) and colours (B, ·)."""
        # Matching compares directions, so the heads read the direction alone.
        direction = F.normalize(features, dim=-1) * math.sqrt(self.embed_dim)
        places = [
            place(norm(tokens))
            for place, norm, tokens in zip(self.places, self.norms, patches, strict=True)
        ]
        return places, self.pose(direction), self.colour(direction)


def pretrain(
    network: MafsarNetwork,
    tokenizer: Tokenizer,
    pool: MapPool,
    scenes: tuple[Tensor, Tensor],
    plan: PretrainPlan,
    *,
    seed: int,
    report: Callable[[int, dict[str, float]], None],
) -> None:
    """Train the towers in place and leave them frozen.

    Args:
        network: The network whose towers and logit scale are trained; adapters are not used.
        tokenizer: Encodes captions.
        pool: Clips of training classes.
        scenes: Places without actions, maps (n, 2, T, C, g, g), and their colours (n, 2, 3).
        plan: Number of steps and weights.
        seed: Draws batches, captions and augmentation.
        report: Called every 25 steps with the step and its losses.
    """
    rng = np.random.default_rng([seed, 1])
    torch.manual_seed(seed * 1_000 + 2)
    config = network.config
    heads = FrameHeads(config.vision.width, config.embed_dim)
    towers = [
        parameter
        for name, parameter in network.named_parameters()
        if name.startswith(("visual.", "text.")) and not name.startswith("visual.stem.")
    ]
    with torch.no_grad():
        network.logit_scale.fill_(math.log(1 / 0.07))
        # The channels of the stem's maps differ in scale; the embedding starts with equal ones.
        loudness = pool.maps[:: max(1, len(pool.maps) // 256)].float().square()
        network.visual.conv1.weight.div_(loudness.mean(dim=(0, 1, 3, 4)).sqrt()[:, None, None])
        # Positions must be as large as pixels from the start: with the usual small random ones the
        # towers learn nothing about positions for hundreds of steps.
        network.visual.positional_embedding.copy_(_grid_waves(config.vision))
    for parameter in (*towers, network.logit_scale):
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [
            {"params": [*towers, *heads.parameters()], "weight_decay": plan.weight_decay},
            {"params": [network.logit_scale], "weight_decay": 0.0},
        ],
        lr=plan.learning_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine_schedule(step, plan.steps, plan.warm_up)
    )
    network.train()
    for step in range(plan.steps):
        maps, points, colours, captions = _draw_batch(pool, scenes, plan, rng)
        losses = _losses(network, heads, maps, points, colours, tokenizer, captions)
        total = (
            losses["caption"]
            + plan.place_weight * losses["place"]
            + plan.pose_weight * losses["pose"]
            + plan.colour_weight * losses["colour"]
        )
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([total])
        nn.utils.clip_grad_norm_([*towers, *heads.parameters()], 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            network.logit_scale.clamp_(max=math.log(50.0))
        if step % 25 == 0 or step == plan.steps - 1:
            report(step, {name: float(value.detach()) for name, value in losses.items()})
    with torch.no_grad():
        # This changes no cosine with a text; but the prototype module adds texts to frames, and an
        # untrained one must not drown the frames.
        network.text.text_projection.mul_(plan.text_size / float(losses["loudness"]))
    for parameter in (*towers, network.logit_scale):
        parameter.requires_grad_(False)
    network.eval()


def _grid_waves(vision: VisionConfig) -> Tensor:
    """Return sines and cosines of each patch's column and row, (N+1, D); zeros for the class."""
    side = math.isqrt(vision.patches)
    quarter = vision.width // 4
    rates = math.pi * 2.0 ** torch.linspace(-1, math.log2(side / 2), quarter)
    at = (torch.arange(side) + 0.5) / side
    angles = at[:, None] * rates  # (side, D/4)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, D/2)
    columns = waves[None].expand(side, -1, -1)
    rows = waves[:, None].expand(-1, side, -1)
    grid = torch.cat([columns, rows], dim=-1).flatten(0, 1)  # (N, D)
    return torch.cat([torch.zeros(1, vision.width), grid])


def _draw_batch(
    pool: MapPool, scenes: tuple[Tensor, Tensor], plan: PretrainPlan, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Draw single frames: maps (B, C, g, g), points (B, P, 2), colours (B, 3, c, c), captions."""
    empty = round(plan.batch * plan.scene_share)
    clips = rng.integers(len(pool.labels), size=plan.batch - empty)
    times = rng.integers(pool.maps.shape[1], size=plan.batch - empty)
    captions = []
    for clip, t in zip(clips, times, strict=True):
        label = int(pool.labels[clip])
        if rng.random() < plan.class_caption_share and not action(pool.names[label]).unnamed:
            choices = pool.captions(label)
            captions.append(choices[int(rng.integers(len(choices)))])
        else:
            captions.append(caption(pool.phrases[clip][t], rng))
    places, tints = scenes
    which, take = rng.integers(len(places), size=empty), rng.integers(2, size=empty)
    captions += [
        f"a place mostly {name_of(tints[w, k].numpy())}" for w, k in zip(which, take, strict=True)
    ]
    maps = torch.cat(
        [pool.maps[clips, times], places[which, take, rng.integers(places.shape[2], size=empty)]]
    )
    points = torch.cat(
        [pool.points[clips, times], pool.points.new_full((empty, *pool.points.shape[2:]), math.nan)]
    )
    # Unknown values of a place are left out of the loss, as absent points are.
    unknown = pool.colours.new_full((empty, *pool.colours.shape[2:]), math.nan)
    colours = torch.cat([pool.colours[clips, times], unknown])
    return maps.float(), points, colours.float(), captions


def _losses(
    network: MafsarNetwork,
    heads: FrameHeads,
    maps: Tensor,
    points: Tensor,
    colours: Tensor,
    tokenizer: Tokenizer,
    captions: list[str],
) -> dict[str, Tensor]:
    # bfloat16 for the towers; losses and heads stay in float32.
    with torch.autocast("cpu", torch.bfloat16):
        patches, features = _forward(network, maps)
        texts = network.encode_text(encode(tokenizer, captions))
    features, texts = features.float(), texts.float()
    places, pose, colour = heads([depth.float() for depth in patches], features)
    ids = {text: index for index, text in enumerate(dict.fromkeys(captions))}
    number = torch.tensor([ids[text] for text in captions])
    same = number[:, None] == number[None]
    seen = ~colours.flatten(1).isnan()
    return {
        "caption": contrastive_loss(features, texts, network.logit_scale.exp(), same),
        "place": 0.5 * (_place_loss(places[0], points) + _place_loss(places[1], points)),
        "pose": _pose_loss(pose, points),
        "colour": F.mse_loss(colour[seen], colours.flatten(1)[seen]),
        "loudness": (texts.norm(dim=-1).mean() / features.norm(dim=-1).mean()).detach(),
    }


def _forward(network: MafsarNetwork, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the patch tokens before the last two blocks (B, N, D) and the features (B, E)."""
    tower = network.visual
    tokens = tower.ln_pre(tower.embed(images))
    depths = [tokens]
    blocks = list(tower.transformer.resblocks)
    for block in blocks[:-1]:
        tokens = block(tokens)
        depths.append(tokens)
    last = blocks[-1](tokens, first_only=True)
    return [depth[:, 1:] for depth in depths[-2:]], tower.project(last[:, 0])


def _place_loss(logits: Tensor, points: Tensor) -> Tensor:
    """Cross-entropy over the patches for the one that shows each point."""
    side = math.isqrt(logits.shape[1])
    inside = ((points >= 0) & (points < 1)).all(dim=-1)  # NaN is never inside
    cell = (points.nan_to_num(0).clamp(0, 0.999) * side).long()
    target = cell[..., 1] * side + cell[..., 0]  # (B, P)
    losses = F.cross_entropy(logits, target, reduction="none")
    return (losses * inside).sum() / inside.sum().clamp(min=1)


def _pose_loss(found: Tensor, points: Tensor) -> Tensor:
    """Smooth L1 error of positions, and of joints relative to the pelvis."""
    body = points[:, : len(TRACKED)]
    relative = 2 * (body - body[:, _PELVIS : _PELVIS + 1])
    wanted = torch.cat([2 * points - 1, relative], dim=1).clamp(-1.3, 1.3).flatten(1)
    known = ~wanted.isnan()
    gaps = F.smooth_l1_loss(found, wanted.nan_to_num(0), reduction="none", beta=0.1)
    return (gaps * known).sum() / known.sum().clamp(min=1)
