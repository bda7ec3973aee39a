"""Watching a browser's camera: frames that are pushed become events."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from mafsar.errors import InputError
from mafsar.runtime.studio.live import Feed, decoded
from mafsar.runtime.studio.studio_app import Studio
from mafsar.video import write_video

Clips = Callable[..., np.ndarray]


def as_jpeg(frame: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(frame).save(data, "JPEG", quality=95)
    return data.getvalue()


@pytest.fixture
def taught(client: TestClient, studio: Studio, clip_of: Clips, tmp_path: Path) -> TestClient:
    for kind, label in enumerate("abc"):
        path = tmp_path / "support" / label / "1.mp4"
        path.parent.mkdir(parents=True)
        write_video(path, clip_of(kind), 10)
    studio.workshop.refresh()
    return client


def push(client: TestClient, key: str, frames: np.ndarray, begin: float) -> list[dict[str, Any]]:
    """Sends frames at 10 a second of their own clock; gives what was said."""
    said, since = [], 0
    for k, frame in enumerate(frames):
        heard = client.post(
            f"/api/live/{key}/frame",
            params={"t": begin + k / 10, "since": since},
            content=as_jpeg(frame),
        ).json()
        since = heard["next"]
        said += heard["said"]
        time.sleep(0.01)
    return said + client.delete(f"/api/live/{key}", params={"since": since}).json()["said"]


def test_frames_become_readings_and_events(taught: TestClient, clip_of: Clips) -> None:
    begun = taught.post("/api/live").json()
    assert begun["lengths"] == [2.0]
    said = push(taught, begun["id"], np.concatenate([clip_of(0), clip_of(2), clip_of(1)]), 1000.0)
    events = [(each["event"], each["label"]) for each in said if each["event"] in ("start", "end")]
    assert events == [(word, label) for label in "acb" for word in ("start", "end")]
    readings = [each for each in said if each["event"] == "reading"]
    assert len(readings) >= 6
    assert {each["label"] for each in readings} == set("abc")
    assert said[0]["state"] == "open"


def test_a_new_class_and_a_threshold_reach_what_is_watched(
    taught: TestClient, clip_of: Clips, clip_bytes: Callable[..., bytes]
) -> None:
    begun = taught.post("/api/live", params={"threshold": "0.3"}).json()
    asked = taught.post(f"/api/live/{begun['id']}/threshold", params={"threshold": "0.6"})
    assert asked.status_code == 200
    taught.post("/api/clips", params={"label": "new", "name": "n.mp4"}, content=clip_bytes(5))
    said = push(
        taught, begun["id"], np.concatenate([clip_of(5), clip_of(5)[::-1], clip_of(5)]), 0.0
    )
    assert "reloaded" in [each.get("state") for each in said]
    assert "new" in [each["label"] for each in said if each["event"] == "start"]


def test_garbage_frames_are_refused_and_watching_goes_on(
    taught: TestClient, clip_of: Clips
) -> None:
    key = taught.post("/api/live").json()["id"]
    png = io.BytesIO()
    Image.fromarray(clip_of(0)[0]).save(png, "PNG")
    large = as_jpeg(np.zeros((1200, 1920, 3), np.uint8))
    for data in (b"", b"garbage", png.getvalue(), as_jpeg(clip_of(0)[0])[:50], large):
        assert (
            taught.post(f"/api/live/{key}/frame", params={"t": 0}, content=data).status_code == 422
        )
    for t in ("nan", "inf", "x"):
        answer = taught.post(
            f"/api/live/{key}/frame", params={"t": t}, content=as_jpeg(clip_of(0)[0])
        )
        assert answer.status_code == 422
    too_much = taught.post(f"/api/live/{key}/frame", content=b"x" * (5 << 20))
    assert too_much.status_code == 413
    said = push(taught, key, clip_of(1), 0.0)
    assert any(each["event"] == "reading" for each in said)
    assert taught.post(f"/api/live/{int(key) + 1}/frame", content=b"x").status_code == 404


def test_a_second_page_ends_the_watching_of_the_first(taught: TestClient, clip_of: Clips) -> None:
    first = taught.post("/api/live").json()["id"]
    second = taught.post("/api/live").json()["id"]
    late = taught.post(f"/api/live/{first}/frame", content=as_jpeg(clip_of(0)[0]))
    assert late.status_code == 404
    assert push(taught, second, clip_of(0), 0.0)


def test_a_feed_keeps_the_newest_frames_in_order() -> None:
    feed = Feed()
    frame = np.zeros((2, 2, 3), np.uint8)
    for k in range(20):
        assert feed.put(k / 10, frame)
    assert not feed.put(0.5, frame)  # late
    with pytest.raises(InputError, match="does not follow"):
        feed.put(1e9, frame)
    feed.close()
    times = [seconds for seconds, _ in feed]
    assert times == [k / 10 for k in range(12, 20)]
    assert feed.dropped == 12


def test_a_jpeg_of_one_channel_is_rgb() -> None:
    data = io.BytesIO()
    Image.new("L", (6, 4), 99).save(data, "JPEG")
    assert decoded(data.getvalue()).shape == (4, 6, 3)
