"""The pictures of ``mafsar watch``: the overlay video, the window, and the page of ``--serve``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mafsar.cli import outputs, voice
from mafsar.cli.wording import worded
from mafsar.errors import MafsarError

if TYPE_CHECKING:
    import socket

    from mafsar.runtime.live.display import LiveOverlay, Screen, Shown, VideoWriter
    from mafsar.runtime.live.events import Event, Status
    from mafsar.runtime.live.watch import Watch
    from mafsar.runtime.studio.serving import Server
    from mafsar.runtime.studio.watch_page import WatchPage
    from mafsar.video.live.place import Place
    from mafsar.video.picture import Picture


class Pictures:
    """Writes and shows what is watched.

    Args:
        places: The sources.
        targets: File for the overlay of each source, as `video_targets` names them, or none.
        show: Whether to open a window.
        serve: Address of the page, or None.
    """

    def __init__(
        self, places: Sequence[Place], targets: Sequence[Path], *, show: bool, serve: str | None
    ) -> None:
        self._places, self._show = places, show
        self._page: WatchPage | None = None
        self._server: Server | None = None
        self._address: tuple[str, socket.socket, str] | None = None
        if serve is not None:
            self._listen(serve)
        self._targets = targets
        self._live: list[LiveOverlay] = []
        self._writers: list[tuple[VideoWriter, Path]] = []
        self._screen: Screen | None = None
        self._events: dict[str, list[Shown]] = {place.name: [] for place in places}
        self._watched: Watch | None = None
        live = any(place.kind != "file" for place in places) and bool(self._targets)
        self.viewer: Callable[[int, float, Callable[[], Picture]], None] | None = (
            self._see if show or live or serve is not None else None
        )

    def start(self, watched: Watch) -> None:
        """Opens what is written while it runs, and the window."""
        from mafsar.runtime.live.display import LiveOverlay, Screen, VideoWriter

        self._watched = watched
        self._serve(watched)
        geometry = watched.matcher.bank.geometry
        for number, place in enumerate(self._places):
            if self._targets and place.kind != "file":
                overlay = LiveOverlay(number, self._going_on(place), geometry)
                self._live.append(overlay)
                target = self._targets[number]
                self._writers.append((VideoWriter(overlay, target), target))
        if self._show:
            overlay = LiveOverlay(0, self._going_on(self._places[0]), geometry)
            self._screen = Screen(overlay, f"mafsar watch {self._places[0].name}", watched.stop)
            self._live.append(overlay)

    def event(self, event: Event) -> None:
        """Keeps what the overlay of a file draws, and tells the page."""
        from mafsar.runtime.live.display import Shown

        if self._page is not None:
            self._page.event(event)
        if event.event == "end":
            self._events[event.source].append(
                Shown(event.label, event.score, event.t_start, event.t_end)
            )

    def status(self, status: Status) -> None:
        """Tells the page of the sources."""
        if self._page is not None:
            self._page.status(status)

    def turned(self) -> None:
        """Tells the page that nothing hangs."""
        if self._page is not None:
            self._page.turned()

    def close(self) -> None:
        """Puts the videos in place; those of files are written now, in a second pass."""
        if self._page is not None:
            self._page.close()
        if self._server is not None:
            self._server.close()
        elif self._address is not None:
            self._address[1].close()
        for overlay in self._live:
            overlay.close()
        for writer, target in self._writers:
            writer.finish()
            if writer.error is not None:
                voice.warn(worded(writer.error))
            else:
                outputs.say_written(target)
        if self._watched is None:
            return
        for place, target in zip(self._places, self._targets, strict=False):
            if place.kind == "file":
                self._write_file(place, target)

    def _write_file(self, place: Place, target: Path) -> None:
        from mafsar.runtime.live.display import write_file_overlay

        assert self._watched is not None
        try:
            write_file_overlay(
                place.where,
                target,
                self._events[place.name],
                self._watched.matcher.bank.geometry,
            )
            outputs.say_written(target)
        except MafsarError as error:
            voice.warn(worded(error))

    def _listen(self, serve: str) -> None:
        """Takes the port before anything is loaded; what is wrong with it is said at once."""
        from mafsar.runtime.studio import serving
        from mafsar.runtime.studio.watch_page import WatchPage

        serving.require_packages("--serve")
        host, port = serving.parse_address(serve)
        self._page = WatchPage(self._places)
        token = serving.own_token()
        self._address = host, serving.bind(host, port, "serve"), token

    def _serve(self, watched: Watch) -> None:
        """Starts the page."""
        if self._page is None or self._address is None:
            return
        from mafsar.runtime.studio import serving

        host, listening, token = self._address
        self._page.attach(watched)
        local = serving.is_loopback(host)
        number = int(listening.getsockname()[1])
        app = self._page.app(token, cookie=f"mafsar-{number}", local=local)
        self._server = serving.Server(app, listening)
        name = f"[{host}]" if ":" in host else host
        voice.tell(f"page: http://{name}:{number}/?token={token}")
        if not local:
            voice.warn(
                "--serve: other machines can reach this page, without encryption; whoever has its"
                " token sees the pictures"
            )

    def _see(self, source: int, seconds: float, picture: Callable[[], Picture]) -> None:
        if self._page is not None:
            self._page.see(source, seconds, picture)
        for overlay in self._live:
            overlay.see(source, seconds, picture)

    def _going_on(self, place: Place) -> Callable[[], list[Shown]]:
        from mafsar.runtime.live.display import Shown

        def now() -> list[Shown]:
            active: list[Any] = [] if self._watched is None else self._watched.active()
            return [
                Shown(span.label, span.score, span.t_start)
                for name, _, span in active
                if name == place.name
            ][:1]

        return now


def video_targets(path: Path | None, count: int) -> list[Path]:
    """The overlay video of each source: the file of ``--save-video``, or FILE-1, FILE-2, …"""
    if path is None:
        return []
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number + 1}{path.suffix}") for number in range(count)]
