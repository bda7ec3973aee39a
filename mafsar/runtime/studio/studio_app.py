"""The addresses of the studio: each does one thing to the workshop and answers with JSON."""

from __future__ import annotations

import math
import os
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mafsar.errors import InputError, MafsarError, MissingError
from mafsar.runtime.studio import pages
from mafsar.runtime.studio.guard import App, Guard
from mafsar.runtime.studio.live import LiveSession, Threshold
from mafsar.runtime.studio.workshop import Words, Workshop

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

CLIP_BYTES = 512 * 1024 * 1024
FRAME_BYTES = 4 * 1024 * 1024
_LIMITS = (("/api/clips", CLIP_BYTES), ("/api/match", CLIP_BYTES), ("/api/live/", FRAME_BYTES))

Made = TypeVar("Made")
Handler = Callable[["Request"], Awaitable["Response"]]


class Studio:
    """Answers the page's requests.

    Args:
        workshop: The support folder and its bank.
        words: How errors are said.
    """

    def __init__(self, workshop: Workshop, words: Words = str) -> None:
        self.workshop = workshop
        self._words = words
        self._session: LiveSession | None = None
        self._sessions = 0
        self._lock = threading.Lock()

    def app(self, token: str, cookie: str = "mafsar") -> App:
        """The guarded application.

        Args:
            token: What the address holds.
            cookie: Name of the cookie that keeps it.
        """
        from starlette.applications import Starlette
        from starlette.routing import Route

        def route(path: str, act: Callable[[Request], Any], *methods: str) -> Route:
            return Route(path, self._answering(act), methods=list(methods))

        routes = [
            Route("/", pages.page("studio.html")),
            Route("/static/{name}", pages.static),
            route("/api/state", self._state, "GET"),
            route("/api/clips", self._add, "POST"),
            route("/api/clips/{id}", self._remove, "DELETE"),
            route("/api/clips/{id}/move", self._move, "POST"),
            route("/api/clips/{id}/file", self._file, "GET"),
            route("/api/clips/{id}/strip", self._strip, "GET"),
            route("/api/removed/{id}/restore", self._restore, "POST"),
            route("/api/match", self._match, "POST"),
            route("/api/live", self._begin, "POST"),
            route("/api/live/{id}", self._end, "DELETE"),
            route("/api/live/{id}/frame", self._frame, "POST"),
            route("/api/live/{id}/threshold", self._set_threshold, "POST"),
            route("/api/bank", self._bank, "GET"),
        ]
        return Guard(Starlette(routes=routes), token=token, cookie=cookie, limits=_LIMITS)

    def close(self) -> None:
        """Ends what goes on."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _answering(self, act: Callable[[Request], Any]) -> Handler:
        """Makes an endpoint of a handler; errors of the library are answers."""

        async def answer(request: Request) -> Response:
            from starlette.responses import Response

            try:
                made = await act(request)
            except MafsarError as error:
                return pages.failure(error, self._words(error))
            return made if isinstance(made, Response) else pages.json(made)

        return answer

    async def _state(self, _request: Request) -> dict[str, Any]:
        await in_thread(self.workshop.refresh)
        return self.workshop.state()

    async def _add(self, request: Request) -> dict[str, Any]:
        label, name = _word(request, "label"), request.query_params.get("name", "")
        more = request.query_params.get("more") == "1"
        with self.workshop.folder.incoming(name or _recording(request)) as file:
            await _save_body(request, file)
            await in_thread(
                lambda: self.workshop.change(
                    lambda folder: folder.add(file, label, name), more=more
                )
            )
        self._tell_live()
        return self.workshop.state()

    async def _remove(self, request: Request) -> dict[str, Any]:
        key = request.path_params["id"]
        aside = await in_thread(lambda: self.workshop.change(lambda folder: folder.remove(key)))
        self._tell_live()
        return self.workshop.state() | {"removed": aside}

    async def _restore(self, request: Request) -> dict[str, Any]:
        key = request.path_params["id"]
        await in_thread(lambda: self.workshop.change(lambda folder: folder.restore(key)))
        self._tell_live()
        return self.workshop.state()

    async def _move(self, request: Request) -> dict[str, Any]:
        key, label = request.path_params["id"], _word(request, "label")
        await in_thread(lambda: self.workshop.change(lambda folder: folder.move(key, label)))
        self._tell_live()
        return self.workshop.state()

    async def _file(self, request: Request) -> Response:
        from starlette.responses import FileResponse

        path = self.workshop.folder.clip(request.path_params["id"]).path
        if not path.is_file():
            raise MissingError(f"{path.name}: is a folder of frames; it cannot be played here")
        return FileResponse(path, headers=pages.NO_STORE)

    async def _strip(self, request: Request) -> Response:
        from starlette.responses import Response

        key = request.path_params["id"]
        data = await in_thread(lambda: self.workshop.strip(key))
        if data is None:
            raise MissingError("this clip is not enrolled")
        return Response(data, media_type="image/jpeg", headers=pages.NO_STORE)

    async def _match(self, request: Request) -> dict[str, Any]:
        name = request.query_params.get("name", "")
        threshold = _threshold(request)
        with self.workshop.folder.incoming(name or _recording(request)) as file:
            await _save_body(request, file)
            shown = name or "the recording"
            return await in_thread(lambda: self.workshop.match(file, shown, threshold))

    async def _begin(self, request: Request) -> dict[str, Any]:
        threshold = _threshold(request)
        await in_thread(self.close)
        session = await in_thread(lambda: LiveSession(self.workshop.matcher, threshold))
        with self._lock:
            self._session = session
            self._sessions += 1
            return {"id": str(self._sessions)} | session.plan

    async def _frame(self, request: Request) -> dict[str, Any]:
        session = self._session_of(request)
        data = await request.body()
        seconds = _number(request, "t")
        since = int(_number(request, "since"))
        await in_thread(lambda: session.put(seconds, data))
        return session.heard(since)

    async def _set_threshold(self, request: Request) -> dict[str, Any]:
        session = self._session_of(request)
        session.set_threshold(_threshold(request))
        return {}

    async def _end(self, request: Request) -> dict[str, Any]:
        session = self._session_of(request)
        since = int(_number(request, "since"))
        await in_thread(session.close)
        return session.heard(since)

    async def _bank(self, _request: Request) -> Response:
        from starlette.background import BackgroundTask
        from starlette.responses import FileResponse

        handle, name = tempfile.mkstemp(suffix=".safetensors")
        os.close(handle)
        path = Path(name)
        try:
            await in_thread(lambda: self.workshop.save_bank(path))
        except MafsarError:
            path.unlink(missing_ok=True)
            raise
        return FileResponse(
            path,
            filename=self.workshop.bank_name,
            media_type="application/octet-stream",
            headers=pages.NO_STORE,
            background=BackgroundTask(path.unlink, missing_ok=True),
        )

    def _session_of(self, request: Request) -> LiveSession:
        with self._lock:
            if self._session is None or request.path_params["id"] != str(self._sessions):
                raise MissingError("this watching has ended; start it again")
            return self._session

    def _tell_live(self) -> None:
        with self._lock:
            session = self._session
        if session is not None and session.is_alive and self.workshop.bank is not None:
            session.reload()


async def in_thread(act: Callable[[], Made]) -> Made:
    """Runs what takes long beside the loop of the server."""
    import anyio.to_thread

    return await anyio.to_thread.run_sync(act)


async def _save_body(request: Request, path: Path) -> None:
    """Writes the body as it comes.

    Raises:
        InputError: It is empty, or the disk is full.
    """
    size = 0
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                file.write(chunk)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be written ({error.strerror})") from None
    if not size:
        raise InputError("the file is empty")


def _word(request: Request, name: str) -> str:
    value: str = request.query_params.get(name, "")
    if not value.strip():
        raise InputError(f"the request names no {name}")
    return value


def _recording(request: Request) -> str:
    """The name of a recording, which has only an ending."""
    return f"recording.{request.query_params.get('ending', 'webm')}"


def _number(request: Request, name: str) -> float:
    try:
        value = float(request.query_params.get(name, "0"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name} is not a number")
    return value


def _threshold(request: Request) -> Threshold:
    word = request.query_params.get("threshold", "auto")
    if word in ("auto", "off"):
        kept: Literal["auto", "off"] = "auto" if word == "auto" else "off"
        return kept
    value = _number(request, "threshold")
    if not 0.0 <= value <= 1.0:
        raise InputError(f"threshold {value:g} is not a number from 0 to 1")
    return value
