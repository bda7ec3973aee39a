"""Enrolling from Python: clips by path, as arrays, as lists of frames and as PIL images."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mafsar
from mafsar.runtime.bank.edit import remove

LABELS = ("clap_hands", "jump", "wave")


def pictures(folder: Path) -> list[Image.Image]:
    return [Image.open(file).convert("RGB") for file in sorted(folder.iterdir())]


def frames_of(folder: Path) -> list[np.ndarray]:
    return [np.asarray(image) for image in pictures(folder)]


def array_of(folder: Path) -> np.ndarray:
    return np.stack(frames_of(folder))


FORMS = {"array": array_of, "list of frames": frames_of, "list of PIL images": pictures}


def in_memory(folder: Path, form=array_of) -> dict[str, list]:
    """The clips of a support folder by label, in memory."""
    return {label: [form(folder / label / f"clip{i}") for i in range(3)] for label in LABELS}


@pytest.mark.parametrize("form", ["path", *FORMS])
def test_all_forms_of_a_clip_give_the_features_of_its_file(form, encoder, support_folder):
    from_files = mafsar.enroll(support_folder, encoder, text="on", cache=False)
    convert = FORMS.get(form, str)
    bank = mafsar.enroll(in_memory(support_folder, convert), encoder, text="on", cache=False)
    assert bank.labels == from_files.labels == LABELS
    expected = {
        (clip.label, clip.path.name): i for i, clip in enumerate(from_files.clips) if clip.path
    }
    for row, clip in enumerate(bank.clips):
        if form == "path":
            other = expected[clip.label, clip.path.name]
        else:  # named by label and number, from 1
            assert clip.path is None
            label, _, number = clip.name.partition(", clip ")
            other = expected[label, f"clip{int(number) - 1}"]
        for name in ("query", "pooled", "support", "images"):
            np.testing.assert_array_equal(
                getattr(bank, name)[row], getattr(from_files, name)[other]
            )
        assert clip.duration_seconds == pytest.approx(from_files.clips[other].duration_seconds)
    np.testing.assert_array_equal(bank.text, from_files.text)


def test_forms_can_be_mixed_and_have_a_clock(encoder, support_folder):
    wave = support_folder / "wave"
    bank = mafsar.enroll(
        {
            "wave": [array_of(wave / "clip0"), frames_of(wave / "clip1")],
            "_none": [pictures(wave / "clip2")],
        },
        encoder,
        fps=12.0,
    )
    assert (bank.labels, len(bank)) == (("wave",), 3)
    assert [clip.duration_seconds for clip in bank.clips] == pytest.approx([0.5] * 3)  # 6 frames
    assert bank.class_index.tolist() == [0, 0, -1]
    timed = mafsar.enroll({"wave": [array_of(wave / "clip0")]}, encoder, times=[0, 1, 2, 3, 4, 9])
    assert timed.clips[0].duration_seconds == pytest.approx(10.0)  # the last frame: the median, 1 s


def test_a_bank_of_arrays_can_be_saved_read_and_edited(encoder, support_folder, tmp_path):
    bank = mafsar.enroll(in_memory(support_folder), encoder, cache=False)
    again = mafsar.read_bank(bank.save(tmp_path / "b.safetensors"))
    for name in ("query", "pooled", "support", "text", "images"):
        np.testing.assert_array_equal(getattr(again, name), getattr(bank, name))
    assert [clip.identity for clip in again.clips] == [clip.identity for clip in bank.clips]
    assert [clip.location for clip in again.clips] == [clip.location for clip in bank.clips]
    for each in (bank, again):
        smaller = remove(each, clip_names=["wave, clip 2"])
        assert {clip.name for clip in each.clips} - {clip.name for clip in smaller.clips} == {
            "wave, clip 2"
        }
        with pytest.raises(mafsar.MissingError, match="no clip 'None'"):
            remove(each, clip_names=["None"])
    assert again.report(tmp_path / "quality.html").read_text("utf-8").count("wave, clip 2") >= 1


def test_adding_and_merging_give_the_bank_of_all_clips(encoder, support_folder):
    clips = in_memory(support_folder)
    whole = mafsar.enroll(clips, encoder, cache=False)
    first = mafsar.enroll({label: clips[label][:2] for label in LABELS[:2]}, encoder, cache=False)
    before = dict(encoder.calls)
    added = mafsar.enroll(clips, encoder, add_to=first, cache=False)
    assert encoder.calls["query"] - before["query"] == 5  # 9 clips, of which the bank holds 4
    assert len(first) == 4  # a bank never changes
    merged = mafsar.merge_banks(
        *(mafsar.enroll({label: clips[label]}, encoder, cache=False) for label in reversed(LABELS)),
        first,
    )
    for bank in (added, merged):
        assert bank.labels == whole.labels
        assert [clip.identity for clip in bank.clips] == [clip.identity for clip in whole.clips]
        np.testing.assert_array_equal(bank.query, whole.query)
        np.testing.assert_array_equal(bank.support, whole.support)
        assert bank.text_choice == whole.text_choice
    with pytest.raises(mafsar.InputError, match="no bank to merge"):
        mafsar.merge_banks()


def test_one_sentence_says_what_is_wrong(encoder, support_folder):
    good = array_of(support_folder / "wave" / "clip0")
    bank = mafsar.enroll({"wave": [good]}, encoder, cache=False)
    for support, options, words in (
        ({"wave": [good.astype(np.float32)]}, {}, "wave, clip 1: must be a uint8 RGB array"),
        ({"wave": [good, good[0]]}, {}, "wave, clip 2: must be a uint8 RGB array"),
        ({"wave": []}, {}, "class 'wave' has no clip"),
        ({}, {}, "a support needs a class"),
        ({"wave": ["gone.mp4"]}, {}, "class 'wave': no such clip: gone.mp4"),
        ({"wave": [good]}, {"text": "maybe"}, "text must be one of auto, on, off, got 'maybe'"),
        ({"wave": [good]}, {"on_error": "stop"}, "on_error must be one of raise, skip, got 'stop'"),
        ({"wave": [good]}, {"add_to": bank, "text": "off"}, "enrolled with text='auto', not with text='off'"),
        ({"wave": [good]}, {"add_to": bank, "geometry": mafsar.Geometry(hflip=True)}, "hflip=True"),
        (support_folder, {"fps": 25}, "fps and times describe frames in memory"),
    ):  # fmt: skip
        with pytest.raises(mafsar.MafsarError) as error:
            mafsar.enroll(support, encoder, **options)
        message = str(error.value)
        assert words in message
        assert "\n" not in message
        assert "--" not in message


def test_clips_that_cannot_be_read_are_skipped_if_wanted(encoder, support_folder):
    broken = support_folder / "jump" / "broken.mp4"
    broken.write_bytes(b"not a video")
    with pytest.raises(mafsar.VideoError, match=r"broken\.mp4"):
        mafsar.enroll(support_folder, encoder)
    bank = mafsar.enroll(support_folder, encoder, on_error="skip")
    assert len(bank) == 9
    assert any("broken.mp4" in note and "left out" in note for note in bank.notes)


def test_the_default_model_is_tiny(support_folder):
    bank = mafsar.enroll(in_memory(support_folder))
    assert bank.model.name == bank.encoder.spec.name == "tiny"
    assert bank.query.shape == (9, bank.encoder.spec.frames, bank.encoder.spec.embed_dim)
    query = array_of(support_folder / "jump" / "clip0")
    answer = bank.match(query)
    assert answer.model == "tiny"
    assert answer.topk == mafsar.match(in_memory(support_folder), query).topk


def test_arguments_have_names():
    for function in (
        mafsar.enroll,
        mafsar.match,
        mafsar.Matcher,
        mafsar.Bank.match,
        mafsar.evaluate,
    ):
        parameters = inspect.signature(function).parameters.values()
        assert {p.kind for p in parameters} <= {
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        }
        assert all(p.annotation is not p.empty for p in parameters if p.name != "self")
