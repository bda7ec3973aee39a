"""What is found in an index is what `Matcher` and `watch` say of the same windows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mafsar
from mafsar.choices import NonePrior
from mafsar.errors import InputError, MismatchError
from mafsar.runtime.archive.index import Index, open_index
from mafsar.runtime.archive.moments import Apart, moments_of_scan
from mafsar.runtime.archive.rerank import rerank
from mafsar.runtime.archive.scan import scan_index
from mafsar.runtime.archive.scorer import BankScorer, ScoringChoice
from mafsar.runtime.archive.search import search_index
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.engines.negatives import write_negatives
from mafsar.runtime.live.motion import Moves
from mafsar.runtime.live.windows import plan_windows
from mafsar.video import Clip, Geometry, load_clip, write_video
from tests.restatements import views as restated
from tests.runtime.archive.conftest import FPS, moving

PRIOR = NonePrior((-1.0, 1.5, 0.7, -0.3, 0.2, 0.3, 0.4, 0.9, 0.5), 10.0, 0.5, 0.1)


@pytest.fixture
def knowing(make_encoder: Callable[..., Any], tmp_path: Path) -> Any:
    """An encoder whose model brings negatives and matches by views."""
    noise = np.random.default_rng(4).integers(0, 256, (40, 4, 4, 4, 3)).astype(np.uint8)
    frames = noise.repeat(8, axis=2).repeat(8, axis=3)
    file = tmp_path / "negatives.safetensors"
    write_negatives(file, make_encoder().encode_query(frames).frames)
    return make_encoder(none_prior=PRIOR, negatives_file=str(file))


@pytest.fixture
def archive(tmp_path: Path, knowing: Any, build: Callable[..., Any]) -> tuple[mafsar.Bank, Index]:
    """Classes `a`, `b` and `c` of 1.5 s, and two films that show a, c, b and something else."""
    shown = {name: moving(50 + k, 1.5) for k, name in enumerate("abc")}
    support = {name: [frames, [f // 2 + 40 for f in frames]] for name, frames in shown.items()}
    bank = mafsar.enroll(support, knowing, fps=FPS, cache=False, views=0.5, text="off")
    films = tmp_path / "films"
    films.mkdir()
    other = moving(99, 3.0)
    write_video(films / "one.mp4", [*shown["a"], *other, *shown["c"]], FPS)
    write_video(films / "two.mp4", [*other, *shown["b"], *shown["a"]], FPS)
    settings = IndexSettings.of(knowing, plan_windows(bank, 4), Geometry())
    build(tmp_path / "index", films, encoder=knowing, settings=settings)
    return bank, open_index(tmp_path / "index")


def distances_of(index: Index, bank: mafsar.Bank, row: int, lam: float) -> np.ndarray:
    """Distances of a row to all classes, in float64 loops."""
    clips = bank.query.astype(np.float64).tolist()
    query = index.frames(np.array([row]))[0].astype(np.float64).tolist()
    owners = bank.class_index.tolist()
    return np.array(restated.distances(query, clips, clips, owners, w=0.5, metric="otam", lam=lam))


def test_distances_and_shares_are_those_of_float64(archive: tuple[mafsar.Bank, Index]) -> None:
    bank, index = archive
    scorer = BankScorer(bank, index)
    scan = scan_index(index, scorer, workers=2)
    scale = scorer.scoring.visual_scale
    for row in range(0, len(index), 3):
        expected = distances_of(index, bank, row, scorer.scoring.lam)
        shares = np.exp(-scale * (expected - expected.min()))
        assert scan.best[row] == expected.argmin()
        assert scan.distance[row] == pytest.approx(expected.min(), abs=2e-4)
        assert scan.score[row] == pytest.approx(1 / shares.sum(), abs=2e-3)


def test_moments_are_what_match_says_of_the_window(
    archive: tuple[mafsar.Bank, Index], knowing: Any
) -> None:
    bank, index = archive
    matcher = mafsar.Matcher(bank, knowing)
    scorer = BankScorer(bank, index)
    scan = scan_index(index, scorer)
    found = list(search_index(index, scorer, topk=3))
    assert {each.label for each in found} == set("abc")
    for each in found:
        assert each.p_none is not None
        rows = np.flatnonzero(
            np.isclose(scan.distance, each.distance) & (scan.best == bank.labels.index(each.label))
        )
        row = rows[0]
        start, end = index.t_start[row], index.t_end[row]
        assert start - 1e-6 <= each.t_start < each.t_end <= end + 1e-6
        if end > index.sources[index.file[row]].record.duration_seconds:
            continue
        clip = load_clip(each.path, frames=4, size=32, start=float(start), end=float(end))
        (answer,) = matcher.answer_clips([clip])
        assert answer.topk[0].label == each.label
        assert answer.topk[0].distance == pytest.approx(each.distance, abs=5e-3)
        assert answer.score == pytest.approx(each.score, abs=0.02)
        assert answer.p_none == pytest.approx(each.p_none, abs=0.02)
        assert answer.none == each.none
    # The film `one` begins with `a`, and `two` ends with it.
    first, second = [each for each in found if each.label == "a"][:2]
    assert {Path(first.source).stem, Path(second.source).stem} == {"one", "two"}
    at = {Path(each.source).stem: each.t_start for each in (first, second)}
    assert at["one"] < 1.0
    assert 4.0 < at["two"] < 6.0


def test_events_are_those_of_watch(
    archive: tuple[mafsar.Bank, Index], knowing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the borders of what moves in the pictures, which an index does not keep."""
    monkeypatch.setattr(Moves, "take", lambda _self, _steps: None)
    bank, index = archive
    scorer = BankScorer(bank, index)
    found = [each for each in search_index(index, scorer, events=True) if each.found == "event"]
    watched = [
        event
        for source in index.sources
        for event in mafsar.watch(
            bank, source.record.path, model=knowing, stride=index.settings.strides[0]
        )
        if event.event == "end"
    ]
    assert found
    assert [(each.source, each.label) for each in found] == [
        (event.source, event.label) for event in watched
    ]
    for each, event in zip(found, watched, strict=True):
        assert each.t_start == pytest.approx(event.t_start, abs=0.05)
        assert each.t_end == pytest.approx(min(event.t_end, 6.0), abs=0.3)
        assert each.score == pytest.approx(event.score, abs=0.02)


