"""Does a training loop wait for data? Episodes a second from a packed store, and the share waited.

    python benchmarks/loader.py [--step 0.4] [--workers 1,2] [--episodes 60] [--size 224] [--write]

Clips are rendered (or taken from ``--data``), packed with the default settings, and loaded as 5-way
1-shot episodes with one query a class: 10 clips of 8 frames, short side 256, random 224² crops.

- *loading*: episodes a second that worker processes deliver, nothing else running;
- *waiting*: the share of the time that a loop waits which takes ``--step`` seconds for an episode
  (on a GPU a step leaves the processor free, so the loop sleeps);
- *processor time*: what one episode costs, which a busy machine does not change; a worker with a
  core of its own feeds any step that takes longer than this;
- *videos*: the same straight from the videos, for comparison.

The target of training is ≤ 5 % of the time waiting.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import torch

from mafsar.data.catalogue import Catalogue
from mafsar.data.episodes import draw_episodes
from mafsar.data.frames import frames_of
from mafsar.data.loader import EpisodeDataset, EpisodeLoader
from mafsar.data.open_data import open_data
from mafsar.data.pack import pack
from mafsar.synthetic import class_names, render_video

TARGET = 0.05
WARM = 5  # episodes before the clock starts: the workers are starting


def main() -> None:
    """Prints the table, and stores it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="class folders, CSV or store instead of rendering"
    )
    parser.add_argument("--step", type=float, default=0.4, help="seconds a step takes")
    parser.add_argument("--workers", default="1,2", help="worker processes, comma-separated")
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--write", action="store_true", help="store in benchmarks/results/")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or render(Path(folder) / "clips")
        store = Path(folder) / "clips.sqlite"
        videos = open_data(data=data)
        result = pack(videos, store, workers=os.cpu_count() or 1)
        clips = len(videos.clips)
        packing = (
            f"packed {result.packed} clips in {result.seconds:.1f} s "
            f"({result.packed / result.seconds:.1f} clips/s), {result.frames} frames, "
            f"{result.size_bytes / 1e6:.1f} MB ({result.size_bytes / 1e3 / clips:.0f} kB a clip)"
        )
        lines = table(arguments, open_data(data=store), videos)
    setting = (
        f"{cpu_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {clips} clips; "
        f"{arguments.episodes} episodes of 10 clips, 8 frames, {arguments.size}²; step "
        f"{arguments.step:g} s"
    )
    report = "\n".join([setting, "", packing, "", *lines, ""])
    print(report)
    if arguments.write:
        out = Path(__file__).parent / "results" / "loader.md"
        out.parent.mkdir(exist_ok=True)
        out.write_text(f"# Loader\n\n{report}", encoding="utf-8")


def table(arguments: argparse.Namespace, packed: Catalogue, videos: Catalogue) -> list[str]:
    """The lines of the Markdown table."""
    lines = [
        "| from | processor time an episode | workers | episodes/s | waiting at that step | target |",
        "|---|---|---|---|---|---|",
    ]
    for name, catalogue in (("store", packed), ("videos", videos)):
        cost = processor_time(catalogue, arguments)
        for workers in (int(number) for number in arguments.workers.split(",")):
            rate, _ = measure(catalogue, arguments, workers, step=0.0)
            _, share = measure(catalogue, arguments, workers, step=arguments.step)
            verdict = "–" if name == "videos" else "holds" if share <= TARGET else "missed"
            lines.append(
                f"| {name} | {1e3 * cost:.0f} ms | {workers} | {rate:.1f} | {100 * share:.1f} % | "
                f"{verdict} |"
            )
    return lines


def measure(
    catalogue: Catalogue, arguments: argparse.Namespace, workers: int, *, step: float
) -> tuple[float, float]:
    """Returns (episodes a second, share of the time waited) after the workers have started."""
    loader = EpisodeLoader(episodes_of(catalogue, arguments), workers=workers)
    began = time.perf_counter()
    for number, _ in enumerate(loader):
        if number + 1 == WARM:
            began = time.perf_counter()
            loader.wait_seconds = loader.busy_seconds = 0.0
        elif step and number >= WARM:
            time.sleep(step)
    seconds = time.perf_counter() - began
    return arguments.episodes / seconds, loader.wait_share


def processor_time(catalogue: Catalogue, arguments: argparse.Namespace) -> float:
    """Seconds of one core that an episode costs, loaded in this process."""
    dataset = episodes_of(catalogue, arguments)
    dataset.load(0)
    began = time.process_time()
    for number in range(1, 6):
        dataset.load(number)
    return (time.process_time() - began) / 5


def episodes_of(catalogue: Catalogue, arguments: argparse.Namespace) -> EpisodeDataset:
    """Training episodes of all classes."""
    data = catalogue.select("test")
    count = max(arguments.episodes, 1) + WARM
    episodes = draw_episodes(data.class_index, data.labels, episodes=count, seed=0)
    source = frames_of(catalogue)
    return EpisodeDataset(
        data, episodes, source, frames=8, size=arguments.size, train=True, flip=True
    )


def render(folder: Path) -> Path:
    """Renders 6 classes of 6 clips of 2 s, 320 pixels a side."""
    for label in class_names()[:6]:
        (folder / label).mkdir(parents=True)
        for seed in range(6):
            render_video(label, folder / label / f"{seed}.mp4", seed=seed, seconds=2.0, size=320)
    return folder


def cpu_name() -> str:
    """The processor's name, as Linux has it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()
