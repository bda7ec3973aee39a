"""An exception in one clip is that clip's row, wherever clips are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mafsar.data.check import check_clips
from mafsar.data.folders import read_own
from mafsar.data.pack import pack
from mafsar.data.store import StoreSettings
from mafsar.errors import VideoError
from mafsar.video import ClipRequest, load_clips


@pytest.fixture(name="tree")
def _tree(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clips, of which one makes the decoder raise what nobody foresaw."""
    root = tmp_path / "data"
    (root / "golf").mkdir(parents=True)
    for name in ("good.mp4", "odd.mp4"):
        make.write(root / "golf" / name)
    opened = __import__("mafsar.video.clip", fromlist=["open_video"]).open_video

    def open_video(path: Path) -> Any:
        if path.name == "odd.mp4":
            raise ValueError("31 is not a valid Type\nsecond line")
        return opened(path)

    monkeypatch.setattr("mafsar.video.clip.open_video", open_video)
    return root


def test_rows_of_load_clips_check_and_pack(tree: Path, tmp_path: Path) -> None:
    said = "cannot be read (ValueError: 31 is not a valid Type"
    paths = [tree / "golf" / name for name in ("odd.mp4", "good.mp4")]
    odd, good = load_clips([ClipRequest(path, frames=2, size=32) for path in paths])
    assert isinstance(odd, VideoError)
    assert str(odd).startswith(f"{paths[0]}: {said}")
    assert "\n" not in str(odd)
    assert isinstance(odd.__cause__, ValueError)
    assert good.pixels.shape == (2, 32, 32, 3)
    reports = {report.clip.name: report for report in check_clips(read_own(tree))}
    assert reports["golf/good.mp4"].status == "ok"
    assert reports["golf/odd.mp4"].status == "unreadable"
    assert reports["golf/odd.mp4"].detail.startswith(said)
    result = pack(read_own(tree), tmp_path / "s.sqlite", StoreSettings(8, 48))
    assert result.packed == 1
    ((name, reason),) = result.unreadable
    assert name == "golf/odd.mp4"
    assert reason.startswith(f"{paths[0]}: {said}")
