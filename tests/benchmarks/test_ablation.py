"""The ablation's arithmetic: whose clips and episodes a row sees, and what its table says of them."""

from __future__ import annotations

import argparse
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

from mafsar.synthetic.actions.classes import action
from mafsar.training.episode import drops_text

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


@pytest.fixture
def arguments(ablation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """What a call without options runs."""
    monkeypatch.setattr(sys, "argv", ["ablation.py"])
    return ablation.parsed()


def test_parts_share_neither_a_class_nor_a_seed(
    pairs_of: ModuleType, arguments: argparse.Namespace
) -> None:
    seeds: set[int] = set()
    names: set[str] = set()
    takes = [int(count) for count in arguments.takes.split(",")]
    for part, count in zip(pairs_of.FIRST_SEEDS, takes, strict=True):
        own = pairs_of.pair_names(part)
        assert all(action(one).partner == two for one, two in zip(own[::2], own[1::2], strict=True))
        assert {action(name).split for name in own} == {part}
        jobs = pairs_of.render_jobs(part, count, 112, 8)
        assert {name for name, *_ in jobs} == set(own[::2])
        assert len({seed for _, seed, *_ in jobs}) == len(jobs) == count * len(own) // 2
        assert not names & set(own)
        assert not seeds & {seed for _, seed, *_ in jobs}
        names |= set(own)
        seeds |= {seed for _, seed, *_ in jobs}
    assert min(seeds) > STARTER_SEEDS


def numbered(pairs_of: ModuleType, pairs: int, takes: int) -> Any:
    """Clips of six frames of one pixel, (pair, take, frame)."""
    axes = np.meshgrid(range(pairs), range(takes), range(6), indexing="ij")
    frames = torch.from_numpy(np.stack(axes, axis=-1).astype(np.uint8))[:, :, :, None, None]
    return pairs_of.Pairs([f"class{i}" for i in range(2 * pairs)], frames).middle(4)


def test_rows_of_a_seed_see_the_same_episodes_in_the_same_batches(
    ablation: ModuleType, pairs_of: ModuleType, arguments: argparse.Namespace
) -> None:
    arguments.episodes = 40
    pairs = numbered(pairs_of, 7, 5)
    seen: dict[int, list[list[Any]]] = {0: [], 1: []}
    batches = set()
    for seed, row in itertools.product(seen, ablation.ROWS):
        config = ablation.row_config(row, seed, arguments)
        batches.add((config.steps, config.optim.batch))
        episodes = list(pairs_of.training_episodes(pairs, config))
        assert len(episodes) == 40
        seen[seed].append(
            [
                (e.index, e.support.tolist(), e.query.tolist(), drops_text(config, e.index))
                for e in episodes
            ]
        )
        for episode in episodes:
            both = torch.stack([episode.support, episode.query])[..., 0, 0, :]  # (2, C, 1, T, 3)
            (pair,) = both[..., 0].unique().tolist()
            assert episode.classes.tolist() == [2 * pair, 2 * pair + 1]
            takes = both[..., 1]
            assert all(len(side.unique()) == 1 for side in takes)
            assert takes[0].unique() != takes[1].unique()
            # The partner is the class backwards: the same middle frames the other way round.
            assert both[:, 0, 0, :, 2].tolist() == [[1, 2, 3, 4]] * 2
            assert both[:, 1, 0, :, 2].tolist() == [[4, 3, 2, 1]] * 2
    assert batches == {(5, 8)}
    assert all(rows == [rows[0]] * len(ablation.ROWS) for rows in seen.values())
    assert seen[0][0] != seen[1][0]


def test_every_test_clip_is_support_once_and_query_once(pairs_of: ModuleType) -> None:
    pairs = numbered(pairs_of, 3, 8)
    episodes, class_index = pairs_of.test_episodes(pairs)
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


def made_up(rng: np.random.Generator, episodes: int = 300) -> dict[str, Any]:
    """Results of three seeds in which rows err in the same hard episodes."""
    rows = {"nothing": 0.3, "TPCM only": 0.15, "adapters only": 0.1, "both": 0.0}
    hard = rng.random(episodes)
    results = []
    for seed, (row, share) in itertools.product(range(3), rows.items()):
        found: dict[str, Any] = {"row": row, "seed": seed, "tuned": 1234}
        found["training_seconds"] = 10.0 * seed
        for score in ("text off", "alpha 0", "fused"):
            noise = 0.2 * rng.random(episodes)
            found[score] = np.where(hard + noise < share + 0.3, 0.5, 1.0).tolist()
        results.append(found)
    names = ["open_arms", "close_arms", "put_in", "take_out", "tip_over", "set_upright"]
    return {"results": results, "names": names, "seconds": 1.0}


def test_intervals_are_those_of_paired_differences(load: Callable[[str], ModuleType]) -> None:
    """Against lists, `statistics` and the normal distribution's own quantile."""
    tables = load("ablation_table")
    document = made_up(np.random.default_rng(0))

    def mean_of_seeds(row: str, score: str) -> list[float]:
        runs = [item[score] for item in document["results"] if item["row"] == row]
        return [100 * statistics.fmean(values) for values in zip(*runs, strict=True)]

    def interval(values: list[float]) -> tuple[float, float]:
        z = statistics.NormalDist().inv_cdf(0.975)
        return statistics.fmean(values), z * statistics.stdev(values) / math.sqrt(len(values))

    lines = tables.table(document).splitlines()
    for better, worse in (("both", "adapters only"), ("TPCM only", "nothing")):
        (line,) = (line for line in lines if line.startswith(f"| {better} − {worse} |"))
        cells = line.strip("| ").split(" | ")[1:]
        for score, cell in zip(("text off", "alpha 0", "fused"), cells, strict=True):
            one, two = mean_of_seeds(better, score), mean_of_seeds(worse, score)
            mean, half = interval([a - b for a, b in zip(one, two, strict=True)])
            assert cell == f"{mean:+.1f} ± {half:.1f}"
            # Rows err in the same episodes, so that pairing says more than two intervals do.
            assert half < 0.7 * math.hypot(interval(one)[1], interval(two)[1])
    assert not any("full tuning" in line for line in lines)  # a row that was not run
    (line,) = (line for line in lines if line.startswith("| both | 1,234 |"))
    mean, half = interval(mean_of_seeds("both", "fused"))
    assert f"| {mean:.1f} ± {half:.1f} |" in line
    assert line.endswith("| 10 |")


def test_each_pair_has_its_own_line(load: Callable[[str], ModuleType]) -> None:
    document = made_up(np.random.default_rng(1))
    lines = load("ablation_table").table(document).splitlines()
    (line,) = (line for line in lines if line.startswith("| put in, take out |"))
    runs = [item["text off"] for item in document["results"] if item["row"] == "both"]
    answers = [values[100:200] for values in runs]  # the second pair's of 3 × 100 episodes
    assert (
        line.strip("| ").split(" | ")[4]
        == f"{100 * statistics.fmean(itertools.chain(*answers)):.1f}"
    )


def test_a_kept_row_belongs_to_its_towers_and_arguments(
    ablation: ModuleType,
    arguments: argparse.Namespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def run_row(row: str, *_: object) -> dict[str, Any]:
        ran.append(row)
        return {"row": row}

    def features() -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}

    monkeypatch.setattr(ablation, "run_row", run_row)
    arguments.work = tmp_path
    kept = [ablation.kept_row("both", 0, features, arguments, "towers") for _ in range(2)]
    assert kept == [{"row": "both"}] * 2
    assert ran == ["both"]
    ablation.kept_row("both", 0, features, arguments, "other towers")
    ablation.kept_row("both", 1, features, arguments, "towers")
    arguments.model, arguments.threads = "a bundle with the same towers", 7
    ablation.kept_row("both", 0, features, arguments, "towers")
    assert len(ran) == 3
    arguments.episodes += 1
    ablation.kept_row("both", 0, features, arguments, "towers")
    assert len(ran) == 4


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
