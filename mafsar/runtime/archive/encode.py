"""One file of an archive: cut into windows, encoded, and written as a part of the index."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mafsar.errors import MafsarError
from mafsar.files import is_file
from mafsar.runtime.archive.parts import (
    FileRecord,
    Windows,
    read_record,
    to_half,
    write_part,
)
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.archive.store import Store
from mafsar.runtime.encoder import Encoder, Features
from mafsar.runtime.live.windows import Window, WindowCutter
from mafsar.video import content_sha256, load_clip
from mafsar.video.guard import clip_errors
from mafsar.video.live.file_frames import open_file
from mafsar.video.live.frames import OpenSource, TimedFrame
from mafsar.video.motion import motion_levels
from mafsar.video.preprocess import to_square

BATCH = 8
"""Windows per call of the encoder, always of one file: so the rows of a file depend on nothing else."""
_AHEAD = 2  # batches that are decoded ahead of the encoder
ItemT = TypeVar("ItemT")


class StoppedError(Exception):
    """Raised in the threads of a build that has ended early; nobody sees it."""


@dataclass
class FileFacts:
    """What reading a file tells beside its windows; complete when they have ended."""

    duration_seconds: float = 0.0
    fps: float | None = None
    repairs: tuple[str, ...] = ()


@dataclass(eq=False)
class FileEncoder:
    """Encodes files into an index.

    Args:
        store: The index.
        settings: Of the index.
        encoder: Its encoder. On the CPU several files are encoded at once, elsewhere one.
        known: Files that were encoded before; they are known by path, size and time of change, or
            by their content.
    """

    store: Store
    settings: IndexSettings
    encoder: Encoder
    known: Sequence[FileRecord] = ()

    def __post_init__(self) -> None:
        self._by_state = {
            (each.path, each.size_bytes, each.modified_ns): each
            for each in self.known
            if each.modified_ns
        }
        self._by_content = {each.content_sha256: each for each in self.known}
        several = self.encoder.device == "cpu" and self.encoder.engine == "onnx"
        self._turn: Any = nullcontext() if several else threading.Lock()

    def __call__(self, path: str, stopped: threading.Event | None = None) -> FileRecord:
        """The record of a file, which is encoded unless its content was before.

        Args:
            path: The file or frame folder.
            stopped: Ends the work before the next batch when it is set.

        Raises:
            StoppedError: It was set.
        """
        stopped = stopped or threading.Event()
        if stopped.is_set():
            raise StoppedError
        found = self.recall(path)
        if found is not None:
            return found
        state = file_state(path)
        try:
            with clip_errors(path):
                content = content_sha256(path)
            part = FileRecord(content, *state, path)
            same = self._by_content.get(content)
            if same is None and self.store.exists(f"{part.name}.parquet"):
                same = read_record(self.store, f"{content}.parquet")
            if same is not None:  # the content is known of another path, or of another time
                size_bytes, modified_ns = state
                return replace(same, path=path, size_bytes=size_bytes, modified_ns=modified_ns)
            return self._encode(part, stopped)
        except MafsarError as error:
            return FileRecord("", *state, path, error=str(error))

    def recall(self, path: str) -> FileRecord | None:
        """The record of a file that has not changed since it was encoded; None without one."""
        return self._by_state.get((path, *file_state(path)))

    def _encode(self, part: FileRecord, stopped: threading.Event) -> FileRecord:
        facts = FileFacts()
        windows = self._windows(Path(part.path), facts, stopped)
        record = replace(
            part,
            duration_seconds=facts.duration_seconds,
            fps=facts.fps,
            windows=len(windows),
            repairs=facts.repairs,
        )
        write_part(self.store, self.settings, record, windows)
        return record

    def _windows(self, path: Path, facts: FileFacts, stopped: threading.Event) -> Windows:
        rows: list[Windows] = []
        windows = _until(stopped, file_windows(path, self.settings, facts))
        batches = ahead(_batches(windows, BATCH), _AHEAD)
        with closing(batches):
            for batch in _until(stopped, batches):
                rows.append(self._encode_batch(batch, str(path)))
        lengths = np.concatenate([row.length for row in rows]) if rows else np.zeros(0, np.int8)
        missing = sorted(set(range(len(self.settings.lengths))) - set(lengths.tolist()))
        if missing:
            rows.append(self._whole(path, facts, missing))
        return Windows.joined(rows)

    def _whole(self, path: Path, facts: FileFacts, lengths: list[int]) -> Windows:
        """A clip that is shorter than half a window: all of it, as `match` sees it."""
        clip = load_clip(
            path,
            frames=self.settings.frames,
            size=self.settings.size,
            geometry=self.settings.geometry,
            threads=1,
            ignore_clock=self.settings.ignore_clock,
        )
        window = Window(0, lengths[0], 0.0, float(clip.duration_seconds), list(clip.pixels))
        facts.duration_seconds = window.end
        row = self._encode_batch([window], str(path))
        return Windows.joined(
            [replace(row, length=np.array([number], np.int8)) for number in lengths]
        )

    def _encode_batch(self, batch: list[Window], name: str) -> Windows:
        pixels = np.stack([np.stack(window.frames) for window in batch])
        with self._turn:
            features: Features = self.encoder.encode_query(pixels)
        return Windows(
            np.array([window.start for window in batch], np.float64),
            np.array([window.end for window in batch], np.float64),
            np.array([window.length for window in batch], np.int8),
            np.array([motion_levels(each) for each in pixels], np.float32),
            to_half(features.frames, name),
            to_half(features.pooled, name) if self.settings.pooled else None,
        )


def file_state(path: str) -> tuple[int, int]:
    """Size and time of change of a file, nanoseconds; zeros for a folder, whose frames may change."""
    if not is_file(Path(path)):
        return 0, 0
    state = Path(path).stat()
    return state.st_size, state.st_mtime_ns


def file_windows(path: Path, settings: IndexSettings, facts: FileFacts) -> Iterator[Window]:
    """The windows of a file, as `watch` cuts them, in the order in which they are whole.

    Args:
        path: A video or a frame folder.
        settings: Lengths, strides, the picture.
        facts: Is filled in.

    Yields:
        Windows with T frames.

    Raises:
        VideoError: It cannot be read.
    """
    cutter = WindowCutter(settings.plan)

    def squares_of(frame: TimedFrame) -> list[np.ndarray]:
        return [to_square(frame.picture(), settings.size, settings.geometry)]

    def wanted(timeline: Any) -> np.ndarray:
        return cutter.wanted(timeline.duration_seconds)

    with open_file(path, wanted, settings.ignore_clock, threads=1) as source:
        held: TimedFrame | None = None
        for frame in source.frames:
            if held is not None:
                yield from _take(cutter, held, frame.seconds, squares_of)
            held = frame
        if held is not None:
            yield from _take(cutter, held, source.end(), squares_of)
        yield from cutter.finish()
        _note(source, facts)


def _take(
    cutter: WindowCutter, frame: TimedFrame, until: float, squares_of: Any
) -> Iterator[Window]:
    return cutter.take(frame.seconds, until, lambda: squares_of(frame))


def _note(source: OpenSource, facts: FileFacts) -> None:
    facts.duration_seconds = float(source.end())
    facts.fps = source.fps
    facts.repairs = tuple(source.repairs())


def _until(stopped: threading.Event, items: Iterable[ItemT]) -> Iterator[ItemT]:
    """The items of an iterator, until something has happened."""
    for item in items:
        if stopped.is_set():
            raise StoppedError
        yield item


def _batches(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    batch: list[Window] = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def ahead(items: Iterable[ItemT], depth: int) -> Generator[ItemT, None, None]:
    """The items of an iterator, made in a thread ahead of the consumer.

    Args:
        items: Run in the thread; its exception is raised here.
        depth: Items that may wait.
    """
    waiting: queue.Queue[Any] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Any) -> None:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def run() -> None:
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    return
            put((None, None))
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            put((None, error))

    thread = threading.Thread(target=run, name="mafsar-index-decode", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        thread.join()
