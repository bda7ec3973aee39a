"""Finding the clips of standard data sets in folders as users have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mafsar.data.check import count_parts
from mafsar.data.presets import preset
from mafsar.data.splits import PARTS
from mafsar.data.standard import read_standard
from mafsar.errors import InputError, MissingError

Touch = Callable[[Path], Path]

# File names as HMDB51's archives have them.
HMDB_NAMES = {
    "golf": [
        "Golf_Swing_#6Iron_golf_f_cm_np1_fr_med_0.avi",
        "Golf_Tips_-_Hit_The_Driver_300+_Yards!!!_golf_f_nm_np1_fr_med_0.avi",
    ],
    "cartwheel": [
        "(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0.avi",
        "Geena_und_die_Radschl_ge___;-)_cartwheel_f_cm_np1_fr_med_2.avi",
        "jenny_~_rad_cartwheel_f_cm_np1_ri_med_0.avi",
    ],
    "sword": ["[HQ]_Sword_&_Shield_sword_f_cm_np2_ri_bad_0.avi"],
    "sword_exercise": ["Iaido_&_Kata_[1]_sword_exercise_f_nm_np1_ri_med_1.avi"],
    "shoot_bow": ["6arrows_within_30_seconds_shoot_bow_f_nm_np1_fr_med_3.avi"],
    "brush_hair": ["April_09_brush_hair_u_nm_np1_ba_goo_0.avi"],
}


@pytest.mark.parametrize("above", ["", "hmdb51_org", "videos"])
@pytest.mark.parametrize("nested", [False, True])
def test_hmdb51_class_folders(tmp_path: Path, touch: Touch, above: str, nested: bool) -> None:
    for label, names in HMDB_NAMES.items():
        for name in names:
            folder = tmp_path / above / label
            touch((folder / label if nested else folder) / name)  # as each archive unpacks
    touch(tmp_path / above / "golf" / ".DS_Store")
    touch(tmp_path / above / "golf" / "._x.avi")
    found = read_standard("hmdb51", tmp_path)
    here = {(clip.label, clip.path.name) for clip in found.clips if clip.path}
    assert here == {(label, name) for label, names in HMDB_NAMES.items() for name in names}
    assert not found.missing
    assert {clip.part for clip in found.clips if clip.label == "golf"} == {"val"}
    assert ("train", "catch") in found.absent
    texts = {item.label: item.text for item in found.classes}
    assert texts["sword_exercise"] == "sword exercise"


def test_hmdb51_published_lists_resolve(tmp_path: Path, touch: Touch) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    order = {part: preset("hmdb51").parts[part].classes or () for part in PARTS}
    numbered: dict[str, list[str]] = {part: [] for part in PARTS}
    for label, names in HMDB_NAMES.items():
        part = next(part for part in PARTS if label in order[part])
        for name in names:
            touch(tmp_path / "data" / label / name)
            number = order[part].index(label)
            numbered[part].append(f"{part}{number}//videos/{label}/{name}")
    touch(tmp_path / "data" / "run" / "x_run_f_cm_np1_ba_bad_1.avi")
    numbered["test"].append(
        f"test{order['test'].index('run')}//videos/run/x_run_f_cm_np1_ba_bad_1.avi"
    )
    for part, lines in numbered.items():
        (lists / f"{part}_few_shot.txt").write_text("\n".join(lines))
    by_number = read_standard("hmdb51", tmp_path / "data", lists)
    assert len(by_number.clips) == 10
    assert not by_number.missing
    for part in PARTS:  # the same as `<class>/<video>` without suffix
        lines = [line.split("//videos/")[1].removesuffix(".avi") for line in numbered[part]]
        (lists / f"{part}_few_shot.txt").write_text("\n".join(lines))
    assert read_standard("hmdb51", tmp_path / "data", lists).clips == by_number.clips


def test_ucf101_spells_one_class_in_two_ways(tmp_path: Path, touch: Touch) -> None:
    touch(tmp_path / "UCF-101" / "HandstandPushups" / "v_HandStandPushups_g01_c01.avi")
    touch(tmp_path / "UCF-101" / "HandStandPushups" / "v_HandStandPushups_g02_c01.avi")
    touch(tmp_path / "UCF-101" / "YoYo" / "v_YoYo_g01_c01.avi")
    touch(tmp_path / "UCF-101" / "Unknown" / "v_Unknown_g01_c01.avi")
    found = read_standard("ucf101", tmp_path)
    assert [(clip.label, clip.part) for clip in found.clips] == [
        ("YoYo", "train"),
        ("HandstandPushups", "val"),
        ("HandstandPushups", "val"),
    ]
    assert any("1 clips are outside the class folders" in note for note in found.notes)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "trainlist03.txt").write_text("YoYo/v_YoYo_g01_c01\n")
    (lists / "vallist03.txt").write_text("HandstandPushups/v_HandStandPushups_g02_c01\n")
    (lists / "testlist03.txt").write_text("CliffDiving/v_CliffDiving_g01_c01\n")
    listed = read_standard("ucf101", tmp_path, lists)
    assert [clip.path.name for clip in listed.clips if clip.path] == [
        "v_YoYo_g01_c01.avi",
        "v_HandStandPushups_g02_c01.avi",
    ]
    assert [clip.name for clip in listed.missing] == ["CliffDiving/v_CliffDiving_g01_c01"]


@pytest.mark.parametrize(
    ("suffix", "folder"),
    [(".webm", ""), (".mp4", ""), (".mp4", "20bn-something-something-v2"), (".WEBM", "videos")],
)
def test_ssv2_small_whole_and_flat(tmp_path: Path, touch: Touch, suffix: str, folder: str) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    number = 0
    for part in PARTS:
        lines = []
        for class_id in range(preset("ssv2_small").parts[part].class_count):
            for _ in range(100 if suffix == ".webm" else 3):
                number += 1
                lines.append(f"{part}{class_id}/{number}")
                touch(tmp_path / "data" / folder / f"{number}{suffix}")
        (lists / f"{part}_few_shot.txt").write_text("\n".join(lines))
    touch(tmp_path / "data" / folder / f"{number + 1}{suffix}")  # SSv2 has more than the split
    found = read_standard("ssv2_small", tmp_path / "data", lists)
    assert len(found.clips) == number
    assert not found.missing
    assert not found.absent
    train = {clip.name: clip.label for clip in found.clips if clip.part == "train"}
    first = f"{folder}/1{suffix}" if folder else f"1{suffix}"
    assert train[first] == "Pouring something into something"
    if suffix == ".webm":
        assert [(item.classes, item.videos, item.short_of) for item in count_parts(found)] == [
            (64, 6400, 0),
            (12, 1200, 0),
            (24, 2400, 0),
        ]


def test_ssv2_frame_folders_and_names(tmp_path: Path, touch: Touch) -> None:
    for number in (78687, 46768, 88644):
        for frame in range(3):
            touch(tmp_path / "frames" / str(number) / f"{frame:05d}.jpg")
    lists = tmp_path / "lists"
    lists.mkdir()
    tipping = "Tipping something with something in it over, so something in it falls out"
    for name, text in {
        "trainlist03.txt": f"{tipping}/78687",
        "vallist03.txt": "Lifting something up completely without letting it drop down/46768",
        "testlist03.txt": "Twisting (wringing) something wet until water comes out/88644",
    }.items():
        (lists / name).write_text(text)
    by_name = read_standard("ssv2_small", tmp_path / "frames", lists)
    assert [clip.path for clip in by_name.clips] == [
        tmp_path / "frames" / number for number in ("78687", "46768", "88644")
    ]
    for name, text in {
        "trainlist03.txt": "train8/78687",
        "vallist03.txt": "val0/46768",
        "testlist03.txt": "test0/88644",
    }.items():
        (lists / name).write_text(text)
    assert read_standard("ssv2_small", tmp_path / "frames", lists).clips == by_name.clips


def test_ssv2_full_names_its_validation_classes_from_annotations(
    tmp_path: Path, touch: Touch
) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for part, number in (("train", 1), ("val", 2), ("test", 3)):
        (lists / f"{part}list07.txt").write_text(f"{part}0/{number}\n")
        touch(tmp_path / "data" / f"{number}.webm")
    found = read_standard("ssv2_full", tmp_path / "data", lists)
    texts = {item.label: item.text for item in found.classes}
    assert texts == {
        "Bending [something] until it breaks": "Bending something until it breaks",
        "val0": None,
        "Approaching [something] with your camera": "Approaching something with your camera",
    }
    assert any("names are not public" in note for note in found.notes)
    annotations = lists / "something-something-v2-validation.json"
    annotations.write_text(json.dumps([{"id": "2", "template": "Opening [something]"}]))
    named = read_standard("ssv2_full", tmp_path / "data", lists)
    assert [item.text for item in named.classes if item.part == "val"] == ["Opening something"]
    assert not named.notes
    annotations.unlink()
    (lists / "val_classes.txt").write_text("Hitting [something]\n")
    named = read_standard("ssv2_full", tmp_path / "data", lists)
    assert [item.text for item in named.classes if item.part == "val"] == ["Hitting something"]


def test_annotations_that_contradict_a_list_are_refused(tmp_path: Path) -> None:
    for part in PARTS:
        (tmp_path / f"{part}.txt").write_text(f"{part}0/1\n{part}0/2\n")
    (tmp_path / "something-something-v2-train.json").write_text(
        json.dumps([{"id": "1", "template": "Opening"}, {"id": "2", "template": "Closing"}])
    )
    with pytest.raises(InputError, match="number 0 is 'Opening' and 'Closing'"):
        read_standard("ssv2_full", tmp_path, tmp_path)


@pytest.mark.parametrize("folder", ["baking cookies", "baking_cookies"])
@pytest.mark.parametrize(
    ("listed", "there"),
    [
        ("-514AQUrSow.mp4", "-514AQUrSow_000058_000068.mp4"),
        ("-514AQUrSow_000058_000068", "-514AQUrSow.mkv"),
        ("-514AQUrSow_000058_000068", "-514AQUrSow_000058_000068.mp4"),
        ("x1qycXAMfoE.mkv", "x1qycXAMfoE.mp4"),
    ],
)
def test_kinetics_names(tmp_path: Path, touch: Touch, folder: str, listed: str, there: str) -> None:
    touch(tmp_path / "data" / "train_256" / folder / there)
    touch(tmp_path / "data" / "train_256" / "crossing_river" / there)  # another class's
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("train0//train_256/air_drumming/A.mp4\n")
    (lists / "test.txt").write_text("test0//val_256/blasting_sand/B.mp4\n")
    for line in (f"val0//val_256/baking_cookies/{listed}", f"val0/{listed}"):
        (lists / "val.txt").write_text(line)
        found = read_standard("kinetics100", tmp_path / "data", lists)
        assert [(clip.label, clip.path) for clip in found.clips] == [
            ("baking cookies", tmp_path / "data" / "train_256" / folder / there)
        ]
        assert len(found.missing) == 2


def test_youtube_ids_differ_by_case_alone(tmp_path: Path, touch: Touch) -> None:
    touch(tmp_path / "data" / "baking cookies" / "abcDEFghi01.mp4")
    wanted = touch(tmp_path / "data" / "baking cookies" / "ABCdefghi01.mp4")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("air drumming/a\n")
    (lists / "val.txt").write_text("baking cookies/ABCdefghi01\n")
    (lists / "test.txt").write_text("busking/b\n")
    assert [clip.path for clip in read_standard("kinetics100", tmp_path / "data", lists).clips] == [
        wanted
    ]


def test_lists_are_required_where_videos_are_chosen(tmp_path: Path) -> None:
    for name in ("kinetics100", "ssv2_small", "ssv2_full"):
        with pytest.raises(InputError, match=r"add lists=dir with train\*\.txt, .*78687") as caught:
            read_standard(name, tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingError, match="no such folder"):
        read_standard("hmdb51", tmp_path / "none")


def test_a_class_number_out_of_range_and_an_unknown_class(tmp_path: Path) -> None:
    for part in PARTS:
        (tmp_path / f"{part}.txt").write_text(f"{part}0/1\n")
    (tmp_path / "train.txt").write_text("train64/1\n")
    with pytest.raises(InputError, match=r"line 1: class number 64, .* only 64 train classes"):
        read_standard("ssv2_small", tmp_path, tmp_path)
    (tmp_path / "train.txt").write_text("air drummin/1\n")
    with pytest.raises(InputError, match="did you mean 'air drumming'"):
        read_standard("kinetics100", tmp_path, tmp_path)


def test_a_clip_in_two_classes_is_refused_and_one_listed_twice_is_said(
    tmp_path: Path, touch: Touch
) -> None:
    touch(tmp_path / "1.webm")
    for part in PARTS:
        (tmp_path / f"{part}.txt").write_text(f"{part}0/{len(part)}\n")
    (tmp_path / "train.txt").write_text("train0/1\ntrain0/1\n")
    found = read_standard("ssv2_small", tmp_path, tmp_path)
    assert len(found.clips) == 1
    assert "1 clips are listed twice and used once" in found.notes
    (tmp_path / "train.txt").write_text("train0/1\ntrain1/1\n")
    with pytest.raises(InputError, match="a clip has one class"):
        read_standard("ssv2_small", tmp_path, tmp_path)
