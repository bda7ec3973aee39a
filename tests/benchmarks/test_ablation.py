"""The ablation's arithmetic: whose clips and episodes a row sees, and what its tables say of them."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import itertools
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mafsar.choices import Scoring
from mafsar.data.loader import EpisodeBatch
from mafsar.kernels import otam_match
from mafsar.model.config import PhotoConfig, named_config
from mafsar.model.network import build_network
from mafsar.model.stem_table import STEM_CHANNELS
from mafsar.synthetic.actions.classes import action
from mafsar.training.episode import drops_text, run_episode

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STARTER_SEEDS = 6_000_000  # the starter's renderings have seeds below


@pytest.fixture(scope="module")
def load() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a file of the benchmarks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


@pytest.fixture(scope="module")
def ablation(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("ablation")


@pytest.fixture(scope="module")
def pairs_of(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("ablation_pairs")


@pytest.fixture(scope="module")
def rows_of(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("ablation_rows")


@pytest.fixture
def arguments(ablation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """What a call without options runs."""
    monkeypatch.setattr(sys, "argv", ["ablation.py"])
    return ablation.parsed()


def test_every_pair_is_held_out_once(pairs_of: ModuleType) -> None:
    pairs = pairs_of.all_pairs()
    assert len(pairs) == 38
    for pair in pairs:
        one, two = map(action, pair.names)
        assert (one.partner, two.partner) == (two.name, one.name)
        assert two.backwards
        assert {one.split, two.split} == {pair.part}
    folds = pairs_of.fold_of(pairs)
    assert set(folds.tolist()) == set(range(pairs_of.FOLDS))
    assert np.bincount(folds).min() >= 12
    # The eight pairs that the towers saw no frame of are in all folds.
    unseen = [folds[i] for i, pair in enumerate(pairs) if pair.part != "train"]
    assert sorted(np.bincount(unseen).tolist()) == [2, 3, 3]


def test_no_two_clips_share_a_seed(pairs_of: ModuleType) -> None:
    jobs = pairs_of.render_jobs(pairs_of.all_pairs(), 40, 224, 8)
    seeds = {seed for _, seed, *_ in jobs}
    assert len(seeds) == len(jobs) == 38 * 40
    assert min(seeds) > STARTER_SEEDS


def test_rows_of_a_seed_see_the_same_episodes_of_the_other_folds(
    ablation: ModuleType, pairs_of: ModuleType, arguments: argparse.Namespace
) -> None:
    arguments.episodes = 40
    others = np.flatnonzero(pairs_of.fold_of(pairs_of.all_pairs()) != 1)
    seen: dict[int, list[Any]] = {0: [], 1: []}
    for seed, row in itertools.product(seen, ablation.ROWS):
        config = ablation.row_config(row, seed, arguments)
        assert (config.steps, config.optim.batch) == (5, 8)
        episodes = list(pairs_of.training_episodes(others, 5, config))
        assert [episode.number for episode in episodes] == list(range(40))
        assert {episode.pair for episode in episodes} <= set(others.tolist())
        assert all(e.support != e.query and {e.support, e.query} <= set(range(5)) for e in episodes)
        seen[seed].append([(e, drops_text(config, e.number)) for e in episodes])
    assert all(rows == [rows[0]] * len(ablation.ROWS) for rows in seen.values())
    assert seen[0][0] != seen[1][0]


def test_every_held_out_clip_is_support_once_and_query_once(pairs_of: ModuleType) -> None:
    episodes, class_index = pairs_of.test_episodes(3, 8)
    assert len(episodes) == 24
    for clips in (episodes.support, episodes.queries):
        assert sorted(clips.ravel().tolist()) == list(range(48))
        np.testing.assert_array_equal(class_index[clips[..., 0]], episodes.classes)
    for support, query, classes in zip(
        episodes.support[..., 0], episodes.queries[..., 0], episodes.classes, strict=True
    ):
        assert classes[0] % 2 == 0
        assert classes[1] == classes[0] + 1  # a class and its partner
        assert support[0] // 2 == support[1] // 2 != query[0] // 2 == query[1] // 2


def test_clips_played_backwards_are_seen_as_the_network_sees_them(rows_of: ModuleType) -> None:
    base = dataclasses.replace(named_config("tiny"), frames=3, adapters=None)
    photo = PhotoConfig(things=8, people=4)
    network = build_network(dataclasses.replace(base, photo=photo))
    size = network.config.input_size
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (1, 2, 3, size, size, 3), np.uint8)
    seen = rows_of.see(network, clips)
    assert seen.maps.shape[:3] == (1, 2, 3)
    width = network.config.embed_dim
    with torch.inference_mode():
        forwards = torch.from_numpy(clips[0])
        for way, frames in enumerate((forwards, forwards.flip(1))):
            expected = network.encode_query(frames)[0]
            torch.testing.assert_close(
                seen.raw[0, :, way], expected[..., :width], atol=1e-4, rtol=1e-4
            )
            torch.testing.assert_close(
                seen.beside[0, :, way], expected[..., width:], atol=1e-4, rtol=1e-4
            )


def test_the_loss_of_a_batch_is_the_mean_of_its_episodes(
    ablation: ModuleType,
    pairs_of: ModuleType,
    rows_of: ModuleType,
    arguments: argparse.Namespace,
) -> None:
    """Against `mafsar.training.episode.run_episode`, which is given each episode's clips."""
    arguments.episodes = 12
    config = ablation.row_config("both", 0, arguments)
    base = dataclasses.replace(named_config("tiny"), frames=4)
    network = build_network(base, seed=1)
    generator = torch.Generator().manual_seed(0)
    for value in network.tunable_parameters().values():  # adapters that change something
        value.data += 0.1 * torch.randn(value.shape, generator=generator)
    maps = torch.rand(3, 4, 4, STEM_CHANNELS, 7, 7, generator=generator)
    beside = torch.randn(3, 4, 2, 4, 5, generator=generator)
    raw = torch.zeros(3, 4, 2, 4, base.embed_dim)
    texts = torch.randn(3, 2, base.embed_dim, generator=generator)
    known = np.array([True, False, True])
    clips = rows_of.Clips(rows_of.Seen(maps, raw, beside), False, texts, known)
    batch = list(pairs_of.training_episodes(np.arange(3), 4, config))
    found = rows_of.batch_loss(network.config.match, network.encode_tower, clips, batch, config)
    losses = []
    for one in batch:
        played = [torch.stack([maps[one.pair, t], maps[one.pair, t].flip(0)])[:, None]
                  for t in (one.support, one.query)]  # fmt: skip
        sides = {t: beside[one.pair, t] for t in (one.support, one.query)}
        named = known[one.pair] and not drops_text(config, one.number)

        def encode(
            given: Tensor, text: Tensor | None, sides: Any = sides, one: Any = one
        ) -> tuple[Tensor, Tensor]:
            features, pooled = network.encode_tower(given, text)
            if len(given) == 4:  # support and query together
                extra = torch.cat([sides[one.support], sides[one.query]])
            else:
                extra = sides[one.query if text is None else one.support]
            return torch.cat([features, extra], dim=-1), pooled

        losses.append(
            run_episode(
                encode,
                EpisodeBatch(one.number, *played, torch.arange(2)),
                texts[one.pair] if named else None,
                network.config.match,
                guided=True,
                smooth=config.smooth,
            ).loss
        )
    assert 0 < sum(known[e.pair] and not drops_text(config, e.number) for e in batch) < len(batch)
    torch.testing.assert_close(found, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)


