"""Watch frames that your own OpenCV loop reads.

pip install opencv-python-headless
python examples/opencv_loop.py SUPPORT_OR_BANK CAMERA_OR_FILE
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import cv2
import numpy as np

import mafsar


def frames(source: str) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds, RGB frame) for each frame: a file's own clock, a camera's by arrival."""
    is_camera = source.isdigit()
    capture = cv2.VideoCapture(int(source) if is_camera else source)
    if not capture.isOpened():
        raise SystemExit(f"error: {source}: OpenCV cannot open it")
    fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
    began, number = time.monotonic(), 0
    while True:
        good, frame = capture.read()
        if not good:
            return
        seconds = time.monotonic() - began if is_camera else number / fps
        number += 1
        yield seconds, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)  # OpenCV's pictures are BGR


def main() -> None:
    support, source = sys.argv[1:3]
    for event in mafsar.watch(support, frames(source)):
        print(f"{event.t_start:8.2f} s  {event.event:5}  {event.label}  {event.score:.2f}")


if __name__ == "__main__":
    main()
