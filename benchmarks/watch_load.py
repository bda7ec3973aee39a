"""What `mafsar watch` needs on large sources: memory on a 4K file, and four 720p files side by side.

    python benchmarks/watch_load.py                # four measurements, at most four minutes each
    python benchmarks/watch_load.py --only 4k

Each measurement runs in a process of its own, and is given up after `--limit` seconds. "real time" is seconds of source over seconds of wall
clock (of CPU in brackets, of all threads: on two idle cores the wall is half of that at best).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# Film, how many at once, window and stride in seconds (None = automatic).
MEASURED: dict[str, tuple[str, int, float | None, float | None]] = {
    "4k": ("4k", 1, None, None),
    "one_720p": ("720", 1, None, None),
    "one_160": ("160", 1, None, None),
    "four_720p_one_window_a_second": ("720", 4, 2.0, 1.0),
}


def film(path: Path, width: int, height: int, seconds: float, fps: int = 25) -> Path:
    """A rendered action, enlarged, in H.264."""
    if path.exists():
        return path
    from PIL import Image

    from mafsar.synthetic import render_clip
    from mafsar.video import write_video

    frames = np.asarray(render_clip("wave_hand", seed=1, frames=25, size=224))
    large = [np.asarray(Image.fromarray(frame).resize((width, height))) for frame in frames[:6]]
    path.parent.mkdir(parents=True, exist_ok=True)
    turn = [*large, *large[::-1]]
    return write_video(path, (turn[k % len(turn)] for k in range(int(seconds * fps))), fps)


def peak_mb() -> float:
    """The most memory that this process has had, MB. `ru_maxrss` would be its parent's at first."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def watch(paths: list[str], window: float | None, stride: float | None) -> dict[str, float]:
    """Watches files with three rendered classes and says what it took."""
    import mafsar
    from mafsar.synthetic import render_clip

    names = ("wave_hand", "bend_forward", "side_bend")
    clips = {name: [np.asarray(render_clip(name, seed=3, frames=24, size=112))] for name in names}
    bank = mafsar.enroll(clips, fps=12, text="off")
    before = peak_mb()
    watched = mafsar.watch(bank, *paths, window=None if window is None else [window], stride=stride)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in watched:
        pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    seconds = watched.watched_seconds
    return {
        "source_seconds": seconds, "windows": watched.windows, "wall": wall, "cpu": cpu,
        "real_time": seconds / wall, "real_time_cpu": seconds / cpu,
        "windows_per_second": watched.windows / wall,
        "rss_mb": peak_mb(),
        "rss_before_mb": before,
    }  # fmt: skip


def apart(
    paths: list[Path], window: float | None, stride: float | None, limit: float
) -> dict[str, float] | None:
    """The same in a process of its own; None where it took longer than `limit` seconds."""
    words = json.dumps([[str(path) for path in paths], window, stride])
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--one", words],
            capture_output=True, text=True, check=True, timeout=limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of the films")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds of one measurement")
    parser.add_argument("--only", choices=MEASURED, help="one of the measurements")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mafsar-watch")
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(watch(*json.loads(asked.one))))
        return
    sizes = {"4k": (3840, 2160), "720": (1280, 720), "160": (160, 160)}
    results: dict[str, dict[str, float] | None] = {}
    for name in (asked.only,) if asked.only else MEASURED:
        size, count, window, stride = MEASURED[name]
        path = film(asked.folder / f"{size}-{asked.seconds:g}.mp4", *sizes[size], asked.seconds)
        results[name] = row = apart([path] * count, window, stride, asked.limit)
        shown = row and {key: round(value, 2) for key, value in row.items()}
        print(name, shown or f"not done in {asked.limit:g} s", flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