def test_held_out_pairs_are_matched_by_both_ways(rows_of: ModuleType) -> None:
    rng = np.random.default_rng(2)
    raw, beside = (rng.standard_normal((4, 3, 2, 4, w)).astype(np.float32) for w in (6, 5))
    seen = rows_of.Seen(torch.zeros(4, 3, 4, 1, 1, 1), torch.tensor(raw), torch.tensor(beside))
    texts = torch.tensor(rng.standard_normal((4, 2, 6)), dtype=torch.float32)
    clips = rows_of.Clips(seen, True, texts, np.array([True, True, False, True]))

    def encode(given: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor]:
        shift = 0.0 if text is None else 0.1 * text[:, None]
        return given + shift, given.mean(dim=1)

    scorings = {
        "raw": Scoring("otam", 0.5, text_scale=3.0),
        "views": Scoring("otam", 0.1, views=0.5, text_scale=3.0),
    }
    held = np.array([2, 3])
    found = rows_of.held_out(encode, clips, (np.array([0, 1]), held), 3, scorings)
    shapes = {name: value.shape for name, value in found.items()}
    assert shapes == {
        "raw off": (6, 2, 2), "views off": (6, 2, 2),
        "raw on": (3, 2, 2), "views on": (3, 2, 2), "text": (3, 2, 2),
    }  # fmt: skip
    order = np.random.default_rng(0).permutation(3)
    joined = np.concatenate([raw, beside], axis=-1).astype(np.float64)
    for place, (take, other) in enumerate(zip(order, np.roll(order, 1), strict=True)):
        for index, pair in enumerate(held):
            support, query = joined[pair, take], joined[pair, other]
            expected = -otam_match(query, support, lam=0.5)
            np.testing.assert_allclose(found["raw off"][3 * index + place], expected, rtol=1e-4)
        guided = joined[3, take].copy()
        guided[..., :6] += 0.1 * texts[3].numpy()[:, None]
        expected = -otam_match(joined[3, other], guided, lam=0.5)
        np.testing.assert_allclose(found["raw on"][place], expected, rtol=1e-4)
        pooled, words = raw[3, other].mean(axis=1), texts[3].numpy()
        for q, c in itertools.product(range(2), range(2)):
            norm = float(np.linalg.norm(pooled[q]) * np.linalg.norm(words[c]))
            assert found["text"][place, q, c] == pytest.approx(
                3.0 * float(pooled[q] @ words[c]) / norm, rel=1e-4
            )
    # The means of views are those of the pairs that were trained on.
    seen.raw[:2] += 1.0
    changed = rows_of.held_out(encode, clips, (np.array([0, 1]), held), 3, scorings)
    np.testing.assert_array_equal(changed["raw off"], found["raw off"])
    assert np.abs(changed["views off"] - found["views off"]).max() > 1e-3


