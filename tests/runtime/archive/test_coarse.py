"""The small copy keeps order in time, and a shortlist by it finds what the exact search finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mafsar
from mafsar.runtime.archive import coarse
from mafsar.runtime.archive.index import Index, open_index
from mafsar.runtime.archive.scan import scan_index
from mafsar.runtime.archive.scorer import BankScorer
from mafsar.runtime.archive.search import search_index
from mafsar.runtime.archive.shortlist import coarse_classes, shortlist
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


def test_a_shortlist_finds_what_the_exact_search_finds(
    archive: tuple[mafsar.Bank, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, index = archive
    scorer = BankScorer(bank, index)
    monkeypatch.setattr("mafsar.runtime.archive.shortlist.LEAST", 20)
    monkeypatch.setattr("mafsar.runtime.archive.shortlist._CHUNK", 7)
    rows = shortlist(index, scorer, [0, 1], 2, workers=2)
    assert len(rows) < len(index)
    assert (np.diff(rows) > 0).all()
    assert (shortlist(index, scorer, [0, 1], 2, workers=1) == rows).all()
    scan = scan_index(index, scorer)
    for number in range(2):
        own = scorer.own[:, number][index.length]
        candidates = np.flatnonzero((scan.best == number) & own)
        nearest = candidates[np.argsort(scan.distance[candidates])][:5]
        assert set(nearest) <= set(rows)
    exact = [each.to_json() for each in search_index(index, scorer, topk=2, exact=True)]
    fast = [each.to_json() for each in search_index(index, scorer, topk=2, exact=False)]
    assert fast == exact
    assert exact


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
