"""A studio on a free port and Chromium with a film in place of its camera."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mafsar.synthetic import render_clip

if TYPE_CHECKING:
    from playwright.sync_api import Page

MAFSAR = (sys.executable, "-c", "from mafsar.cli.app import main; main()")
FPS = 12


def write_film(
    path: Path, labels: str | Sequence[str], seed: int, seconds: float = 2.0, rest: float = 0.4
) -> Path:
    """Rendered actions as Motion JPEG, 640 × 480, which Chromium plays again and again.

    Args:
        path: The file, `.mjpeg`.
        labels: The action, or several in turn.
        seed: Person and place.
        seconds: Length of each.
        rest: Seconds before and after each.
    """
    import av

    count, still = round(seconds * FPS), round(rest * FPS)
    frames: list[np.ndarray] = []
    for label in [labels] if isinstance(labels, str) else labels:
        shown = [
            np.asarray(Image.fromarray(np.asarray(frame)).resize((480, 480)))
            for frame in render_clip(label, seed=seed, frames=count, size=240)
        ]
        frames += [shown[0]] * still + shown + [shown[-1]] * still
    with av.open(str(path), "w", format="mjpeg") as out:
        stream = out.add_stream("mjpeg", rate=FPS, options={"q:v": "3"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        for frame in frames:
            wide = np.full((480, 640, 3), 40, np.uint8)
            wide[:, 80:560] = frame
            out.mux(stream.encode(av.VideoFrame.from_ndarray(wide, "rgb24")))
        out.mux(stream.encode())
    return path


@contextmanager
def studio(support: Path, cache: Path) -> Iterator[str]:
    """Runs `mafsar studio`; gives its whole address."""
    child = subprocess.Popen(
        [*MAFSAR, "studio", support.name, "--port", "0", "--text", "off"], cwd=support.parent,
        stdout=subprocess.PIPE, text=True, env={**os.environ, "MAFSAR_CACHE": str(cache)},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), "the studio has not started"
        yield address
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


@contextmanager
def page(film: Path | None = None, **context: Any) -> Iterator[Page]:
    """A page of a new browser; what its console complains of fails the test.

    Args:
        film: What its camera shows.
        context: Of Playwright's `new_context`, as `viewport` and `color_scheme`.
    """
    from playwright.sync_api import sync_playwright

    words = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    if film is not None:
        words.append(f"--use-file-for-fake-video-capture={film}")
    if os.geteuid() == 0:
        words.append("--no-sandbox")  # Chromium refuses root with it
    program = shutil.which("chromium") or "/usr/bin/chromium"
    complaints: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=words)
        made = browser.new_context(**context).new_page()
        made.on("pageerror", lambda error: complaints.append(str(error)))
        made.on(
            "console",
            # Answers 4xx are said on the page; the console names them as well.
            lambda said: (
                complaints.append(said.text)
                if said.type == "error" and "Failed to load resource" not in said.text
                else None
            ),
        )
        try:
            yield made
        finally:
            browser.close()
    assert complaints == []
