"""The page of `watch --serve`: pictures with what goes on, the last events, health and metrics."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mafsar.errors import InputError, MissingError
from mafsar.runtime.live.display import Shown, caption_of, drawn
from mafsar.runtime.live.events import Event, Status
from mafsar.runtime.live.watch import Watch
from mafsar.runtime.studio import pages
from mafsar.runtime.studio.guard import LOOPBACK, App, Guard
from mafsar.runtime.studio.workshop import jpeg
from mafsar.video.live.place import Place
from mafsar.video.picture import Picture

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

HUNG_SECONDS = 60.0
"""`/healthz` answers 503 where nothing was done for this long."""
_FPS = 10.0  # of the pictures
_MOST_VIEWERS = 8
_KEPT = 500  # events that the page can show
_BOUNDARY = "frame"
_QUALITY = 75


class WatchPage:
    """What a page, a monitor and Prometheus hear of a `Watch`.

    Pictures are drawn only while someone looks at them, and only the newest one waits.

    Args:
        places: The sources.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = tuple(places)
        self._watched: Watch | None = None
        self._changed = threading.Condition()
        self._newest: list[tuple[float, Callable[[], Picture]] | None] = [None for _ in places]
        self._count = [0 for _ in places]
        self._viewers = 0
        self._closed = False
        self._began = self._turn = time.monotonic()
        self._events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_KEPT)
        self._said = 0
        self._ended: Counter[tuple[str, str]] = Counter()
        self._reloads: Counter[str] = Counter()
        self._status: dict[str, Status] = {}

    def attach(self, watched: Watch) -> None:
        """Shows this watching from now on."""
        self._watched = watched

    def see(self, source: int, seconds: float, picture: Callable[[], Picture]) -> None:
        """Takes a frame of a source; never waits."""
        with self._changed:
            self._newest[source] = seconds, picture
            self._count[source] += 1
            self._changed.notify_all()

    def event(self, event: Event) -> None:
        """Takes an event."""
        with self._changed:
            self._said += 1
            self._events.append((self._said, event.to_json()))
            if event.event == "end":
                self._ended[event.source, event.label] += 1

    def status(self, status: Status) -> None:
        """Takes the status of a source, or of a reload."""
        if status.source is None:
            self._reloads[status.state] += 1
        else:
            self._status[status.source] = status

    def turned(self) -> None:
        """Watching goes on: nothing hangs."""
        self._turn = time.monotonic()

    def close(self) -> None:
        """Ends the pictures that are being sent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def app(self, token: str, *, cookie: str = "mafsar", local: bool = True) -> App:
        """The guarded application; `/healthz` and `/metrics` need no token.

        Args:
            token: What the address holds.
            cookie: Name of the cookie that keeps it.
            local: Whether only this machine can ask; else any Host is answered.
        """
        from starlette.applications import Starlette
        from starlette.routing import Route

        routes = [
            Route("/", pages.page("watch.html")),
            Route("/static/{name}", pages.static),
            Route("/api/state", self._answer_state),
            Route("/api/events", self._answer_events),
            Route("/video/{number}", self._answer_video),
            Route("/healthz", self._answer_health),
            Route("/metrics", self._answer_metrics),
        ]
        return Guard(
            Starlette(routes=routes),
            token=token,
            cookie=cookie,
            hosts=LOOPBACK if local else None,
            open_paths=("/healthz", "/metrics"),
        )

    def _answer_state(self, _request: Request) -> Response:
        return pages.json(self._state())

    def _state(self) -> dict[str, Any]:
        watched = self._watched
        active = [] if watched is None else watched.active()
        return {
            "sources": [
                self._source(place)
                | {
                    "active": [
                        {"region": region, "label": span.label, "score": round(span.score, 4)}
                        for name, region, span in active
                        if name == place.name
                    ]
                }
                for place in self._places
            ],
            "classes": [] if watched is None else list(watched.matcher.bank.labels),
            "windows": 0 if watched is None else watched.windows,
            "watched_seconds": 0.0 if watched is None else round(watched.watched_seconds, 1),
            "up_seconds": round(time.monotonic() - self._began, 1),
        }

    def _source(self, place: Place) -> dict[str, Any]:
        status = self._status.get(place.name)
        if status is None:
            return {"name": place.name, "state": "waiting", "fps": None, "dropped": 0,
                    "delay_seconds": None, "message": None}  # fmt: skip
        return {
            "name": place.name, "state": status.state, "fps": status.fps,
            "dropped": status.dropped, "delay_seconds": status.delay_seconds,
            "message": status.message,
        }  # fmt: skip

    def _answer_events(self, request: Request) -> Response:
        word = request.query_params.get("since", "0")
        since = int(word) if word.isdecimal() and len(word) < 16 else 0
        with self._changed:
            said = [document for number, document in self._events if number > since]
            return pages.json({"said": said, "next": self._said})

    def _answer_health(self, _request: Request) -> Response:
        quiet = time.monotonic() - self._turn
        states = {place.name: self._source(place)["state"] for place in self._places}
        away = all(state in ("waiting", "lost", "ended") for state in states.values())
        word = "hung" if quiet > HUNG_SECONDS else "degraded" if away else "ok"
        document = {"status": word, "quiet_seconds": round(quiet, 1), "sources": states}
        return pages.json(document, 503 if word == "hung" else 200)

    def _answer_metrics(self, _request: Request) -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.process_collector import ProcessCollector
        from starlette.responses import Response

        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_Metrics(self._collect))
        return Response(
            generate_latest(registry),
            headers={"content-type": CONTENT_TYPE_LATEST, **pages.NO_STORE},
        )

    def _collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        state = self._state()
        with self._changed:
            ended = dict(self._ended)
        events = CounterMetricFamily(
            "mafsar_events", "Actions that have ended.", labels=["source", "label"]
        )
        for (source, label), count in sorted(ended.items()):
            events.add_metric([source, label], count)
        yield events
        yield CounterMetricFamily("mafsar_windows", "Windows judged.", value=state["windows"])
        yield CounterMetricFamily(
            "mafsar_watched_seconds", "Seconds of source judged.", value=state["watched_seconds"]
        )
        reloads = CounterMetricFamily(
            "mafsar_reloads", "Banks read again, by result.", labels=["result"]
        )
        for result in ("reloaded", "refused"):
            reloads.add_metric([result], self._reloads[result])
        yield reloads
        dropped = CounterMetricFamily(
            "mafsar_dropped_windows", "Windows the encoder was too late for.", labels=["source"]
        )
        up = GaugeMetricFamily(
            "mafsar_source_up", "Whether a source gives frames.", labels=["source"]
        )
        fps = GaugeMetricFamily("mafsar_source_fps", "Frames a second.", labels=["source"])
        delay = GaugeMetricFamily(
            "mafsar_delay_seconds", "From the end of a window to its answer.", labels=["source"]
        )
        active = GaugeMetricFamily(
            "mafsar_active", "Actions that go on now.", labels=["source", "label"]
        )
        for source in state["sources"]:
            name = [source["name"]]
            dropped.add_metric(name, source["dropped"])
            up.add_metric(name, float(source["state"] in ("open", "back", "dark", "frozen")))
            if source["fps"] is not None:
                fps.add_metric(name, source["fps"])
            if source["delay_seconds"] is not None:
                delay.add_metric(name, source["delay_seconds"])
            for label, count in Counter(each["label"] for each in source["active"]).items():
                active.add_metric([*name, label], count)
        yield from (dropped, up, fps, delay, active)

    def _answer_video(self, request: Request) -> Response:
        from starlette.responses import PlainTextResponse, StreamingResponse

        word = request.path_params["number"]
        if not (word.isdecimal() and len(word) < 6 and int(word) < len(self._places)):
            return pages.failure(MissingError(""), f"there is no source {word}")
        with self._changed:
            if self._viewers >= _MOST_VIEWERS:
                return PlainTextResponse("too many pages look at the pictures\n", 503)
        return StreamingResponse(
            self._pictures(int(word)),
            media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}",
            headers=pages.NO_STORE,
        )

    def _pictures(self, source: int) -> Iterator[bytes]:
        """JPEG after JPEG, each as soon as there is a newer frame, until the page goes.

        It counts as a viewer from its first step on: one that has left before is never stepped.
        """
        seen = 0
        with self._changed:
            if self._viewers >= _MOST_VIEWERS:
                return  # several came at once
            self._viewers += 1
        try:
            while True:
                began = time.monotonic()
                with self._changed:
                    if self._count[source] == seen and not self._closed:
                        self._changed.wait(1.0)
                    if self._closed:
                        return
                    newest, now = self._newest[source], self._count[source]
                if newest is None or now == seen:
                    yield b"\r\n"  # a page that has gone is found out by writing to it
                    continue
                seen = now
                yield self._part(source, newest[1])
                time.sleep(max(0.0, 1 / _FPS - (time.monotonic() - began)))
        finally:
            with self._changed:
                self._viewers -= 1

    def _part(self, source: int, picture: Callable[[], Picture]) -> bytes:
        """One picture of the stream, with the action that goes on under it."""
        assert self._watched is not None
        name = self._places[source].name
        on = [
            Shown(span.label, span.score, span.t_start)
            for where, _, span in self._watched.active()
            if where == name
        ]
        try:
            frame = drawn(picture(), caption_of(on[:1]), self._watched.matcher.bank.geometry)
        except InputError:
            return b"\r\n"
        data = jpeg(frame, _QUALITY)
        head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        return head.encode() + data + b"\r\n"


class _Metrics:
    """A collector of prometheus_client."""

    def __init__(self, collect: Callable[[], Iterator[Any]]) -> None:
        self.collect = collect
