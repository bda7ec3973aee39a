"""Is a clip read in the cheapest way? Seeking against decoding through, and how pictures shrink.

    MAFSAR_TEST_DATA=…/real python benchmarks/decode.py [--rounds 5] [--frames 8] [--write]

For each clip of ``street60/`` and ``formats/`` the same T frames are taken in four ways, alternated,
and the medians of their wall-clock times compared:

- *all*: every frame up to the last one wanted is decoded, as a plain loop over a decoder does;
- *through*: the same without the frames that nothing refers to;
- *seek*: each frame from its own key frame;
- *choice*: what the library does, `mafsar.video.decode_plan.plan_runs` with ``auto``.

Opening the file and reading its timestamps is the same for all four and counted in all.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mafsar.video.clip import load_raw_clip
from mafsar.video.container import open_video, pixel_aspect
from mafsar.video.decode import decode_file, decode_moments
from mafsar.video.decode_plan import plan_runs
from mafsar.video.geometry import Geometry
from mafsar.video.picture import Picture, picture_of
from mafsar.video.prefetch import ClipRequest, load_clips
from mafsar.video.preprocess import short_side_size, to_square
from mafsar.video.sampling import frames_shown, segment_times
from mafsar.video.scan import read_timeline

SIZE = 224
WAYS = ("all", "through", "seek", "choice")
CPU = {way: f"{way} cpu" for way in WAYS}


def main() -> None:
    """Prints the tables, and stores them if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default=os.environ.get("MAFSAR_TEST_DATA"), help="folder of clips"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--write", action="store_true", help="store in benchmarks/results/")
    arguments = parser.parse_args()
    if not arguments.data:
        parser.error("give --data, or set MAFSAR_TEST_DATA to the folder of real clips")
    root = Path(arguments.data)
    clips = sorted(root.glob("formats/*.m*")) + sorted(root.glob("street60/*/*.mp4"))
    setting = (
        f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}; {arguments.frames} frames a "
        f"clip, median of {arguments.rounds} alternated rounds. Load of the machine by other "
        f"programs at the start: {os.getloadavg()[0]:.1f} (above 0.5, compare processor times only)."
    )
    lines = [
        "# Reading clips",
        "",
        setting,
        "",
        *decode_table(root, clips, arguments.frames, arguments.rounds),
        "",
        *thread_table(clips, arguments.frames, arguments.rounds),
        "",
        *shrink_table(clips, arguments.rounds),
        "",
        *hdr_table(arguments.rounds),
    ]
    print("\n".join(lines))
    if arguments.write:
        folder = Path(__file__).parent / "results"
        folder.mkdir(exist_ok=True)
        name = "-".join(cpu_name().lower().replace("(r)", "").split())
        (folder / f"decode-{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def decode_table(root: Path, clips: list[Path], frames: int, rounds: int) -> Iterable[str]:
    yield "## Seek or decode through"
    yield ""
    yield "| clip | size | frames | key frames | jumps | all ms | through ms | seek ms | choice ms |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    groups: dict[str, dict[str, float]] = {}
    for clip in clips:
        size, count, keys, jumps = describe(clip, frames)
        medians, work = alternate({way: reader(clip, way, frames) for way in WAYS}, rounds)
        group = "one key frame" if keys == 1 else "several key frames"
        for name in (group, "every clip"):
            sums = groups.setdefault(
                name, dict.fromkeys([*WAYS, *CPU.values()], 0.0) | {"clips": 0}
            )
            for way in WAYS:
                sums[way] += medians[way]
                sums[CPU[way]] += work[way]
            sums["clips"] += 1
        times = " | ".join(f"{medians[way]:.1f}" for way in WAYS)
        yield f"| {clip.relative_to(root)} | {size} | {count} | {keys} | {jumps} | {times} |"
    yield ""
    yield "| sum over | clock | clips | all ms | through ms | seek ms | choice ms | choice / better |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|"
    for name, sums in groups.items():
        for clock, columns in (("wall", WAYS), ("processor", tuple(CPU.values()))):
            times = " | ".join(f"{sums[column]:.0f}" for column in columns)
            _, through, seek, choice = (sums[column] for column in columns)
            ratio = choice / min(through, seek)
            yield f"| {name} | {clock} | {sums['clips']:.0f} | {times} | {ratio:.3f} |"


def describe(clip: Path, frames: int) -> tuple[str, int, int, int]:
    """Returns size, number of frames, of key frames, and of jumps that the library makes."""
    with open_video(clip) as (container, stream):
        timeline = read_timeline(clip, container, stream)
        size = f"{stream.width}x{stream.height}"
    packets, count = timeline.packets, timeline.frame_count or 0
    if packets is None or timeline.times is None or timeline.numbers is None:
        return size, count, 0, 0
    moments = segment_times(timeline.duration_seconds, frames)
    wanted = timeline.numbers[frames_shown(timeline.times, moments)]
    runs = plan_runs(packets, wanted, "auto")
    jumps = len(runs) - 1 + (runs[0].start > 0)
    return size, count, int(packets.key.sum()), jumps


def reader(clip: Path, way: str, frames: int) -> Callable[[], None]:
    """Returns a function that decodes the frames of a clip in one way."""

    def library() -> None:
        with open_video(clip) as (container, stream):
            timeline = read_timeline(clip, container, stream)
            moments = segment_times(timeline.duration_seconds, frames)
            strategy = {"through": "through", "seek": "seek", "choice": "auto"}[way]
            decode_moments(clip, container, stream, timeline, moments, strategy=strategy)

    def plain() -> None:
        with open_video(clip) as (container, stream):
            timeline = read_timeline(clip, container, stream)
            last = segment_times(timeline.duration_seconds, frames)[-1]
            container.seek(0)
            stream.thread_type = "AUTO"
            first: float | None = None
            for frame in container.decode(stream):
                first = frame.time if first is None else first
                if frame.time is not None and first is not None and frame.time - first > last:
                    break

    return plain if way == "all" else library


def thread_table(clips: list[Path], frames: int, rounds: int) -> Iterable[str]:
    yield "## Threads"
    yield ""
    yield f"{len(clips)} clips, decoded and pre-processed to {SIZE}x{SIZE}."
    yield ""
    yield "| how | s |"
    yield "|---|--:|"

    def one_by_one(threads: int) -> Callable[[], None]:
        def run() -> None:
            for clip in clips:
                with open_video(clip) as (container, stream):
                    timeline = read_timeline(clip, container, stream)
                    moments = segment_times(timeline.duration_seconds, frames)
                    decoded = decode_moments(
                        clip, container, stream, timeline, moments, threads=threads
                    )
                for frame in decoded.frames:
                    to_square(picture_of(frame), SIZE, Geometry())

        return run

    def ahead(workers: int) -> Callable[[], None]:
        requests = [ClipRequest(clip, frames, SIZE) for clip in clips]

        def run() -> None:
            for _ in load_clips(requests, workers=workers):
                pass

        return run

    ways: dict[str, Callable[[], None]] = {}
    for threads in (1, 2, 4):
        ways[f"one clip after another, decoder threads {threads}"] = one_by_one(threads)
    for workers in (1, 2, 4):
        ways[f"load_clips, workers {workers}"] = ahead(workers)
    for name, milliseconds in alternate(ways, max(rounds // 3, 1))[0].items():
        yield f"| {name} | {milliseconds / 1000:.2f} |"


def shrink_table(clips: list[Path], rounds: int) -> Iterable[str]:
    yield "## Resize"
    yield ""
    yield f"RGB conversion and resize of one frame to {SIZE}x{SIZE}, and the mean difference (of 255)"
    yield "to Pillow's bicubic resize and crop of the whole picture, which is CLIP's own."
    yield ""
    yield "| picture | clips | whole ms | library ms | differs by | swscale to 2x, Pillow ms | differs by |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    groups: dict[str, list[Path]] = {}
    for clip in clips:
        with open_video(clip) as (_, stream):
            if pixel_aspect(stream) == 1.0:
                side = min(stream.width, stream.height)
                name = "1080 lines" if side >= 1080 else "720 lines" if side >= 720 else "smaller"
                groups.setdefault(name, []).append(clip)
    for name, members in groups.items():
        frames = [decode_file(clip, np.array([0.5])).frames[0] for clip in members]
        ways = {"whole": whole, "library": library, "scaler": scaler}
        made = {way: [shrink(frame) for frame in frames] for way, shrink in ways.items()}
        runs = {way: over(shrink, frames) for way, shrink in ways.items()}
        times = {way: value / len(frames) for way, value in alternate(runs, rounds)[0].items()}
        apart = {
            way: statistics.mean(
                float(np.abs(one.astype(int) - other).mean())
                for one, other in zip(made[way], made["whole"], strict=True)
            )
            for way in ways
        }
        yield (
            f"| {name} | {len(members)} | {times['whole']:.2f} | {times['library']:.2f} | "
            f"{apart['library']:.3f} | {times['scaler']:.2f} | {apart['scaler']:.3f} |"
        )


def hdr_table(rounds: int) -> Iterable[str]:
    yield "## HDR"
    yield ""
    yield "A clip of 1920x1080, 10 bits, 48 frames, the same pixels with three transfer curves: what"
    yield "`data pack` and a training draw read of it (short side 256). Processor time; 1 is SDR."
    yield ""
    yield "| curve | data pack ms | / SDR | training draw ms | / SDR |"
    yield "|---|--:|--:|--:|--:|"
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: hdr_clip(Path(folder) / f"{name}.mp4", curve) for name, curve in CURVES}
        packs = {name: raw_reader(path, 24, None) for name, path in paths.items()}
        draws = {name: raw_reader(path, 8, 0) for name, path in paths.items()}
        pack, draw = (alternate(ways, rounds)[1] for ways in (packs, draws))
    for name, _ in CURVES:
        yield (
            f"| {name} | {pack[name]:.0f} | {pack[name] / pack['SDR']:.2f} | {draw[name]:.0f} | "
            f"{draw[name] / draw['SDR']:.2f} |"
        )


CURVES = (("SDR", 1), ("PQ", 16), ("HLG", 18))


def hdr_clip(path: Path, curve: int) -> Path:
    """A moving gradient in H.265, tagged with a transfer curve (ISO/IEC 23091-2)."""
    import av

    rows, columns = np.mgrid[0:1080, 0:1920]
    with av.open(str(path), "w") as output:
        options = {"crf": "24", "preset": "ultrafast", "x265-params": "log-level=none"}
        stream = output.add_stream("libx265", rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p10le"
        stream.codec_context.color_trc = curve
        matrix = 1 if curve == 1 else 9  # BT.709, as SDR has it, and BT.2020
        stream.codec_context.colorspace = stream.codec_context.color_primaries = matrix
        for number in range(48):
            grey = ((rows + columns + 20 * number) % 1024 * 64).astype(np.uint16)
            picture = np.stack([grey, np.roll(grey, 300, axis=1), grey[::-1]], axis=-1)
            frame = av.VideoFrame.from_ndarray(picture, "rgb48le").reformat(format="yuv420p10le")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def raw_reader(path: Path, frames: int, seed: int | None) -> Callable[[], None]:
    """Returns a function that reads a clip as `data pack` does, or as training with a seed."""

    def run() -> None:
        rng = None if seed is None else np.random.default_rng(seed)
        load_raw_clip(path, frames=frames, short_side=256, rng=rng, threads=1)

    return run


def over(shrink: Callable[[Any], np.ndarray], frames: list[Any]) -> Callable[[], None]:
    def run() -> None:
        for frame in frames:
            shrink(frame)

    return run


def whole(frame: Any) -> np.ndarray:
    """CLIP's transform as it is defined: the whole picture is resized, then cropped."""
    picture = picture_of(frame)
    width, height = short_side_size(picture.width, picture.height, SIZE)
    image = Image.fromarray(picture.pixels).resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))


def library(frame: Any) -> np.ndarray:
    return to_square(picture_of(frame), SIZE, Geometry())


def scaler(frame: Any) -> np.ndarray:
    """FFmpeg's scaler shrinks to twice the size while it converts to RGB, Pillow does the rest."""
    scale = min(2 * SIZE / min(frame.width, frame.height), 1.0)
    reduced = frame.reformat(
        width=round(frame.width * scale), height=round(frame.height * scale), interpolation="AREA"
    )
    pixels = picture_of(reduced).pixels
    return to_square(Picture(pixels, frame.width, frame.height), SIZE, Geometry())


def alternate(
    ways: dict[str, Callable[[], None]], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Runs each way in turn, ``rounds`` times after one warm-up, each round beginning with another.

    Returns the medians in milliseconds: of the wall clock, and of the processor time of all
    threads, which other programs on the machine disturb less.
    """
    wall: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for turn in range(rounds + 1):
        order = order[1:] + order[:1]
        for name in order:
            began, worked = time.perf_counter(), time.process_time()
            ways[name]()
            if turn:
                wall[name].append((time.perf_counter() - began) * 1000)
                work[name].append((time.process_time() - worked) * 1000)
    return (
        {name: statistics.median(values) for name, values in wall.items()},
        {name: statistics.median(values) for name, values in work.items()},
    )


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
