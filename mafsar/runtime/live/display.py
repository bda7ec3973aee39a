"""Pictures with what goes on: an overlay video and a window; neither holds up what is watched."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from mafsar.errors import MafsarError, UnavailableError, VideoError, option
from mafsar.video import Geometry, write_video
from mafsar.video.live.file_frames import open_file
from mafsar.video.overlay import Caption, draw_caption, seen_box
from mafsar.video.picture import Picture
from mafsar.video.preprocess import arrange, fitted, resize, short_side_size

_MOST_FPS = 30.0
_LAST_SECONDS = 30.0  # in which a video is finished after the last frame
_SHORT_SIDE = 720
_WAITING = 4
"""Frames that may wait to be drawn; of a live source newer ones are dropped then."""


@dataclass(frozen=True)
class Shown:
    """An event as it is drawn.

    Attributes:
        label: The class.
        score: Its share.
        t_start: Seconds.
        t_end: Seconds, or None while it goes on.
    """

    label: str
    score: float
    t_start: float
    t_end: float | None = None


def caption_of(going_on: Sequence[Shown]) -> Caption:
    """What is written under a frame; an empty label while nothing goes on."""
    if not going_on:
        return Caption("", 0.0)
    first, *others = going_on
    return Caption(first.label, first.score, tuple((each.label, each.score) for each in others))


def drawn(picture: Picture, caption: Caption, geometry: Geometry) -> np.ndarray:
    """A frame as the model saw it, at most 720 pixels on its short side, with its caption."""
    picture = arrange(picture, replace(geometry, roi=None))
    width, height = picture.width, picture.height
    scale = _SHORT_SIDE / min(width, height)
    roi = geometry.roi
    if scale < 1:
        width, height = short_side_size(width, height, _SHORT_SIDE)
        if roi is not None and max(roi) > 1:
            x, y, w, h = (value * scale for value in roi)
            roi = (x, y, min(w, width - x), min(h, height - y))
    frame = resize(picture, width, height)
    return draw_caption(frame, caption, seen_box(frame, replace(geometry, roi=roi)))


def write_file_overlay(
    source: Path, out: Path, events: Sequence[Shown], geometry: Geometry
) -> Path:
    """Writes a file that was watched as MP4 with its events; decodes it a second time.

    Raises:
        VideoError: It cannot be decoded or written.
    """
    with open_file(source) as opened:
        fps = min(opened.fps or 25.0, _MOST_FPS)

        def frames() -> Iterator[np.ndarray]:
            size: tuple[int, int] | None = None
            number = 0
            held: Callable[[], Picture] | None = None

            def paint(picture: Callable[[], Picture], until: float) -> Iterator[np.ndarray]:
                nonlocal number, size
                made: Picture | None = None
                while number / fps < until - 1e-6:
                    made = made or picture()
                    at = number / fps
                    number += 1
                    on = [each for each in events if each.t_start <= at < (each.t_end or at + 1)]
                    image = drawn(made, caption_of(on[:1]), geometry)
                    size = size or (image.shape[1], image.shape[0])
                    yield fitted(image, *size)

            for frame in opened.frames:
                if held is not None:
                    yield from paint(held, frame.seconds)
                held = frame.picture
            if held is not None:
                yield from paint(held, opened.end())

        return write_video(out, frames(), Fraction(fps).limit_denominator(1000))


class LiveOverlay:
    """Draws the frames of a live source in a thread and hands them to who shows or writes them.

    Frames come by `see`, in the thread of the source, and are dropped when the drawing is late.

    Args:
        source: Number of the source.
        going_on: What goes on now.
        geometry: Which part the model sees.
        fps: At most so many frames a second.
    """

    def __init__(
        self,
        source: int,
        going_on: Callable[[], Sequence[Shown]],
        geometry: Geometry,
        fps: float = 15.0,
    ) -> None:
        self.dropped = 0
        self.fps = fps
        self._source, self._going_on, self._geometry = source, going_on, geometry
        self._frames: queue.Queue[tuple[float, Callable[[], Picture]]] = queue.Queue(_WAITING)
        self._next = 0.0
        self._closed = threading.Event()

    def see(self, source: int, seconds: float, picture: Callable[[], Picture]) -> None:
        """Takes a frame, if it is of this source and its time has come; never waits."""
        if source != self._source or seconds < self._next:
            return
        self._next = max(self._next + 1.0 / self.fps, seconds)
        try:
            self._frames.put_nowait((seconds, picture))
        except queue.Full:
            self.dropped += 1

    def pictures(self) -> Iterator[tuple[float, np.ndarray]]:
        """The drawn frames with their times, until `close`."""
        while not self._closed.is_set() or not self._frames.empty():
            try:
                seconds, picture = self._frames.get(timeout=0.2)
            except queue.Empty:
                continue
            yield seconds, drawn(picture(), caption_of(self._going_on()), self._geometry)

    def close(self) -> None:
        """No more frames come."""
        self._closed.set()


class VideoWriter(threading.Thread):
    """Writes what a `LiveOverlay` draws as MP4, at a constant rate.

    Args:
        overlay: Draws the frames.
        path: The file.

    Attributes:
        error: Why there is no file after `finish`, or None.
    """

    def __init__(self, overlay: LiveOverlay, path: Path) -> None:
        super().__init__(name="mafsar-overlay", daemon=True)
        self.error: MafsarError | None = None
        self._overlay, self._path = overlay, path
        self.start()

    def run(self) -> None:
        """Writes until the overlay is closed."""
        try:
            write_video(self._path, self._steady(), self._overlay.fps)
        except MafsarError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - of any decoder, font or encoder
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.error = VideoError(f"{self._path}: was not written ({reason})")
            self.error.__cause__ = error

    def finish(self) -> None:
        """Closes the overlay and puts the file in place; what went wrong is then in `error`."""
        self._overlay.close()
        self.join(_LAST_SECONDS)
        if self.is_alive():
            self.error = VideoError(
                f"{self._path}: was not written: its last frames took longer than"
                f" {_LAST_SECONDS:g} s; free the processor, or watch with fewer sources"
            )

    def _steady(self) -> Iterator[np.ndarray]:
        """The frames at equal steps: one that is shown for longer is repeated."""
        number, first = 0, None
        size: tuple[int, int] | None = None
        for seconds, image in self._overlay.pictures():
            first = seconds if first is None else first
            size = size or (image.shape[1], image.shape[0])
            image = fitted(image, *size)
            due = max(round((seconds - first) * self._overlay.fps), number) + 1
            for _ in range(min(due - number, round(60 * self._overlay.fps))):
                yield image
            number = due


class Screen(threading.Thread):
    """Shows what a `LiveOverlay` draws in a window, where there is a display.

    Raises:
        UnavailableError: There is no display, or Python has no tkinter.
    """

    def __init__(self, overlay: LiveOverlay, title: str, on_close: Callable[[], None]) -> None:
        super().__init__(name="mafsar-screen", daemon=True)
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise UnavailableError(
                option(show=True), ": there is no display here; write a video with ",
                option("save_video"),
            )  # fmt: skip
        try:
            import tkinter as tk  # noqa: F401
        except ImportError:
            raise UnavailableError(
                option(show=True), ": this Python has no tkinter; sudo apt-get install python3-tk"
            ) from None
        self._overlay, self._title, self._on_close = overlay, title, on_close
        self.start()

    def run(self) -> None:
        """Draws until the overlay or the window is closed."""
        import tkinter as tk

        from PIL import Image, ImageTk

        try:
            root = tk.Tk()
        except tk.TclError:
            return  # the display has gone away
        root.title(self._title)
        root.protocol("WM_DELETE_WINDOW", self._on_close)
        pane = tk.Label(root)
        pane.pack()
        for _, image in self._overlay.pictures():
            photo = ImageTk.PhotoImage(Image.fromarray(image))
            pane.configure(image=photo)
            root.update()
            time.sleep(0.001)
        root.destroy()
