"""The page of ``watch --serve``: pictures, events, health and metrics of a watching that goes on."""

from __future__ import annotations

import io
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

import mafsar
from mafsar.runtime.live.events import Status
from mafsar.runtime.live.watch import Watch
from mafsar.runtime.studio import serving, watch_page
from mafsar.runtime.studio.watch_page import WatchPage
from mafsar.video.live.place import Place

TOKEN = "a-token-for-the-tests"


class Running:
    """A watching whose frames the test gives, and its page on a port."""

    def __init__(self, bank: mafsar.Bank, encoder: Any) -> None:
        self._more = threading.Event()
        self._frames: list[tuple[float, np.ndarray]] = []
        self._ended = False
        places = [Place("door", "frames", self._given()), Place("сад", "frames", iter([]))]
        self.page = WatchPage(places)
        self.watched = Watch(
            lambda: mafsar.Matcher(bank, encoder, evidence=True, topk=3),
            places,
            status=self.page.status,
            viewer=self.page.see,
        )
        self.watched.on_turn = self.page.turned
        self.page.attach(self.watched)
        self.server = serving.Server(self.page.app(TOKEN), serving.bind("127.0.0.1", 0, "serve"))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def give(self, frames: np.ndarray) -> None:
        begin = len(self._frames)
        self._frames += [((begin + k) / 10, frame) for k, frame in enumerate(frames)]
        self._more.set()

    def ask(self, path: str, *, token: bool = True) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {TOKEN}"} if token else {}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.port}{path}", headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def json(self, path: str) -> Any:
        import json

        return json.loads(self.ask(path)[1])

    def metrics(self) -> dict[tuple[str, ...], float]:
        text = self.ask("/metrics", token=False)[1].decode()
        return {
            (
                sample.name,
                *(sample.labels[key] for key in ("source", "label") if key in sample.labels),
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def close(self) -> None:
        self._ended = True
        self._more.set()
        self._thread.join(30)
        self.page.close()
        self.server.close()
        assert not self.server.is_alive

    def _given(self) -> Iterator[tuple[float, np.ndarray]]:
        number = 0
        while not self._ended:
            self._more.wait(0.1)
            while number < len(self._frames):
                yield self._frames[number]
                number += 1

    def _run(self) -> None:
        for event in self.watched:
            self.page.event(event)


@pytest.fixture
def running(encoder: Any, clip_of: Callable[..., np.ndarray]) -> Iterator[Running]:
    clips = {name: [clip_of(k)] for k, name in enumerate("abc")}
    made = Running(mafsar.enroll(clips, encoder, fps=10, text="off", cache=False), encoder)
    yield made
    made.close()


def until(said: Callable[[], Any]) -> Any:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = said()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail("it was not said")


def test_a_page_hears_of_all_that_goes_on(
    running: Running, clip_of: Callable[..., np.ndarray]
) -> None:
    assert running.ask("/", token=False)[0] == 403
    assert b"mafsar watch" in running.ask("/")[1]
    running.give(np.concatenate([clip_of(0), clip_of(2), clip_of(1), clip_of(1)[:8]]))
    heard = until(lambda: (found := running.json("/api/events"))["next"] >= 4 and found)
    said = [(each["event"], each["label"]) for each in heard["said"]]
    assert said[:4] == [("start", "a"), ("end", "a"), ("start", "c"), ("end", "c")]
    assert running.json(f"/api/events?since={heard['next']}")["said"] == []
    assert running.json("/api/events?since=garbage")["said"]
    state = running.json("/api/state")
    assert [source["name"] for source in state["sources"]] == ["door", "сад"]
    assert state["classes"] == ["a", "b", "c"]
    metrics = running.metrics()
    assert metrics["mafsar_events_total", "door", "a"] == 1
    assert metrics["mafsar_events_total", "door", "c"] == 1
    assert metrics["mafsar_source_up", "door"] == 1
    assert metrics["mafsar_source_up", "сад"] == 0
    assert metrics["mafsar_windows_total",] >= 4
    assert metrics["process_resident_memory_bytes",] > 1e6


def test_pictures_come_one_after_another(
    running: Running, clip_of: Callable[..., np.ndarray]
) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.server.port}/video/0",
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=20) as stream:
        assert stream.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        sizes = []
        for kind in (0, 1):
            running.give(clip_of(kind))
            while not (line := stream.readline()).startswith(b"Content-Length"):
                assert line, "the stream has ended"
            length = int(line.split(b":")[1])
            assert stream.readline() == b"\r\n"
            sizes.append(Image.open(io.BytesIO(stream.read(length))).size)
    assert sizes[0] == sizes[1]
    assert sizes[0][0] == 32
    for wrong in ("7", "x", "-1", "99999999"):
        assert running.ask(f"/video/{wrong}")[0] == 404


def test_a_page_that_leaves_before_its_first_picture_takes_no_place(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures are asked for, and never stepped through."""
    asked: Any = SimpleNamespace(path_params={"number": "0"})
    most = 2
    monkeypatch.setattr(watch_page, "_MOST_VIEWERS", most)
    for _ in range(most + 1):
        assert running.page._answer_video(asked).status_code == 200
    looking = [running.page._pictures(0) for _ in range(most + 1)]
    assert [next(each, None) for each in looking] == [b"\r\n"] * most + [None]
    assert running.page._answer_video(asked).status_code == 503
    looking[0].close()
    assert running.page._answer_video(asked).status_code == 200


def test_health_says_when_it_hangs(
    running: Running, monkeypatch: pytest.MonkeyPatch, clip_of: Callable[..., np.ndarray]
) -> None:
    running.give(clip_of(0))
    until(lambda: running.json("/healthz")["status"] == "ok")
    assert running.ask("/healthz", token=False)[0] == 200
    running.page.status(
        Status("status", "door", "lost", None, 0, None, "camera was lost", "2025-01-01T00:00:00Z")
    )
    assert running.json("/healthz")["status"] == "degraded"
    monkeypatch.setattr(watch_page, "HUNG_SECONDS", -1.0)
    status, body = running.ask("/healthz", token=False)
    assert status == 503
    assert b'"hung"' in body
