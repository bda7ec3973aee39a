"""The examples of watching run: OpenCV's loop over a stand-in for cv2, the ROS 2 node fed from arrays."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import mafsar
from mafsar.synthetic import render_video
from mafsar.video import load_raw_clip, write_video

EXAMPLES = Path(__file__).parents[2] / "examples"
CLASSES = ("bend_forward", "wave_hand")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bank.safetensors` and `film.mp4`, which shows both actions."""
    folder = tmp_path_factory.mktemp("examples")
    for label in CLASSES:
        path = folder / "support" / label / "1.mp4"
        path.parent.mkdir(parents=True)
        render_video(label, path, seed=1, size=112)
    frames = [
        frame
        for label in CLASSES
        for frame in load_raw_clip(folder / "support" / label / "1.mp4", frames=24).frames
    ]
    write_video(folder / "film.mp4", frames, 12)
    mafsar.enroll(folder / "support", text="off").save(folder / "bank.safetensors")
    (folder / "mafsar").write_text(
        f"#!{sys.executable}\nfrom mafsar.cli.app import main\nmain()\n", encoding="utf-8"
    )
    (folder / "mafsar").chmod(0o755)
    return folder


def script(place: Path, name: str, *words: object) -> str:
    done = subprocess.run(
        ["sh", str(EXAMPLES / name), *map(str, words)],
        env={**os.environ, "MAFSAR": str(place / "mafsar")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_long_video_becomes_a_table(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "events.csv"
    script(place, "long_video_to_csv.sh", place / "bank.safetensors", place / "film.mp4", out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} <= set(CLASSES)
    assert rows


def test_a_camera_becomes_json_lines(place: Path, tmp_path: Path) -> None:
    """The film stands in for the camera; `make test-live` watches a real RTSP server."""
    out = tmp_path / "events.jsonl"
    script(place, "rtsp_camera.sh", place / "bank.safetensors", place / "film.mp4", out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["source"] for line in lines} == {"camera"}


class _Capture:
    """`cv2.VideoCapture` over a file, with frames in OpenCV's order of colours."""

    def __init__(self, path: str) -> None:
        self._frames = iter(load_raw_clip(path, frames=48).frames)

    def isOpened(self) -> bool:
        return True

    def get(self, _what: int) -> float:
        return 12.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        frame = next(self._frames, None)
        return frame is not None, None if frame is None else frame[..., ::-1]


def test_opencvs_loop(
    place: Path,
    load_file: Callable[[Path], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cv2 = ModuleType("cv2")
    names = {
        "VideoCapture": _Capture, "CAP_PROP_FPS": 5, "COLOR_BGR2RGB": 4,
        "cvtColor": lambda frame, _code: np.ascontiguousarray(frame[..., ::-1]),
    }  # fmt: skip
    for name, value in names.items():
        setattr(cv2, name, value)
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    bank, film = str(place / "bank.safetensors"), str(place / "film.mp4")
    monkeypatch.setattr(sys, "argv", ["opencv_loop.py", bank, film])
    load_file(EXAMPLES / "opencv_loop.py").main()
    printed = capsys.readouterr().out.splitlines()
    events = list(mafsar.watch(bank, film))
    assert [line.split()[2:4] for line in printed] == [[each.event, each.label] for each in events]


def test_the_ros2_node_fed_from_arrays(
    place: Path, load_file: Callable[[Path], ModuleType]
) -> None:
    node = load_file(EXAMPLES / "ros2_node.py")
    frames = load_raw_clip(place / "film.mp4", frames=48).frames
    feed = node.Feed(waiting=100)

    def publish() -> None:
        for k, frame in enumerate(frames):
            height, width, _ = frame.shape
            padded = np.zeros((height, width * 3 + 5), np.uint8)
            padded[:, : width * 3] = frame[..., ::-1].reshape(height, -1)
            message = SimpleNamespace(
                encoding="bgr8", height=height, width=width, step=width * 3 + 5,
                data=padded.tobytes(),
            )  # fmt: skip
            feed.put(100.0 + k / 12, node.rgb_of(message))
        feed.close()

    threading.Thread(target=publish, daemon=True).start()
    found = [(each.event, each.label) for each in mafsar.watch(place / "bank.safetensors", feed)]
    again = mafsar.watch(place / "bank.safetensors", [(k / 12, f) for k, f in enumerate(frames)])
    assert found == [(each.event, each.label) for each in again]


def test_a_feed_that_nobody_reads_keeps_the_newest(load_file: Callable[[Path], ModuleType]) -> None:
    feed = load_file(EXAMPLES / "ros2_node.py").Feed(waiting=3)
    for k in range(10):
        feed.put(float(k), np.zeros((2, 2, 3), np.uint8))
    kept = iter(feed)
    assert [next(kept)[0] for _ in range(3)] == [7.0, 8.0, 9.0]
