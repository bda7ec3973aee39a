"""Playlists and other files that only name files: they are refused, and nothing of them is opened."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from mafsar.errors import VideoError
from mafsar.video import load_clip, write_video
from mafsar.video.formats import FORMATS


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A video that no clip in the folder `given` may show, as MP4 and MPEG-TS."""
    video = write_video(
        tmp_path / "outside.mp4", [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(10)], 10
    )
    with av.open(str(video)) as source, av.open(str(video.with_suffix(".ts")), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert load_clip(video.with_suffix(".ts"), frames=2, size=32).pixels.mean() > 20
    (tmp_path / "given").mkdir()
    return video


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n"
)
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL><SegmentBase/></Representation>'
    "</AdaptationSet></Period></MPD>"
)


@pytest.mark.parametrize(
    "ending", ["m3u8", "m3u", "ffconcat", "txt", "mp4", "ts", "mkv", "sdp", "mpd"]
)
@pytest.mark.parametrize(
    "text", [HLS, "\ufeff" + HLS, "ffconcat version 1.0\nfile {}\n", SDP, DASH]
)
@pytest.mark.parametrize("relative", [False, True])
def test_a_file_that_names_files_shows_nothing(
    outside: Path, ending: str, text: str, relative: bool
) -> None:
    for kind in (".mp4", ".ts"):
        target = outside.with_suffix(kind)
        path = outside.parent / "given" / f"list.{ending}"
        path.write_text(text.format(f"../{target.name}" if relative else target))
        with pytest.raises(VideoError) as caught:
            load_clip(path, frames=2, size=32)
        assert "\n" not in str(caught.value)


def test_a_playlist_opens_no_connection(tmp_path: Path) -> None:
    calls = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)

        def wait() -> None:
            try:
                calls.append(server.accept())
            except TimeoutError:
                return

        thread = threading.Thread(target=wait)
        thread.start()
        path = tmp_path / "list.m3u8"
        path.write_text(HLS.format(f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"))
        with pytest.raises(VideoError, match="is a playlist, which only names other files"):
            load_clip(path, frames=2, size=32)
        thread.join()
    assert calls == []


def test_no_format_that_is_read_opens_other_files() -> None:
    others = (
        "hls applehttp concat dash imf sdp rtsp rtp sap lavfi image2 image2pipe vobsub avisynth"
    )
    others += " vapoursynth webm_dash_manifest smoothstreaming fbdev x11grab kmsgrab v4l2 alsa tty"
    assert not set(FORMATS) & set(others.split())
    assert len(set(FORMATS)) == len(FORMATS)
