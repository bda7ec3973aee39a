"""How much memory does a match need for very large pictures, as a whole process?

Writes each input, matches it against a bank, or a support set that is encoded first, in a process of
its own, and prints the peak resident memory and the seconds.

    python benchmarks/large_pictures.py BANK [--only NAME]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

SPARSE_BYTES = 3 << 30


def eight_pngs(folder: Path) -> Path:
    """A frame folder of eight RGB PNGs of 9000 × 9000."""
    clip = folder / "png9000"
    clip.mkdir()
    for number in range(8):
        image = Image.new("RGB", (9000, 9000), (30 * number, 90, 160))
        image.paste((255, 255, 255), (1000 * number, 3000, 1000 * number + 900, 6000))
        image.save(clip / f"img_{number:05d}.png", compress_level=1)
    return clip


def grey_png(folder: Path) -> Path:
    """One grey PNG of 13000 × 13000."""
    path = folder / "grey13000.png"
    Image.new("L", (13000, 13000), 120).save(path)
    return path


def motion_jpeg(folder: Path) -> Path:
    """Eight frames of 8192 × 8192 as Motion JPEG in AVI."""
    import av

    path = folder / "mjpeg8192.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=4)
        stream.width = stream.height = 8192
        stream.pix_fmt, stream.time_base = "yuvj420p", Fraction(1, 4)
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(
                np.full((8192, 8192, 3), 25 * number, np.uint8), format="rgb24"
            )
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def sparse_gif(folder: Path) -> Path:
    """A small animated GIF with 3 GB of holes behind it."""
    path = folder / "sparse.gif"
    frames = [Image.new("L", (64, 64), 30 * number) for number in range(8)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    with path.open("r+b") as file:
        file.truncate(SPARSE_BYTES)
    return path


INPUTS: dict[str, Callable[[Path], Path]] = {
    "eight RGB PNGs, 9000²": eight_pngs,
    "a grey PNG, 13000²": grey_png,
    "Motion JPEG, 8192²": motion_jpeg,
    "a GIF with 3 GB of holes": sparse_gif,
}


def peak(command: list[str], environment: dict[str, str]) -> tuple[float, float, int]:
    """Peak resident megabytes, seconds and exit status of a process."""
    began = time.perf_counter()
    child = os.posix_spawn(command[0], command, environment)
    _, status, usage = os.wait4(child, 0)
    return usage.ru_maxrss / 1024, time.perf_counter() - began, os.waitstatus_to_exitcode(status)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("support", type=Path)
    parser.add_argument("--only", choices=INPUTS)
    parser.add_argument("--write-to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write_to is not None:
        print(INPUTS[options.only](options.write_to))
        return
    mafsar = str(Path(sys.executable).with_name("mafsar"))
    print("| query | peak RSS, MB | seconds | exit |\n|---|--:|--:|--:|")
    for name in INPUTS:
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            # In a process of its own: a child's peak begins with that of its parent.
            writer = [sys.executable, __file__, ".", "--only", name, "--write-to", folder]
            path = subprocess.run(writer, check=True, capture_output=True, text=True).stdout.strip()
            command = [mafsar, "match", str(options.support), path, "--no-cache", "-q"]
            megabytes, seconds, status = peak(command, dict(os.environ))
        print(f"| {name} | {megabytes:.0f} | {seconds:.1f} | {status} |", flush=True)


if __name__ == "__main__":
    main()
