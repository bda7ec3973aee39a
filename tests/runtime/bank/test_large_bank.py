"""Banks of very many clips: mapped, and what would take too long is done for some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mafsar
from mafsar import files
from mafsar.choices import NonePrior, Scoring
from mafsar.errors import InputError
from mafsar.files import map_safetensors, write_safetensors
from mafsar.runtime.bank.quality import judge
from mafsar.runtime.scoring import leave_one_out, none, scores
from mafsar.runtime.scoring.none import NoneJudge

PRIOR = NonePrior((-1.0, 1.5, 0.7, -0.3, 0.2, 0.3, 0.4, 0.9, 0.5), 10.0, 0.5, 0.1)


def test_mapped_arrays_are_those_that_safetensors_reads(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    rng = np.random.default_rng(0)
    kinds = [np.float32, np.float16, np.float64, np.int64, np.uint8, np.bool_]
    arrays = {np.dtype(kind).name: (rng.random((3, 5)) * 9).astype(kind) for kind in kinds}
    arrays |= {"empty": np.zeros((0, 4), np.float32), "scalar": np.float32([7.5])}
    path = tmp_path / "a.safetensors"
    write_safetensors(path, arrays, {"said": "x" * 13})
    expected, found = load_file(path), map_safetensors(path)
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert name == "empty" or not found[name].flags.writeable


def test_large_files_are_what_safetensors_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file

    monkeypatch.setattr(files, "LARGE_ARRAY_BYTES", 1)
    monkeypatch.setattr(files, "_PIECE_BYTES", 7)
    rng = np.random.default_rng(1)
    arrays = {
        "a": rng.standard_normal((5, 3)).astype(np.float32).T,
        "b": rng.integers(0, 255, (7,)).astype(np.uint8),
        "c": rng.standard_normal((2, 2)),
    }
    path = tmp_path / "a.safetensors"
    write_safetensors(path, arrays, {"said": "é"})
    for name, array in load_file(path).items():
        np.testing.assert_array_equal(array, arrays[name])
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"said": "é"}


def test_rows_of_a_large_array_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(60.0).reshape(20, 3)
    rows = np.array([3, 1, 19, 0, 7])
    assert files.take_rows(array, np.arange(4, 9)).base is not None  # a view
    monkeypatch.setattr(files, "LARGE_ARRAY_BYTES", 1)
    monkeypatch.setattr(files, "_ROWS", 2)
    taken = files.take_rows(array, rows)
    assert isinstance(taken.base, np.memmap)
    np.testing.assert_array_equal(taken, array[rows])

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", refuse)
    np.testing.assert_array_equal(files.new_array((2, 2), np.float32), np.zeros((2, 2)))


def test_a_support_of_many_clips_makes_the_same_bank_in_files(
    support_folder: Path, tmp_path: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = mafsar.enroll(support_folder, encoder, text="on", cache=False, views=0.5)
    monkeypatch.setattr(files, "LARGE_ARRAY_BYTES", 1)
    monkeypatch.setattr(leave_one_out, "MOST_EXACT", 1)
    monkeypatch.setattr(leave_one_out, "_AT_ONCE", 4)
    in_files = mafsar.enroll(support_folder, encoder, text="on", cache=False, views=0.5)
    one, other = (
        mafsar.read_bank(each.save(tmp_path / f"{k}.safetensors"))
        for k, each in enumerate((bank, in_files))
    )
    assert one.clips == other.clips
    assert one.verdict is not None
    assert other.verdict is not None
    assert one.verdict.judged == other.verdict.judged
    for name in ("query", "pooled", "support", "text", "images", "motion"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("views", ["raw", 0.5])
def test_leave_one_out_of_many_clips_is_that_of_few(
    views: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without views the same; by views μ of all clips stands for that without one clip."""
    rng = np.random.default_rng(3)
    index = rng.permutation(np.arange(200) % 5)
    index[0] = 5  # a class of one clip
    centres = rng.standard_normal((6, 4, 12))
    clips = (centres[index] + 1.5 * rng.standard_normal((200, 4, 12))).astype(np.float32)
    scoring = Scoring("otam", 0.5, 0.0, 4.0, 10.0, views=views)
    exact = leave_one_out.leave_one_out(clips, clips, index, scoring)
    monkeypatch.setattr(leave_one_out, "MOST_EXACT", 100)
    monkeypatch.setattr(leave_one_out, "_AT_ONCE", 64)
    found = leave_one_out.leave_one_out(clips, clips, index, scoring)
    np.testing.assert_array_equal(found.judged, exact.judged)
    bound = 1e-5 if views == "raw" else 0.05
    assert np.abs(found.probabilities - exact.probabilities)[exact.judged].max() < bound


def test_a_large_bank_is_mapped_and_answers_the_same(
    support_folder: Path, tmp_path: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = mafsar.enroll(support_folder, encoder, text="on", cache=False, views=0.5)
    path = bank.save(tmp_path / "b.safetensors")
    read = mafsar.read_bank(path)
    monkeypatch.setattr("mafsar.runtime.bank.layout.LARGE_BYTES", 1)
    mapped = mafsar.read_bank(path)
    assert isinstance(mapped.query.base, np.memmap)
    monkeypatch.setattr(scores, "_AT_ONCE", 2)
    query = support_folder / "jump" / "clip1"
    one, other = (mafsar.Matcher(each, encoder)(query) for each in (read, mapped))
    assert one.label == other.label
    assert one.score == pytest.approx(other.score, abs=1e-6)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="damaged bank: its checksum is another"):
        mafsar.read_bank(tmp_path / "damaged.safetensors")


def test_prototypes_class_by_class_are_those_of_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    frames = rng.standard_normal((40, 4, 6)).astype(np.float32)
    index = rng.permutation(np.arange(40) % 7)
    expected = scores.class_prototypes(2 * frames, index, 7)
    monkeypatch.setattr(scores, "_AT_ONCE", 10)
    np.testing.assert_array_equal(
        scores.viewed_prototypes(lambda each: 2 * each, frames, index, 7), expected
    )
    with pytest.raises(InputError, match="has no clip"):
        scores.viewed_prototypes(lambda each: each, frames, index, 8)


def test_p_none_of_a_large_support_is_calibrated_on_some_of_each_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((5, 4, 12))
    index = rng.permutation(np.arange(100) % 5)
    clips = (centres[index] + 0.4 * rng.standard_normal((100, 4, 12))).astype(np.float32)
    negatives = rng.standard_normal((40, 4, 12)).astype(np.float32)
    query = np.concatenate([clips[:10] + 0.1, negatives[:10] + 0.1]).astype(np.float32)
    whole = NoneJudge(clips, index, PRIOR, negatives)
    monkeypatch.setattr(none, "MOST_CLIPS", 50)
    some = NoneJudge(clips, index, PRIOR, negatives)
    assert np.abs(whole.p_none(query) - some.p_none(query)).max() < 0.1
    assert whole.threshold(0.05) == pytest.approx(some.threshold(0.05), abs=0.1)


def test_that_clips_that_hurt_were_not_looked_for_is_said(
    support_folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = mafsar.enroll(support_folder, encoder, cache=False, text="off")
    assert not any("single clips hurt" in line for line in judge(bank).advice)
    for place in ("harm", "advice"):
        monkeypatch.setattr(f"mafsar.runtime.bank.{place}.MOST_CLIPS", 8)
    assert any(
        line.startswith("more than 8 clips: whether single clips hurt was not looked for")
        for line in judge(bank).advice
    )
