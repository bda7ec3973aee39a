"""Enrolling a support in which some clips cannot be read."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from mafsar.errors import InputError, MafsarError, VideoError
from mafsar.runtime.bank.enroll import enroll


@pytest.fixture
def broken(support_folder):
    """Two broken files among the nine clips of the support, in two of its three classes."""
    paths = [support_folder / "jump" / "bad.mp4", support_folder / "wave" / "worse.avi"]
    for number, path in enumerate(paths):
        path.write_bytes(b"not a video %d" % number)
    return paths


def test_raise_names_all_broken_clips_in_one_error(encoder, support_folder, broken, cache):
    with pytest.raises(VideoError) as error:
        enroll(support_folder, encoder, cache=cache)
    said = str(error.value)
    assert said.startswith("2 clips cannot be read")
    for path in broken:
        assert str(path) in said
    assert "on_error='skip'" in said
    assert "\n" not in said


def test_a_single_broken_clip_is_its_own_error(encoder, support_folder, broken, cache):
    broken[1].unlink()
    with pytest.raises(VideoError) as error:
        enroll(support_folder, encoder, cache=cache)
    assert str(error.value).startswith(f"{broken[0]}: ")


@pytest.mark.parametrize("batch", [1, 4])
def test_skip_keeps_the_rest_and_says_so(encoder, support_folder, broken, cache, batch):
    bank = enroll(support_folder, encoder, on_error="skip", cache=cache, batch=batch)
    left_out = [note for note in bank.notes if note.endswith("; left out")]
    assert len(left_out) == len(bank.notes) == 2
    for path, note in zip(broken, left_out, strict=True):
        assert note.startswith(f"{path}: ")
    for path in broken:
        path.unlink()
    clean = enroll(support_folder, encoder, cache=False, batch=batch)
    assert [clip.identity for clip in bank.clips] == [clip.identity for clip in clean.clips]
    assert bank.classes == clean.classes
    for name in ("query", "pooled", "support", "text", "images"):
        assert getattr(bank, name).tobytes() == getattr(clean, name).tobytes()


def test_a_class_without_a_readable_clip_disappears(encoder, support_folder, broken, cache):
    for clip in support_folder.glob("jump/clip*"):
        shutil.rmtree(clip)
    bank = enroll(support_folder, encoder, on_error="skip", cache=cache)
    assert bank.labels == ("clap_hands", "wave")
    assert len(bank.text) == 2
    assert any(str(broken[0]) in note for note in bank.notes)


def test_a_broken_background_clip_is_left_out_too(encoder, support_folder, make_clip, cache):
    make_clip(support_folder / "_none" / "idle", 40)
    (support_folder / "_none" / "bad.mp4").write_bytes(b"not a video")
    bank = enroll(support_folder, encoder, on_error="skip", cache=cache)
    assert bank.class_index.tolist().count(-1) == 1
    assert "bad.mp4" in bank.notes[0]


def test_nothing_readable_is_an_error(encoder, tmp_path, make_clip, cache):
    for label in ("jump", "wave"):
        (tmp_path / "s" / label).mkdir(parents=True)
        (tmp_path / "s" / label / "bad.mp4").write_bytes(label.encode())
    with pytest.raises(VideoError, match="2 clips cannot be read"):
        enroll(tmp_path / "s", encoder, on_error="skip", cache=cache)
    make_clip(tmp_path / "s" / "_none" / "idle", 40)
    with pytest.raises(InputError, match="no clip of any class could be read"):
        enroll(tmp_path / "s", encoder, on_error="skip", cache=cache)


def test_what_was_encoded_before_the_error_is_not_encoded_again(
    encoder, support_folder, broken, cache
):
    with pytest.raises(VideoError):
        enroll(support_folder, encoder, cache=cache)
    assert (encoder.calls["query"], encoder.calls["support"]) == (9, 9)
    for path in broken:
        path.unlink()
    bank = enroll(support_folder, encoder, cache=cache)
    assert (encoder.calls["query"], encoder.calls["support"]) == (9, 9)
    assert len(bank.clips) == 9


def test_skip_while_adding_keeps_the_bank(encoder, support_folder, broken, cache, tmp_path):
    more = tmp_path / "more"
    (more / "jump").mkdir(parents=True)
    shutil.move(broken[0], more / "jump" / "bad.mp4")
    broken[1].unlink()
    bank = enroll(support_folder, encoder, cache=cache)
    shutil.copytree(support_folder / "wave" / "clip0", more / "wave" / "again")
    added = enroll(more, encoder, add_to=bank, on_error="skip", cache=cache)
    assert [clip.identity for clip in added.clips] == [clip.identity for clip in bank.clips]
    assert any("bad.mp4" in note and note.endswith("left out") for note in added.notes)


def test_copies_of_a_broken_clip_are_named_one_by_one(encoder, support_folder, broken, cache):
    copy = broken[0].with_name("copy.mp4")
    shutil.copy(broken[0], copy)
    bank = enroll(support_folder, encoder, on_error="skip", cache=cache)
    said = " ".join(bank.notes)
    for path in (*broken, copy):
        assert str(path) in said


def test_clips_in_memory(encoder, cache):
    frames = np.random.default_rng(0).integers(0, 256, (2, 2, 6, 32, 32, 3), dtype=np.uint8)
    bank = enroll({"wave": list(frames[0]), "jump": frames[1]}, encoder, fps=3.0, cache=cache)
    assert bank.labels == ("jump", "wave")
    assert [clip.path for clip in bank.clips] == [None] * 4
    assert [clip.duration_seconds for clip in bank.clips] == [2.0] * 4


def test_another_choice_is_refused(encoder, support_folder):
    with pytest.raises(MafsarError, match="on_error must be one of raise, skip, got 'ignore'"):
        enroll(support_folder, encoder, on_error="ignore")


def test_files_that_cannot_be_opened_are_named_with_those_that_cannot_be_decoded(
    encoder, support_folder, broken, cache, monkeypatch
):
    from mafsar.runtime.cache import encoding

    hashed = encoding.content_sha256
    unopened = support_folder / "jump" / "clip0"

    def refuse(path):
        if path == unopened:
            raise VideoError(f"{path}: permission denied")
        return hashed(path)

    monkeypatch.setattr(encoding, "content_sha256", refuse)
    with pytest.raises(VideoError, match="3 clips cannot be read") as error:
        enroll(support_folder, encoder, cache=cache)
    for path in (*broken, unopened):
        assert str(path) in str(error.value)
    bank = enroll(support_folder, encoder, on_error="skip", cache=cache)
    assert len(bank.clips) == 8
    assert sum(note.endswith("; left out") for note in bank.notes) == 3


def test_a_broken_file_in_two_classes_is_named_twice(encoder, support_folder, broken, cache):
    shutil.copy(broken[0], broken[1])
    with pytest.raises(VideoError, match="2 clips cannot be read") as error:
        enroll(support_folder, encoder, text="off", cache=cache)
    assert all(str(path) in str(error.value) for path in broken)
    assert f"{broken[1]}: has the same content as {broken[0]}" in str(error.value)


def test_the_advice_to_skip_is_given_only_where_it_helps(encoder, tmp_path, cache):
    for label in ("jump", "wave"):
        (tmp_path / "s" / label).mkdir(parents=True)
        (tmp_path / "s" / label / "bad.mp4").write_bytes(label.encode())
    with pytest.raises(VideoError) as error:
        enroll(tmp_path / "s", encoder, on_error="skip", cache=cache)
    assert "on_error" not in str(error.value)
