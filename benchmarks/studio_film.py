"""The moving picture of `mafsar studio` in the README, made of rendered clips in a real browser.

    pip install 'mafsar[studio]' playwright    # and Debian's chromium
    python benchmarks/studio_film.py -o docs/images/studio.webp

A class is recorded by the browser's camera, which shows a rendered person; two more come as files; a clip is
named; then the camera is watched. Pictures are taken as fast as the machine allows, and shown in 20 s.
"""

from __future__ import annotations

import argparse
import io
import runpy
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from mafsar.synthetic import render_video

ROOT = Path(__file__).parents[1]
SECONDS = 20.0
SIZE = {"width": 1000, "height": 640}
WATCHED = 9.0
LONGEST = 0.35  # seconds of one picture, where the machine was slow
RECORDED, DROPPED = "wave_hand", ("bend_forward", "put_in_box")
PATIENCE = 180_000


class Camera:
    """Takes pictures of a page with the time that each is shown."""

    def __init__(self) -> None:
        self._page: Any = None
        self.shots: list[tuple[Image.Image, float]] = []

    def look_at(self, page: Any) -> None:
        """Takes the pictures of this page from now on."""
        self._page = page

    def hold(self, seconds: float) -> None:
        """One picture for so long."""
        picture = Image.open(io.BytesIO(self._page.screenshot())).convert("RGB")
        self.shots.append((picture, seconds))

    def film(self, ended: Any, most: float = 120.0, step: float = 0.25) -> None:
        """Pictures until something is true."""
        began = time.monotonic()
        while not ended() and time.monotonic() - began < most:
            at = time.monotonic()
            self.hold(0.0)
            time.sleep(max(0.0, step - (time.monotonic() - at)))
            self.shots[-1] = self.shots[-1][0], min(time.monotonic() - at, LONGEST)


def teach(page: Any, camera: Camera, clips: Path) -> None:
    """Teaching three classes, and trying a clip."""

    def count(label: str) -> int:
        return int(page.locator(f"[data-label='{label}'] .clip").count())

    camera.hold(1.2)
    page.fill("#label", RECORDED)
    page.select_option("#many", "1")
    camera.hold(0.8)
    page.click("#start-record")
    camera.film(lambda: count(RECORDED) == 1)
    camera.hold(0.6)
    for label in DROPPED:
        page.fill("#label", label)
        camera.hold(0.5)
        page.set_input_files("#files", sorted((clips / label).glob("*.mp4")))
        camera.film(lambda label=label: count(label) == 3)
    page.wait_for_timeout(500)
    camera.hold(1.8)
    page.click("nav a[href='#try']")
    page.set_input_files("#try-file", clips / "query.mp4")
    page.wait_for_selector("#answer:not([hidden])", timeout=PATIENCE)
    page.wait_for_timeout(300)
    camera.hold(2.5)


def watch(page: Any, camera: Camera, _clips: Path) -> None:
    """Watching somebody who does two of the three."""
    page.click("nav a[href='#watch']")
    page.click("#watch-start")
    page.wait_for_selector("#events tr", timeout=PATIENCE)
    until = time.monotonic() + WATCHED
    camera.film(lambda: time.monotonic() > until)


def write_webp(shots: list[tuple[Image.Image, float]], path: Path, quality: int) -> None:
    """All pictures in `SECONDS`, as animated WebP."""
    scale = SECONDS / sum(seconds for _, seconds in shots)
    first, *rest = (picture for picture, _ in shots)
    first.save(
        path, "WEBP", save_all=True, append_images=rest, loop=0, quality=quality, method=6,
        duration=[max(round(1000 * scale * seconds), 20) for _, seconds in shots],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "images" / "studio.webp")
    parser.add_argument("--quality", type=int, default=60)
    parser.add_argument("--dark", action="store_true")
    asked = parser.parse_args()
    browser = SimpleNamespace(**runpy.run_path(str(ROOT / "tests" / "live" / "browser.py")))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = browser.write_film(folder / "one.mjpeg", RECORDED, seed=21)
        both = browser.write_film(folder / "both.mjpeg", (RECORDED, DROPPED[0]), seed=21)
        for label in DROPPED:
            (folder / label).mkdir()
            for seed in (1, 2, 3):
                render_video(label, folder / label / f"{seed}.mp4", seed=seed, size=224)
        render_video(DROPPED[0], folder / "query.mp4", seed=11, size=224)
        look = {"viewport": SIZE, "color_scheme": "dark" if asked.dark else "light"}
        camera = Camera()
        with browser.studio(folder / "my actions", folder / "cache") as address:
            for shown, part in ((film, teach), (both, watch)):
                with browser.page(shown, **look) as page:
                    page.set_default_timeout(PATIENCE)
                    page.goto(address)
                    page.wait_for_selector("#verdict h2")
                    camera.look_at(page)
                    part(page, camera, folder)
    write_webp(camera.shots, asked.out, asked.quality)
    size = asked.out.stat().st_size / 1e6
    print(f"{asked.out}: {len(camera.shots)} pictures in {SECONDS:g} s, {size:.2f} MB")


if __name__ == "__main__":
    main()
