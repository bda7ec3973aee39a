"""Reading a support: folders, CSV files and clips by label, as users really have them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mafsar.data.labels import label_words
from mafsar.data.support import read_support
from mafsar.errors import ArgumentTypeError, InputError, MafsarError, MissingError


def touch(path, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def found(support):
    return [(clip.label, clip.path.name) for clip in support.clips]


def test_class_folders_with_every_kind_of_clip(tmp_path, make_clip):
    touch(tmp_path / "PlayingGuitar" / "a.MP4")
    touch(tmp_path / "PlayingGuitar" / "b.mov")
    touch(tmp_path / "brush_hair" / "c.WebM")
    make_clip(tmp_path / "brush_hair" / "frames", 0)
    touch(tmp_path / "_none" / "idle.mkv")
    for junk in (
        "a/../.DS_Store",
        "brush_hair/._c.WebM",
        "brush_hair/Thumbs.db",
        "brush_hair/x.txt",
    ):
        touch(tmp_path / junk.replace("a/../", ""))
    touch(tmp_path / ".git" / "x.mp4")
    support = read_support(tmp_path)
    assert support.labels == ("PlayingGuitar", "brush_hair")
    assert [item.text for item in support.classes] == ["Playing Guitar", "brush hair"]
    assert found(support) == [
        ("PlayingGuitar", "a.MP4"), ("PlayingGuitar", "b.mov"),
        ("brush_hair", "c.WebM"), ("brush_hair", "frames"),
    ]  # fmt: skip
    assert [clip.path.name for clip in support.none_clips] == ["idle.mkv"]
    assert support.none_clips[0].is_background


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("brush_hair", "brush hair"),
        ("ApplyEyeMakeup", "Apply Eye Makeup"),
        ("TVWatching", "TV Watching"),
        ("YoYo", "Yo Yo"),
        ("push-up", "push-up"),
        ("бросокМяча", "бросок Мяча"),
        ("跳ぶ", "跳ぶ"),
        ("  double__under ", "double under"),
    ],
)
def test_labels_become_words(label, text):
    assert label_words(label) == text


def test_labels_are_compared_in_nfc_and_printed_as_given(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Säen")
    touch(tmp_path / decomposed / "a.mp4")
    rows = f"{decomposed}/a.mp4,Säen\n{decomposed}/a.mp4,{decomposed},1,2\n"
    (tmp_path / "list.csv").write_text(rows, encoding="utf-8")
    support = read_support(tmp_path / "list.csv")
    assert len(support.classes) == 1
    assert {clip.label for clip in support.clips} == {support.classes[0].label}
    folder = read_support(tmp_path)
    assert folder.labels == (decomposed,)
    assert folder.classes[0].text == "Säen"
    (tmp_path / "labels.csv").write_text("folder,text\nSäen,sowing seeds\n", encoding="utf-8")
    assert read_support(tmp_path).classes[0].text == "sowing seeds"


def test_csv_with_seconds(tmp_path):
    touch(tmp_path / "videos" / "a.mp4")
    rows = (
        "\ufeffpath,label,start,end\nvideos/a.mp4,jump,1.5,3\n\n# a remark\nvideos/a.mp4,run,,2\n"
    )
    (tmp_path / "s.csv").write_text(rows + "videos/a.mp4,_none,4,\n", encoding="utf-8")
    support = read_support(tmp_path / "s.csv")
    assert [(c.label, c.start, c.end) for c in support.clips] == [
        ("jump", 1.5, 3.0),
        ("run", None, 2.0),
    ]
    assert support.clips[0].path == tmp_path / "videos" / "a.mp4"
    assert [(c.start, c.end) for c in support.none_clips] == [(4.0, None)]
    (tmp_path / "bare.csv").write_text('videos/a.mp4,"jump, high"\n', encoding="utf-8")
    assert read_support(tmp_path / "bare.csv").labels == ("jump, high",)
    (tmp_path / "swapped.csv").write_text("label,path\njump,videos/a.mp4\n", encoding="utf-8")
    assert read_support(tmp_path / "swapped.csv").labels == ("jump",)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a.mp4,jump\nb.mp4,run\n", "line 2: no such clip"),
        ("a.mp4,jump\na.mp4\n", r"line 2: expected path,label\[,start\]\[,end\], got a.mp4"),
        ("a.mp4,\n", "line 1: expected path,label"),
        ("a.mp4,jump,x\n", "line 1: start must be seconds ≥ 0, got 'x'"),
        ("a.mp4,jump,-1\n", "line 1: start must be seconds ≥ 0, got '-1'"),
        ("a.mp4,jump,nan\n", "line 1: start must be"),
        ("path,label\na.mp4,jump,3,3\n", "line 2: "),
        ("a.mp4,jump,3,2\n", "line 1: end must be after start, got 3 and 2"),
        ("a.mp4,jump,1,2,3\n", "line 1: expected path,label"),
        ("path,label\n", "no clip of any class"),
        ('a.mp4,"jump\n', "line 1: "),
    ],
)
def test_csv_lines_that_cannot_be_read(tmp_path, rows, said):
    touch(tmp_path / "a.mp4")
    (tmp_path / "s.csv").write_text(rows, encoding="utf-8")
    with pytest.raises(MafsarError, match=said) as error:
        read_support(tmp_path / "s.csv")
    assert "\n" not in str(error.value)
    assert "s.csv" in str(error.value)


def test_csv_that_is_not_utf8(tmp_path):
    (tmp_path / "s.csv").write_bytes("a.mp4,Säen\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_support(tmp_path / "s.csv")


def test_paths_that_are_not_supports(tmp_path):
    with pytest.raises(MissingError, match="no such support"):
        read_support(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no class folder"):
        read_support(tmp_path / "empty")
    touch(tmp_path / "flat" / "a.mp4")
    with pytest.raises(InputError, match="1 clips but no class folder"):
        read_support(tmp_path / "flat")
    touch(tmp_path / "holes" / "jump" / "a.mp4")
    (tmp_path / "holes" / "run").mkdir()
    with pytest.raises(InputError, match=r"run: a class folder without a clip"):
        read_support(tmp_path / "holes")
    touch(tmp_path / "only" / "_none" / "a.mp4")
    with pytest.raises(InputError, match="no class folder"):
        read_support(tmp_path / "only")
    touch(tmp_path / "a.json")
    with pytest.raises(InputError, match="not a support"):
        read_support(tmp_path / "a.json")


def test_texts_of_unknown_folders_are_said(tmp_path):
    touch(tmp_path / "jump" / "a.mp4")
    (tmp_path / "labels.csv").write_text("jumb,to jump\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"labels\.csv line 1: no class 'jumb'; did you mean 'jump'"
    ):
        read_support(tmp_path)


def test_clips_beside_the_folders_are_said(tmp_path):
    touch(tmp_path / "jump" / "a.mp4")
    touch(tmp_path / "b.mp4")
    support = read_support(tmp_path)
    assert len(support.clips) == 1
    assert "1 clips beside the class folders" in support.notes[0]


FRAMES = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)


def test_clips_by_label(tmp_path):
    """Each kind of clip: a path, a path as text, an array, a list of frames, Pillow images."""
    video = touch(tmp_path / "a.mp4")
    images = [Image.fromarray(frame) for frame in FRAMES]
    support = read_support(
        {"WaveHands": [FRAMES, list(FRAMES), images], "brush_hair": [video, str(video)]}
    )
    assert support.labels == ("WaveHands", "brush_hair")
    assert [item.text for item in support.classes] == ["Wave Hands", "brush hair"]
    memory, files = support.clips[:3], support.clips[3:]
    assert [clip.name for clip in memory] == [f"WaveHands, clip {i}" for i in (1, 2, 3)]
    for clip in memory:
        assert clip.path is None
        assert np.array_equal(np.stack(clip.array.frames), FRAMES)
        assert clip.array.fps is None
    assert len({clip.array.content_sha256 for clip in memory}) == 1
    assert [(clip.path, clip.array) for clip in files] == [(video, None)] * 2
    assert support.none_clips == ()


def test_clips_by_label_can_come_from_any_iterable():
    support = read_support({"wave": iter([FRAMES, FRAMES]), "jump": np.stack([FRAMES, FRAMES])})
    assert [clip.label for clip in support.clips] == ["jump", "jump", "wave", "wave"]


@pytest.mark.parametrize("clock", [{"fps": 2.0}, {"times": [0.0, 0.5, 1.0]}])
def test_the_clock_of_clips_in_memory(clock, tmp_path):
    """It holds for the clips in memory; a file among them keeps its own."""
    video = touch(tmp_path / "a.mp4")
    support = read_support({"wave": [FRAMES, video]}, **clock)
    (clip,) = [clip.array for clip in support.clips if clip.array is not None]
    np.testing.assert_allclose(clip.times_seconds, [0.0, 0.5, 1.0])
    assert clip.duration_seconds == pytest.approx(1.5)
    assert clip.fps == pytest.approx(2.0)


def test_a_clock_without_frames_in_memory_is_refused(tmp_path):
    video = touch(tmp_path / "support" / "wave" / "a.mp4")
    for support in (tmp_path / "support", {"wave": [video]}):
        with pytest.raises(InputError, match="fps and times are for frames in memory"):
            read_support(support, fps=2.0)
    with pytest.raises(InputError, match=r"wave, clip 1: times must be 3 numbers"):
        read_support({"wave": [FRAMES]}, times=[0.0, 1.0])


def test_background_clips_by_label():
    support = read_support({"_none": [FRAMES], "wave": [FRAMES]})
    assert support.labels == ("wave",)
    assert [clip.name for clip in support.none_clips] == ["_none, clip 1"]
    assert support.none_clips[0].is_background
    for support in ({"_none": [FRAMES]}, {}):
        with pytest.raises(InputError, match="the support has no class"):
            read_support(support)


def test_labels_of_a_mapping_are_compared_in_nfc():
    decomposed = unicodedata.normalize("NFD", "Säen")
    support = read_support({"Säen": [FRAMES], decomposed: [FRAMES]})
    assert support.labels == ("Säen",)
    assert {clip.label for clip in support.clips} == {"Säen"}


@pytest.mark.parametrize(
    ("support", "said"),
    [
        ({3: [FRAMES]}, "a label must be a non-empty string, got 3"),
        ({" ": [FRAMES]}, "a label must be a non-empty string, got ' '"),
        ({"wave": []}, "class 'wave' has no clip; add one or remove the class"),
        ({"wave": "a.mp4"}, "class 'wave': must be a list of clips, got 'a.mp4'"),
        ({"wave": Path("a.mp4")}, "class 'wave': must be a list of clips, got 'a.mp4'"),
        ({"wave": FRAMES}, "class 'wave': must be a list of clips, got an array (3, 4, 5, 3)"),
        ({"wave": 7}, "class 'wave': must be a list of clips, got int"),
        ({"wave": [FRAMES, 7]}, "wave, clip 2: a clip is a path, a uint8 RGB array"),
        ({"wave": [FRAMES, []]}, "wave, clip 2: the list of frames is empty"),
        ({"wave": [FRAMES, ["a.png"]]}, "wave, clip 2: frame 0 must be a uint8 RGB array"),
        ({"wave": [FRAMES / 255]}, "wave, clip 1: must be a uint8 RGB array"),
        ({"wave": [FRAMES, "gone.mp4"]}, "wave, clip 2: no such clip: gone.mp4"),
    ],
)
def test_mappings_that_are_refused(support, said):
    with pytest.raises(MafsarError) as error:
        read_support(support)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("support", [7, None, [FRAMES], FRAMES])
def test_another_type_of_support_is_refused(support):
    with pytest.raises(ArgumentTypeError, match="support: must be a path, or a dict"):
        read_support(support)
