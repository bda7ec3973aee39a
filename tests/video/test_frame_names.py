"""Which pictures of a folder are frames, in which order, by their names alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mafsar.video.frame_names import SeveralKindsError, match_pattern, order_frames


def counted(pattern: str, numbers: Sequence[float]) -> list[str]:
    return [pattern.format(number) for number in numbers]


IMG = counted("img_{:05d}.jpg", range(1, 23))
FLOW_X = counted("flow_x_{:05d}.jpg", range(1, 22))
FLOW_Y = counted("flow_y_{:05d}.jpg", range(1, 22))


@pytest.mark.parametrize(
    ("names", "frames", "pattern"),
    [
        (IMG + FLOW_X + FLOW_Y, IMG, "img_{:05d}.jpg"),
        (counted("{:05d}.jpg", range(9)) + counted("{:05d}_mask.png", range(9)),
         counted("{:05d}.jpg", range(9)), "{:05d}.jpg"),
        (counted("frame{:d}.png", range(12)) + counted("depth{:d}.png", range(12)),
         counted("frame{:d}.png", range(12)), "frame{:d}.png"),
        (counted("{:d}-color.png", range(12)) + counted("{:d}-depth.png", range(12)),
         counted("{:d}-color.png", range(12)), "{:d}-color.png"),
        (counted("rgb_{:04d}.png", range(9)) + counted("lidar_{:04d}.png", range(9)),
         counted("rgb_{:04d}.png", range(9)), "rgb_{:04d}.png"),
        (counted("rgb_{:04d}.png", range(9)) + counted("back_{:04d}.png", range(9)),
         counted("rgb_{:04d}.png", range(9)), "rgb_{:04d}.png"),
        (counted("image_{:d}.png", range(9)) + counted("semantic_{:d}.png", range(9)),
         counted("image_{:d}.png", range(9)), "image_{:d}.png"),
        ([*IMG, "thumbnail.jpg"], IMG, None),
        (["1.jpg", "2.jpg", "thumb.jpg"], ["1.jpg", "2.jpg"], None),
        ([*IMG, "poster1.jpg"], IMG, None),
    ],
)  # fmt: skip
def test_the_camera_s_series_is_chosen(
    names: list[str], frames: list[str], pattern: str | None
) -> None:
    order = order_frames(reversed(names))
    assert list(order.names) == frames
    assert order.pattern == pattern
    assert set(order.skipped) == set(names) - set(frames)


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        (counted("cam0_{:04d}.png", range(9)) + counted("cam1_{:04d}.png", range(9)),
         {"cam0_{:04d}.png", "cam1_{:04d}.png"}),
        (counted("{:04d}_left.png", range(9)) + counted("{:04d}_right.png", range(8)),
         {"{:04d}_left.png", "{:04d}_right.png"}),
        (FLOW_X + FLOW_Y, {"flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg"}),
        (counted("{:03d}.jpg", range(9)) + counted("{:03d}.png", range(9)),
         {"{:03d}.jpg", "{:03d}.png"}),
        (counted("{:03d}_c1.jpg", range(9)) + counted("{:03d}_c2.jpg", range(9)),
         {"{:03d}_c1.jpg", "{:03d}_c2.jpg"}),
    ],
)  # fmt: skip
def test_series_that_names_do_not_tell_apart(names: list[str], patterns: set[str]) -> None:
    with pytest.raises(SeveralKindsError) as error:
        order_frames(names)
    assert {item.pattern for item in error.value.series} == patterns
    for pattern in patterns:
        series = match_pattern(pattern, names)
        assert len(series.names) in (8, 9, 21)
        assert order_frames(series.names).names == series.names


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", "b.jpg", "c.jpg"],
        ["a1.jpg", "b2.jpg", "c3.jpg"],
        ["img_1.jpg", "img_2.png", "img_3.jpg", "img_10.JPG"],
        counted("A_{:04d}.jpg", range(97, 100)) + counted("B_{:04d}.jpg", range(100, 105)),
        [f"12-{m:02d}-{s:02d}.jpg" for m in range(3) for s in range(60)],
        [f"frame_{i:04d}_pts_{40 * i}.png" for i in range(12)],
        [f"v_Golf_g01_c02_{i:05d}.jpg" for i in range(12)],
        [f"shot1.{i:04d}.png" for i in range(1, 12)],
        [f"2024-05-01_{h:02d}{m:02d}{s:02d}.jpg" for h in (9, 10) for m in (0, 59) for s in (1, 2)],
        ["-10.png", "-9.png", "-1.png", "0.png", "1.png", "10.png"],
        ["img_-2.png", "img_-1.png", "img_0.png", "img_1.png"],
        ["img-1.png", "img-2.png", "img-10.png"],
        [f"{i:x}.png" for i in range(40)],
        [f"{i:02x}.png" for i in range(40)],
        [f"0x{i:x}.png" for i in range(40)],
        [f"{i:02x}.png" for i in range(0, 600, 7)],
        [f"frame_{i:04x}.png" for i in range(0, 600, 7)],
        [f"frame_0x{i:x}.png" for i in range(40)],
        ["apple.jpg", "fig.jpg", "kiwi1.jpg", "kiwi2.jpg"],
    ],
)  # fmt: skip
def test_one_series_without_a_clock(names: list[str]) -> None:
    order = order_frames(reversed(names))
    assert list(order.names) == names
    assert order.seconds is None
    assert order.skipped == ()


@pytest.mark.parametrize(
    ("form", "unit"),
    [
        ("{}.png", 1.0), ("frame_{}.png", 1.0), ("{}s.png", 1.0), ("t={}.png", 1.0),
        ("{:.2f}.png", 1.0), ("frame{:.3f}.jpg", 1.0),
    ],
)  # fmt: skip
def test_decimals_are_seconds(form: str, unit: float) -> None:
    seconds = [round(number * 0.07, 2) for number in range(45)]
    names = [form.format(value) for value in seconds]
    order = order_frames(sorted(names))
    assert list(order.names) == names
    assert order.seconds == pytest.approx([unit * value for value in seconds])


def test_other_times() -> None:
    assert order_frames(["80ms.png", "120ms.png", "0ms.png"]).seconds == (0.0, 0.08, 0.12)
    assert order_frames(["1e-05.png", "0.0.png", "0.5.png", "2.png"]).names == (
        "0.0.png", "1e-05.png", "0.5.png", "2.png",
    )  # fmt: skip
    assert order_frames(["0,5.png", "0,25.png", "1,0.png"]).seconds == (0.25, 0.5, 1.0)
    stamps = ["1305031102.175304.png", "1305031102.211214.png", "1305031103.011215.png"]
    assert order_frames(stamps).seconds == pytest.approx([float(s[:-4]) for s in stamps])


@pytest.mark.parametrize("pattern", ["img.jpg", "img_{:5s}.jpg", "img_{a-b}.jpg"])
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(ValueError, match="number"):
        match_pattern(pattern, IMG)


@pytest.mark.parametrize(
    "pattern", ["img_{:05d}.jpg", "img_{}.jpg", "IMG_%05d.jpg", "img_{:05}.jpg", "img_{n:05d}.jpg"]
)
def test_patterns_as_people_write_them(pattern: str) -> None:
    assert list(match_pattern(pattern, FLOW_X + IMG).names) == IMG