def made_up(tables: ModuleType, rng: np.random.Generator) -> dict[str, Any]:
    """Answers of three seeds to 38 pairs of which some are hard for every row."""
    pairs = [
        {"names": [f"a{i}", f"b{i}"], "part": "train" if i < 30 else "test", "fold": i % 3,
         "known": i % 7 != 0}
        for i in range(38)
    ]  # fmt: skip
    worse = {"nothing": 0.3, "TPCM only": 0.15, "adapters only": 0.1, "both": 0.0}
    hard = rng.random(38)
    results = []
    for seed, (row, share), fold in itertools.product(range(3), worse.items(), range(3)):
        held = [i for i in range(38) if pairs[i]["fold"] == fold]
        found = {}
        for name in ("raw off", "views off", "raw on", "views on", "text"):
            own = held if name.endswith("off") else [i for i in held if pairs[i]["known"]]
            gap = 1.0 - share - hard[own][:, None] + 0.4 * rng.standard_normal((len(own), 5))
            logits = np.zeros((len(own), 5, 2, 2))
            logits[..., 0, 0] = logits[..., 1, 1] = gap
            found[name] = logits.reshape(-1, 2, 2)
        facts = {"row": row, "seed": seed, "fold": fold, "tuned": 1234}
        results.append(facts | {"training_seconds": 10.0 * seed, "seconds": 1.0, "found": found})
    return {"results": tables.accuracies(results, pairs), "pairs": pairs, "raw": results}


def test_intervals_are_those_of_paired_differences_over_pairs(
    load: Callable[[str], ModuleType],
) -> None:
    """Against lists, `statistics` and the quantiles of printed tables of Student's t."""
    tables = load("ablation_table")
    for freedom, quantile in ((7, 2.3646), (32, 2.0369), (37, 2.0262)):
        assert tables.t_quantile(freedom) == pytest.approx(quantile, abs=2e-3)
    document = made_up(tables, np.random.default_rng(0))

    def of_pair(row: str, pair: int) -> float:
        """Mean over seeds of a pair's share of right answers, text off, raw."""
        shares = []
        for item in document["raw"]:
            if item["row"] == row and item["fold"] == pair % 3:
                held = [i for i in range(38) if i % 3 == item["fold"]]
                five = item["found"]["raw off"].reshape(-1, 5, 2, 2)[held.index(pair)]
                shares += [float(q[i] > q[1 - i]) for q2 in five for i, q in enumerate(q2)]
        return 100 * statistics.fmean(shares)

    def interval(values: list[float]) -> tuple[float, float]:
        half = 2.0262 * statistics.stdev(values) / math.sqrt(len(values))
        return statistics.fmean(values), half

    lines = tables.table(document).splitlines()
    for better, worse in (("both", "adapters only"), ("TPCM only", "nothing")):
        line = next(line for line in lines if line.startswith(f"| {better} − {worse} |"))
        cell = line.strip("| ").split(" | ")[1]
        one, two = ([of_pair(row, i) for i in range(38)] for row in (better, worse))
        mean, half = interval([a - b for a, b in zip(one, two, strict=True)])
        said = [float(part) for part in cell.split(" ± ")]
        assert said == pytest.approx([mean, half], abs=0.06)
        # Rows err in the same pairs, so that pairing says more than two intervals do.
        assert half < 0.7 * math.hypot(interval(one)[1], interval(two)[1])
    (line,) = (line for line in lines if line.startswith("| both | 1,234 |"))
    mean, half = interval([of_pair("both", i) for i in range(38)])
    assert line.split(" | ")[2] == f"{mean:.1f} ± {half:.1f}"
    assert line.endswith("| 30 |")  # three folds, mean over seeds


