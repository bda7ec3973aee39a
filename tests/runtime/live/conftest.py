"""Clips that go through colours, a bank of them, and a live source on loopback."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

import mafsar

FPS = 10


def colours(kind: int, frames: int = 20, size: int = 32) -> np.ndarray:
    """A clip that moves through colours of its kind, (T, H, W, 3)."""
    rng = np.random.default_rng(100 + kind)
    ends = rng.integers(20, 235, (2, 4, 4, 3))
    share = np.linspace(0, 1, frames)[:, None, None, None]
    small = (1 - share) * ends[0] + share * ends[1]
    return small.repeat(size // 4, 1).repeat(size // 4, 2).astype(np.uint8)


@pytest.fixture
def clip_of() -> Callable[..., np.ndarray]:
    return colours


@pytest.fixture
def bank(encoder: Any) -> mafsar.Bank:
    """Classes `a`, `b` and `c` of one clip of 2 s each."""
    return mafsar.enroll({name: [colours(k)] for k, name in enumerate("abc")}, encoder, fps=FPS,
                         text="off", cache=False)  # fmt: skip


@pytest.fixture
def scene() -> list[tuple[float, np.ndarray]]:
    """`a`, then `c`, then `b`, 2 s each, as (seconds, frame)."""
    frames = np.concatenate([colours(0), colours(2), colours(1)])
    return [(k / FPS, frame) for k, frame in enumerate(frames)]


class _Camera(BaseHTTPRequestHandler):
    """Sends pictures as JPEG, one after another, as network cameras do."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        from PIL import Image

        camera: Any = self.server
        camera.visits += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for frame in camera.pictures(camera.visits):
                data = io.BytesIO()
                Image.fromarray(frame).save(data, "JPEG", quality=95)
                head = (
                    f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {data.tell()}\r\n\r\n"
                )
                self.wfile.write(head.encode() + data.getvalue() + b"\r\n")
                time.sleep(camera.pause)
        except OSError:
            pass  # whoever watched has gone

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def live_camera() -> Callable[..., Any]:
    """A camera on loopback: `pictures(visit)` gives the frames of each connection."""

    @contextmanager
    def serve(pictures: Callable[[int], Any], fps: float = 20) -> Iterator[str]:
        server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Camera)
        server.pictures, server.pause, server.visits = pictures, 1 / fps, 0
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/video.mjpg"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    return serve
