"""One row of the ablation on one fold: what the frozen parts see once, training, held-out answers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from ablation_pairs import Drawn, test_episodes, training_episodes
from numpy.typing import NDArray
from torch import Tensor, nn

from mafsar.choices import Scoring, ViewPrior
from mafsar.kernels.metrics import visual_distances, visual_logits
from mafsar.model.network import MafsarNetwork
from mafsar.model.photo import running_sums
from mafsar.runtime.scoring.scores import cosines
from mafsar.runtime.scoring.view_episodes import prototype_distances
from mafsar.training.choose_views import branch_prior
from mafsar.training.config import TrainConfig
from mafsar.training.episode import Encode, drops_text
from mafsar.training.losses import episode_loss, text_loss
from mafsar.training.schedule import cosine_schedule

ENCODED = 16  # clips in one run of the network
PRIOR_TAKES = 2  # of each training pair, for the means of views

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Seen:
    """What no row changes of P pairs with M takes, played forwards and backwards.

    Attributes:
        maps: The stem's maps of the forward clips, (P, M, T, C, g, g).
        raw: Features of the frozen tower, (P, M, 2, T, E).
        beside: The photo embedding, (P, M, 2, T, W); None where the model has none.
    """

    maps: Tensor
    raw: Tensor
    beside: Tensor | None


def see(network: MafsarNetwork, clips: NDArray[np.uint8], threads: int = 1) -> Seen:
    """Runs the frozen parts once.

    Args:
        network: Frozen towers without adapters.
        clips: Forward clips, (P, M, T, S, S, 3).
        threads: How many clips are seen at a time.
    """

    @torch.inference_mode()
    def one(clip: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor | None]:
        pixels, beside = network.see_photo(torch.from_numpy(clip.copy())[None])
        maps = pixels
        if network.visual.stem is not None:
            maps = network.visual.stem(pixels[0])[None]
        raw, _ = network.encode_tower(maps, None)
        back = None if beside is None else beside_both_ways(network, beside)[0]
        return maps[0].contiguous(), both_ways(raw)[0], back

    with ThreadPoolExecutor(threads) as workers:
        parts = list(workers.map(one, clips.reshape(-1, *clips.shape[2:])))
    maps, raw, beside = zip(*parts, strict=True)
    shape = clips.shape[:2]
    return Seen(
        torch.stack(maps).unflatten(0, shape),
        torch.stack(raw).unflatten(0, shape),
        None if beside[0] is None else torch.stack(beside).unflatten(0, shape),  # type: ignore[arg-type]
    )


def both_ways(clips: Tensor) -> Tensor:
    """Clips (B, T, …) forwards and backwards, (B, 2, T, …)."""
    return torch.stack([clips, clips.flip(1)], dim=1)


def beside_both_ways(network: MafsarNetwork, beside: Tensor) -> Tensor:
    """The photo embedding (B, T, W) of clips and of the same clips backwards, (B, 2, T, W)."""
    photo = network.photo
    assert photo is not None
    things = photo.things_proj.out_features
    single = things + photo.people_proj.out_features
    back = beside[..., :single].flip(1)
    if photo.sums:
        back = torch.cat([back, photo.sums * running_sums(back[..., :things])], dim=-1)
    return torch.stack([beside, back], dim=1)


@dataclass(frozen=True)
class Clips:
    """The pairs' clips as a row's network reads them.

    Attributes:
        seen: What no row changes.
        cached: The row's tower stays as it is, so that it reads raw features and no maps.
        texts: Raw embeddings of the class names, (P, 2, E), without a photo embedding.
        known: Whether the towers know every word of a pair's names, (P,).
    """

    seen: Seen
    cached: bool
    texts: Tensor
    known: NDArray[np.bool_]

    def read(self, pairs: Sequence[int], takes: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Input and photo embedding of some takes, each in both directions, (B, 2, T, …)."""
        beside = None if self.seen.beside is None else self.seen.beside[pairs, takes]
        if self.cached:
            return self.seen.raw[pairs, takes], beside
        return both_ways(self.seen.maps[pairs, takes]), beside


def encoder_of(network: MafsarNetwork, *, cached: bool) -> Encode:
    """What encodes a row's clips (B, T, …), given as raw features or as the stem's maps."""

    def encode(clips: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor]:
        if cached:
            features = clips if network.tpcm is None else network.tpcm(clips, text)
            return features, clips.mean(dim=1)
        # bfloat16 halves the time on processors that have it; matching stays in float32.
        with torch.autocast("cpu", torch.bfloat16):
            features, pooled = network.encode_tower(clips, text)
        return features.float(), pooled.float()

    return encode


def tune(
    network: MafsarNetwork,
    encode: Encode,
    clips: Clips,
    among: NDArray[np.intp],
    takes: int,
    config: TrainConfig,
) -> None:
    """Trains in place, as `mafsar.training.trainer` does, on the episodes of some pairs."""
    tuned = list(network.tunable_parameters().values())
    optim = config.optim
    optimizer = torch.optim.AdamW(
        tuned, optim.learning_rate, (optim.beta1, optim.beta2), weight_decay=optim.weight_decay
    )
    episodes = training_episodes(among, takes, config)
    network.train()
    for step in range(config.steps):
        batch = list(itertools.islice(episodes, optim.batch))
        optimizer.zero_grad(set_to_none=True)
        loss = batch_loss(network.config.match, encode, clips, batch, config)
        torch.autograd.backward([loss])
        nn.utils.clip_grad_norm_(tuned, optim.clip_norm)
        factor = cosine_schedule(step, config.steps, round(optim.warm_up * config.steps))
        for group in optimizer.param_groups:
            group["lr"] = optim.learning_rate * factor
        optimizer.step()
    network.eval()


