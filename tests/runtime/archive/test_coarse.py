"""The small copy keeps order in time, and a shortlist by it finds what the exact search finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mafsar
from mafsar.runtime.archive import coarse
from mafsar.runtime.archive import rerank as rerank_module
from mafsar.runtime.archive.index import Index, open_index
from mafsar.runtime.archive.rerank import rerank
from mafsar.runtime.archive.scorer import BankScorer, window_distances
from mafsar.runtime.archive.search import search_index
from mafsar.runtime.archive.shortlist import Nearest, coarse_classes, shortlist
from mafsar.runtime.scoring.views import Views
from mafsar.video import write_video
from tests.restatements import views as restated
from tests.runtime.archive.conftest import FPS, moving


@pytest.fixture
def archive(
    tmp_path: Path, encoder: Any, build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[mafsar.Bank, Index]:
    """Two classes, and an index of eight films that has a small copy."""
    monkeypatch.setattr(coarse, "FROM_WINDOWS", 1)
    support = {name: [moving(50 + k, 1.5)] for k, name in enumerate("ab")}
    bank = mafsar.enroll(support, encoder, fps=FPS, cache=False, views=0.5, text="off")
    films = tmp_path / "films"
    films.mkdir()
    for seed in range(8):
        shown = support["ab"[seed % 2]][0]
        write_video(films / f"{seed}.mp4", [*moving(seed, 2.0), *shown], FPS)
    build(tmp_path / "index", films)
    return bank, open_index(tmp_path / "index")


def test_means_of_neighbours_and_a_projection_commute_with_centring() -> None:
    rng = np.random.default_rng(3)
    for length in (1, 2, 7, 8):
        frames = rng.standard_normal((5, length, 12)).astype(np.float32)
        basis = np.linalg.qr(rng.standard_normal((12, 4)))[0].astype(np.float32)
        shift = rng.standard_normal(12).astype(np.float32)
        small = coarse.coarsen(frames, basis)
        assert small.shape == (5, (length + 1) // 2, 4)
        pairs = [
            frames[:, t : t + 2].astype(np.float64).mean(axis=1) @ basis
            for t in range(0, length, 2)
        ]
        assert np.allclose(small, np.stack(pairs, axis=1), atol=1e-5)
        assert np.allclose(coarse.coarsen(frames - shift, basis), small - shift @ basis, atol=1e-5)


def test_with_all_directions_the_small_copy_has_the_distances_of_pair_means(
    archive: tuple[mafsar.Bank, Index],
) -> None:
    bank, index = archive
    assert index.basis is not None
    assert index.basis.shape == (16, 16)  # features of 16 numbers: nothing is left out
    assert np.allclose(index.basis.T @ index.basis, np.eye(16), atol=1e-5)
    scorer = BankScorer(bank, index)
    views, prototypes = coarse_classes(scorer, index.basis)
    clips = bank.query.astype(np.float64)
    pairs = ((clips[:, 0::2] + clips[:, 1::2]) / 2).tolist()
    mu = restated.mean(clips.tolist(), None)
    found = {
        number: restated.views(clip, mu, 1e-6, 0.5)
        for number, clip in zip(bank.class_index.tolist(), pairs, strict=True)
    }
    for number, expected in found.items():
        width = len(expected[0]) // 2
        for half, turned in ((slice(None, width), 0), (slice(width, None), 1)):
            back = prototypes[number][:, turned * 16 : turned * 16 + 16] @ index.basis.T
            assert np.allclose(back, np.array(expected)[:, half], atol=1e-4)
    assert isinstance(views, Views)


def test_the_small_copy_tells_a_clip_from_its_reverse(archive: tuple[mafsar.Bank, Index]) -> None:
    bank, index = archive
    scorer = BankScorer(bank, index)
    assert index.basis is not None
    views, prototypes = coarse_classes(scorer, index.basis)
    from mafsar.runtime.scoring.scores import class_distances

    forward = coarse.coarsen(bank.query, index.basis)
    there = class_distances(views.of_query(forward), prototypes, scorer.scoring)
    back = class_distances(views.of_query(forward[:, ::-1].copy()), prototypes, scorer.scoring)
    each = np.arange(len(forward))
    assert (there[each, bank.class_index] < back[each, bank.class_index]).all()


def by_loops(
    bank: mafsar.Bank, index: Index, scorer: BankScorer
) -> tuple[np.ndarray, list[list[int]]]:
    """Distances of all rows to all classes, in float64 loops; rows of each class, the nearest first."""
    clips, owners = bank.query.astype(np.float64).tolist(), bank.class_index.tolist()
    frames = index.frames(np.arange(len(index))).astype(np.float64).tolist()
    lam = scorer.scoring.lam
    distances = np.array(
        [
            restated.distances(each, clips, clips, owners, w=0.5, metric="otam", lam=lam)
            for each in frames
        ]
    )
    mine = [
        (distances.argmin(axis=1) == number) & scorer.own[:, number][index.length]
        for number in range(len(bank.labels))
    ]
    nearest = [
        sorted(np.flatnonzero(rows).tolist(), key=lambda row: distances[row, number])
        for number, rows in enumerate(mine)
    ]
    return distances, nearest


def test_a_shortlist_finds_what_the_exact_search_finds(
    archive: tuple[mafsar.Bank, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, index = archive
    scorer = BankScorer(bank, index)
    monkeypatch.setattr("mafsar.runtime.archive.shortlist.MOST", 20)
    monkeypatch.setattr("mafsar.runtime.archive.shortlist._CHUNK", 7)
    shortlists = shortlist(index, scorer, [0, 1], workers=2)
    again = shortlist(index, scorer, [0, 1], workers=1)
    _, nearest = by_loops(bank, index, scorer)
    for rows, same, expected in zip(shortlists, again, nearest, strict=True):
        assert len(rows) == len(set(rows)) == 20 < len(index)
        assert rows.tolist() == same.tolist()
        assert set(expected[:5]) <= set(rows)
    exact = [each.to_json() for each in search_index(index, scorer, topk=2, exact=True)]
    fast = [each.to_json() for each in search_index(index, scorer, topk=2, exact=False)]
    assert fast == exact
    assert exact


def test_a_class_looks_on_until_twice_as_many_rows_change_nothing(
    archive: tuple[mafsar.Bank, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, index = archive
    scorer = BankScorer(bank, index)
    monkeypatch.setattr(rerank_module, "FIRST", 4)
    monkeypatch.setattr(rerank_module, "PER_MOMENT", 2)
    compared: list[int] = []

    def counted(*arguments: Any) -> np.ndarray:
        compared.append(len(arguments[2]))
        return window_distances(*arguments)

    monkeypatch.setattr(rerank_module, "window_distances", counted)
    distances, nearest = by_loops(bank, index, scorer)
    for number, mine in enumerate(nearest):
        own = scorer.own[:, number][index.length]
        by_distance = np.flatnonzero(own)[distances[own, number].argsort()]
        (found,) = rerank(index, scorer, [number], [by_distance], 1)
        assert found.rows.tolist() == mine[:1]
        assert found.distance == pytest.approx(distances[mine[0], number], abs=2e-4)
        assert compared == [4, 4]
        compared.clear()
        # The nearest row is the seventh: the second look finds it, the third changes nothing.
        late = np.concatenate([by_distance[1:7], by_distance[:1], by_distance[7:]])
        (found,) = rerank(index, scorer, [number], [late], 1)
        assert found.rows.tolist() == mine[:1]
        assert compared == [4, 4, 8]
        compared.clear()
        # No row of the first two looks has it as the best class: it goes on to the end.
        others = by_distance[~np.isin(by_distance, mine)]
        hidden = np.concatenate([others[:9], by_distance[np.isin(by_distance, mine)]])
        (found,) = rerank(index, scorer, [number], [hidden], 1)
        assert found.rows.tolist() == mine[:1]
        compared.clear()
        assert rerank(index, scorer, [number], [late[:0]], 1)[0].rows.tolist() == []


def test_threads_do_not_change_what_a_shortlist_holds() -> None:
    rng = np.random.default_rng(5)
    distances = rng.integers(-40, 40, (300, 3)).astype(np.float32) / 8  # many are equal
    distances[rng.random((300, 3)) < 0.2] = np.inf
    expected = [
        [row for row in np.lexsort((np.arange(300), column)) if np.isfinite(column[row])][:25]
        for column in distances.T
    ]
    for order in (range(0, 300, 20), range(280, -1, -20)):
        nearest = Nearest(3, 25)
        for first in order:
            nearest.add(first, distances[first : first + 20])
        assert [rows.tolist() for rows in nearest.rows()] == expected


def test_a_small_index_has_no_small_copy(
    tmp_path: Path, films: Path, build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "index"
    build(place, films / "short.mp4")
    assert open_index(place).basis is None
    monkeypatch.setattr(coarse, "FROM_WINDOWS", 20)
    build(place, films, resume=True)
    index = open_index(place)
    assert len(index.shards) == 2
    assert all(shard.coarse is not None for shard in index.shards)
