"""What was repaired in reading a clip reaches the answer and the bank, cached or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np

from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.match.matcher import Matcher
from mafsar.video import write_video

SAID = "the clock jumps once"


def with_last_frame_far(source: Path, out: Path) -> Path:
    """Copies the packets of a video; the last one is shown ten minutes later."""
    with av.open(str(source)) as read, av.open(str(out), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(video=0) if packet.size]
        far = max(packets, key=lambda packet: packet.pts)
        for packet in packets:
            if packet is far:
                packet.pts = packet.dts = packet.pts + int(600 / packet.time_base)
            packet.stream = stream
            write.mux(packet)
    return out


def test_repairs_are_said(encoder: Any, support_folder: Path, tmp_path: Path, cache: Any) -> None:
    frames = [np.full((32, 32, 3), 10 * number, np.uint8) for number in range(20)]
    jump = with_last_frame_far(write_video(tmp_path / "q.mp4", frames, 25), tmp_path / "jump.mkv")
    label = next(folder for folder in support_folder.iterdir() if folder.is_dir()).name
    for _ in range(2):  # the second time from the cache
        bank = enroll({label: [jump]}, encoder, text="off", cache=cache)
        (said,) = bank.repairs
        assert SAID in said
        assert "jump.mkv" in said
    bank = enroll(support_folder, encoder, text="off", cache=cache)
    assert bank.repairs == ()
    answer: Any = Matcher(bank, encoder)(jump)
    assert SAID in answer.clip.repairs[0]
    assert answer.to_json()["clip"]["repairs"] == answer.clip.repairs
    ignored: Any = Matcher(bank, encoder, ignore_clock=25)(jump)
    assert "ignored" in ignored.clip.repairs[0]