def test_class_names_count_as_in_match(archive: tuple[mafsar.Bank, Index], knowing: Any) -> None:
    _, index = archive
    worded = mafsar.enroll(
        {name: [moving(50 + k, 1.5)] for k, name in enumerate("abc")}, knowing, fps=FPS,
        cache=False, text="on",
    )  # fmt: skip
    scorer = BankScorer(worded, index, ScoringChoice(text="on", alpha=0.4))
    assert scorer.needs_pooled
    scan = scan_index(index, scorer)
    matcher = mafsar.Matcher(worded, knowing, text="on", alpha=0.4)
    row = 2
    path = index.sources[index.file[row]].record.path
    clip: Clip = load_clip(
        path, frames=4, size=32, start=float(index.t_start[row]), end=float(index.t_end[row])
    )
    (answer,) = matcher.answer_clips([clip])
    assert answer.topk[0].label == worded.labels[scan.best[row]]
    assert answer.score == pytest.approx(float(scan.score[row]), abs=0.02)
    own = [np.flatnonzero(scorer.own[:, number][index.length]) for number in range(3)]
    for number, moments in enumerate(rerank(index, scorer, range(3), own, 5)):
        expected = moments_of_scan(index, scorer, scan, number, 5)
        assert moments.rows.tolist() == expected.rows.tolist()
        assert moments.score == pytest.approx(expected.score, abs=1e-6)


def test_one_moment_counts_once(archive: tuple[mafsar.Bank, Index]) -> None:
    bank, index = archive
    rows = np.arange(len(index))
    kept = rows[Apart(index, len(index)).keep(rows)]
    for k, row in enumerate(kept):
        for other in kept[:k]:
            if index.file[row] != index.file[other]:
                continue
            shared = min(index.t_end[row], index.t_end[other]) - max(
                index.t_start[row], index.t_start[other]
            )
            shorter = min(index.t_end[[row, other]] - index.t_start[[row, other]])
            assert shared < 0.5 * shorter
    assert len(Apart(index, 2).keep(rows)) == 2
    wanted = list(search_index(index, BankScorer(bank, index), topk=2, labels=["b"]))
    assert {each.label for each in wanted} == {"b"}
    assert [each.rank for each in wanted] == list(range(1, len(wanted) + 1))
    with pytest.raises(InputError, match="has no class 'z'"):
        list(search_index(index, BankScorer(bank, index), labels=["z"]))


def test_in_an_empty_index_nothing_is_found(
    archive: tuple[mafsar.Bank, Index], tmp_path: Path, knowing: Any, build: Callable[..., Any]
) -> None:
    bank, index = archive
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(bytes(50))
    build(tmp_path / "empty", broken, encoder=knowing, settings=index.settings)
    empty = open_index(tmp_path / "empty")
    assert len(empty) == 0
    assert list(search_index(empty, BankScorer(bank, empty), events=True)) == []


def test_a_bank_of_another_model_or_picture_is_refused(
    archive: tuple[mafsar.Bank, Index], make_encoder: Callable[..., Any]
) -> None:
    _, index = archive
    support = {name: [moving(50 + k, 1.5)] for k, name in enumerate("ab")}
    other = make_encoder(weights_sha256="2" * 64)
    stranger = mafsar.enroll(support, other, fps=FPS, cache=False, text="off")
    with pytest.raises(MismatchError, match=r"weights 2{12}, but .* weights 1{12}"):
        BankScorer(stranger, index)
    padded = mafsar.enroll(
        support, make_encoder(), fps=FPS, cache=False, text="off", geometry=Geometry(fit="pad")
    )
    with pytest.raises(MismatchError, match="geometry"):
        BankScorer(padded, index)


def test_rows_are_read_as_they_are_mapped(archive: tuple[mafsar.Bank, Index]) -> None:
    _, index = archive
    mapped = np.concatenate([shard.frames for shard in index.shards])
    for rows in ([], [0], [3, 4, 5, 9], [len(index) - 1, 2, 2, 1, 7, 8], list(range(len(index)))):
        found = index.frames(np.array(rows, np.intp))
        assert found.dtype == np.float16
        assert (found == mapped[np.array(rows, np.intp)]).all()


def test_a_file_that_ends_too_early_is_said(archive: tuple[mafsar.Bank, Index]) -> None:
    _, index = archive
    index.frames(np.array([0]))
    (path,) = Path(index.place).glob("features-*.arrow")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(mafsar.InputError, match=r"features-.*ends too early; make the index again"):
        index.frames(np.arange(len(index)))