def batch_loss(
    match: Scoring, encode: Encode, clips: Clips, batch: Sequence[Drawn], config: TrainConfig
) -> Tensor:
    """The mean loss of some episodes, whose clips the network reads in two calls.

    The matched features are the tower's and the photo embedding beside it, raw, as a test matches
    them. An episode has no names where text dropout says so or the towers do not know a word.
    """
    worded = [clips.known[e.pair] and not drops_text(config, e.number) for e in batch]
    # Episodes with names come first, so that the guided supports are one slice.
    order = sorted(range(len(batch)), key=lambda i: not worded[i])
    batch, guided = [batch[i] for i in order], sum(worded)
    pairs = [e.pair for e in batch]
    support, support_beside = clips.read(pairs, [e.support for e in batch])
    query, query_beside = clips.read(pairs, [e.query for e in batch])
    texts = clips.texts[pairs]  # (B, 2, E)
    plain, plain_pooled = encode(torch.cat([support[guided:], query]).flatten(0, 1), None)
    s, q = plain.unflatten(0, (-1, 2)).tensor_split([len(batch) - guided])
    q_pooled = plain_pooled.unflatten(0, (-1, 2))[len(batch) - guided :]
    s_pooled = q_pooled
    if guided:
        found, pooled = encode(support[:guided].flatten(0, 1), texts[:guided].flatten(0, 1))
        s = torch.cat([found.unflatten(0, (-1, 2)), s])
        s_pooled = pooled.unflatten(0, (-1, 2))
    if support_beside is not None and query_beside is not None:
        s, q = torch.cat([s, support_beside], dim=-1), torch.cat([q, query_beside], dim=-1)
    logits = visual_logits(visual_distances(q, s, match), q.shape[2], match)  # (B, 2, 2)
    own = torch.arange(2)
    losses = [
        episode_loss(
            logits[i],
            own,
            match.alpha,
            None
            if i >= guided
            else (
                text_loss(s_pooled[i], texts[i], own, match.text_scale, config.smooth),
                text_loss(q_pooled[i], texts[i], own, match.text_scale, config.smooth),
            ),
        )
        for i in range(len(batch))
    ]
    return torch.stack(losses).mean()


@torch.inference_mode()
def encode_pairs(
    encode: Encode, clips: Clips, pairs: NDArray[np.intp], takes: int, *, guided: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The first takes of some pairs in both directions.

    Returns:
        F̃ with the photo embedding, (len(pairs) · takes · 2, T, E), in the order of `test_episodes`,
        and time means of the tower's raw features.
    """
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    chosen = list(itertools.product(pairs.tolist(), range(takes)))
    for start in range(0, len(chosen), ENCODED // 2):
        own, take = map(list, zip(*chosen[start : start + ENCODED // 2], strict=True))
        read, beside = clips.read(own, take)
        text = clips.texts[own].flatten(0, 1) if guided else None
        features, pooled = encode(read.flatten(0, 1), text)
        if beside is not None:
            features = torch.cat([features, beside.flatten(0, 1)], dim=-1)
        found[0].append(features)
        found[1].append(pooled)
    return torch.cat(found[0]).numpy(), torch.cat(found[1]).numpy()


def held_out(
    encode: Encode,
    clips: Clips,
    folds: tuple[NDArray[np.intp], NDArray[np.intp]],
    takes: int,
    scorings: dict[str, Scoring],
) -> Arrays:
    """Distances and text logits of the episodes of held-out pairs.

    Args:
        encode: The trained row.
        clips: All clips.
        folds: Pairs that were trained on, which the means of views are from, and those held out.
        takes: Takes of each held-out pair.
        scorings: Ways to match, by name, without the means of views.

    Returns:
        For each way `NAME off` (no names anywhere) and `NAME on` (supports read their names, known
        pairs only), visual logits (n, 2, 2), and `text`, the text logits of the latter.
    """
    seen, held = folds
    known = held[clips.known[held]]
    query, pooled = encode_pairs(encode, clips, held, takes, guided=False)
    guided, _ = encode_pairs(encode, clips, known, takes, guided=True)
    of_known = np.repeat(clips.known[held], 2 * takes)
    learnt = PRIOR_TAKES
    prior = ViewPrior(
        branch_prior(encode_pairs(encode, clips, seen, learnt, guided=False)[0]),
        branch_prior(encode_pairs(encode, clips, seen[clips.known[seen]], learnt, guided=True)[0]),
    )
    sides = {
        "off": (len(held), query, query, "query"),
        "on": (len(known), query[of_known], guided, "support"),
    }
    found: Arrays = {}
    for (name, scoring), side in itertools.product(scorings.items(), sides):
        count, asked, shown, branch = sides[side]
        episodes, _ = test_episodes(count, takes)
        if scoring.views != "raw":
            scoring = dataclasses.replace(scoring, view_prior=prior)
        distances = prototype_distances(asked, shown, scoring, branch)  # type: ignore[arg-type]
        found[f"{name} {side}"] = -distances(episodes.queries[..., 0], episodes.support)
    episodes, _ = test_episodes(len(known), takes)
    texts = clips.texts[known].flatten(0, 1).numpy()[episodes.classes]
    scale = next(iter(scorings.values())).text_scale
    found["text"] = scale * cosines(pooled[of_known][episodes.queries[..., 0]], texts)
    return {name: np.asarray(value, np.float32) for name, value in found.items()}
