"""One way to take eight frames of a clip, as a process that `benchmarks/decode_sides.py` asks.

    python decode_reader.py WAY FRAMES THREADS

A line on stdin names a clip; the answer is one line of JSON: wall and processor seconds, and the
shape of what was read, or an error. It needs the package of its way and numpy only, and not the
mafsar around it: `ours` is whatever mafsar stands first in PYTHONPATH.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def main() -> None:
    """Answers until stdin ends."""
    way, frames, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    read = WAYS[way](frames, threads)
    for line in sys.stdin:
        began, worked = time.perf_counter(), _processor_seconds()
        try:
            answer: dict[str, Any] = {"shape": list(read(line.rstrip("\n")).shape)}
        except Exception as error:  # noqa: BLE001 - a peer's own errors are of many kinds
            answer = {"error": f"{type(error).__name__}: {error}"}
        answer |= {"wall": time.perf_counter() - began, "cpu": _processor_seconds() - worked}
        print(json.dumps(answer), flush=True)


def ours(frames: int, threads: int) -> Callable[[str], np.ndarray]:
    """Upright RGB frames at their own size."""
    from mafsar.video.clip import load_raw_clip

    return lambda path: load_raw_clip(path, frames=frames, threads=threads or None).frames


def square(frames: int, threads: int) -> Callable[[str], np.ndarray]:
    """What a model takes: RGB squares of 224 pixels."""
    from mafsar.video.clip import load_clip

    return lambda path: load_clip(path, frames=frames, size=224, threads=threads or None).pixels


def torchcodec(frames: int, threads: int) -> Callable[[str], np.ndarray]:
    """The frames played at the middles of the segments, timestamps scanned as ours are."""
    from torchcodec.decoders import VideoDecoder

    options = {"num_ffmpeg_threads": threads} if threads else {}

    def read(path: str) -> np.ndarray:
        decoder = VideoDecoder(path, dimension_order="NHWC", seek_mode="exact", **options)
        begin = decoder.metadata.begin_stream_seconds
        moments = _middles(decoder.metadata.end_stream_seconds - begin, frames)
        return decoder.get_frames_played_at((begin + moments).tolist()).data.numpy()

    return read


def decord(frames: int, threads: int) -> Callable[[str], np.ndarray]:
    """The frames shown at the middles of the segments, by decord's own timestamps."""
    from decord import VideoReader, cpu

    def read(path: str) -> np.ndarray:
        reader = VideoReader(path, ctx=cpu(0), num_threads=threads)
        stamps = reader.get_frame_timestamp(np.arange(len(reader)))
        begins, end = stamps[:, 0], float(stamps[-1, 1])
        moments = begins[0] + _middles(end - float(begins[0]), frames)
        index = np.maximum(np.searchsorted(begins, moments, side="right") - 1, 0)
        return reader.get_batch(index.tolist()).asnumpy()

    return read


def opencv(frames: int, threads: int) -> Callable[[str], np.ndarray]:
    """Every frame up to the last one wanted, as OpenCV's seeks are not exact."""
    import cv2

    options = [cv2.CAP_PROP_N_THREADS, threads] if threads else []

    def read(path: str) -> np.ndarray:
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, options)
        count, rate = (capture.get(p) for p in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
        moments = _middles(count / rate, frames)
        taken: list[np.ndarray] = []
        waiting = list(moments)
        while waiting and capture.grab():
            # Shown until the next frame; the rate is constant where OpenCV counts by it.
            ends = (capture.get(cv2.CAP_PROP_POS_FRAMES)) / rate
            if waiting[0] < ends:
                picture = cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
                while waiting and waiting[0] < ends:
                    taken.append(picture)
                    waiting.pop(0)
        capture.release()
        return np.stack(taken + taken[-1:] * len(waiting))

    return read


WAYS = {
    "ours": ours, "square": square, "torchcodec": torchcodec, "decord": decord, "opencv": opencv,
}  # fmt: skip


def _middles(duration: float, frames: int) -> np.ndarray:
    return (np.arange(frames) + 0.5) * duration / frames


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