def test_unknown_names_take_no_part_and_alpha_is_fitted_elsewhere(
    load: Callable[[str], ModuleType],
) -> None:
    tables = load("ablation_table")
    document = made_up(tables, np.random.default_rng(1))
    run = document["results"][0]
    for column, values in run["accuracy"].items():
        none = [i for i, value in enumerate(values) if value is None]
        assert none == ([] if column.endswith("off") else list(range(0, 38, 7)))
    # A fold that was not run is missing in every row, and nothing else is.
    some = [item for item in document["raw"] if item["fold"] != 0]
    partial = document | {"results": tables.accuracies(some, document["pairs"])}
    none = [i for i, v in enumerate(partial["results"][0]["accuracy"]["raw off"]) if v is None]
    assert none == list(range(0, 38, 3))
    assert "| both − nothing |" in tables.table(partial)
    # Text that is right in the other folds alone gets α = 1 here, and wrong answers.
    folds = [item for item in document["raw"] if (item["row"], item["seed"]) == ("both", 0)]
    for item in folds:
        sign = -1.0 if item["fold"] == 2 else 1.0
        size = item["found"]["text"].shape
        item["found"]["text"] = np.broadcast_to(sign * 9 * np.eye(2), size)
        item["found"]["raw on"] = np.broadcast_to(-0.1 * sign * np.eye(2), size)
    (run,) = tables.accuracies(folds, document["pairs"])
    held = [i for i in range(38) if i % 3 == 2 and i % 7]
    assert {run["accuracy"]["raw fused"][i] for i in held} == {0.0}
    assert {run["accuracy"]["raw on"][i] for i in held} == {1.0}


def test_a_kept_row_belongs_to_its_towers_and_arguments(
    ablation: ModuleType,
    arguments: argparse.Namespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def run_row(_: int, row: str, *__: object) -> tuple[dict[str, Any], dict[str, Any]]:
        ran.append(row)
        return {"row": row, "seconds": 0.0}, {"text": np.ones(2, np.float32)}

    def kept(seed: int, fold: int, towers: str) -> dict[str, Any]:
        backbone = argparse.Namespace(sha256=towers, views=Scoring(views=0.5, lam=0.1))
        path = ablation.kept_path(seed, "both", fold, backbone, arguments)
        job = (seed, "both", fold)
        seen = argparse.Namespace()
        found: dict[str, Any] = ablation.kept_row(
            job, path, backbone=backbone, seen=seen, arguments=arguments
        )
        return found

    monkeypatch.setattr(ablation, "run_row", run_row)
    arguments.work = tmp_path
    for _ in range(2):
        found = kept(0, 0, "towers")
        assert found["row"] == "both"
        np.testing.assert_array_equal(found["found"]["text"], [1, 1])
    assert len(ran) == 1
    for seed, fold, towers in ((0, 0, "other towers"), (1, 0, "towers"), (0, 1, "towers")):
        kept(seed, fold, towers)
    arguments.model, arguments.threads = "a bundle with the same towers", 7
    kept(0, 0, "towers")
    assert len(ran) == 4
    arguments.episodes += 1
    kept(0, 0, "towers")
    assert len(ran) == 5


def test_tables_are_put_between_the_page_s_marks(load: Callable[[str], ModuleType]) -> None:
    tables = load("ablation_table")
    page = f"# Title\n\n{tables.BEGIN}| old |\n{tables.END}\nWords.\n"
    new = tables.with_table(page, "| new |\n")
    assert new == f"# Title\n\n{tables.BEGIN}| new |\n{tables.END}\nWords.\n"
    assert tables.with_table(new, "| new |\n") == new
    for broken in ("# Title\n", page.replace(tables.END, ""), page.replace(tables.BEGIN, "")):
        with pytest.raises(ValueError, match="no place for the table"):
            tables.with_table(broken, "| new |\n")
    text = tables.PAGE.read_text(encoding="utf-8")
    assert text.count(tables.BEGIN) == text.count(tables.END) == 1
