"""Supports as people really have them."""

from __future__ import annotations

import unicodedata

import pytest

from mafsar.data.labels import label_words
from mafsar.data.support import read_support
from mafsar.errors import InputError, MafsarError, MissingError


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


def test_what_is_no_support(tmp_path):
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
