"""Is reading a clip as fast as before, and as what a user would take instead?

    MAFSAR_TEST_DATA=…/real python benchmarks/decode_sides.py [--before COMMIT] [--rounds 7] [--write]
    …/bin/pip install numpy torch torchcodec decord opencv-python-headless    # in an environment of its own
    … python benchmarks/decode_sides.py --peers …/bin/python [--ffmpeg FOLDER]

Each side is a process that takes eight frames by time of one clip after another; the sides take
turns at every clip, each round beginning with another, so that a busy machine slows all of them.
A figure is the median over the rounds; ratios are of sums over all clips, round by round, and their
median is given. Above 1 this mafsar is faster.

- *before*: mafsar as of a commit, read with `git archive`;
- *now*: this mafsar. Both as upright RGB frames of their own size, and as squares of 224 pixels;
- *torchcodec*, *decord*, *OpenCV*, where `--peers` has them: RGB frames of their own size, each with
  its default threads and with one a core, the faster of the two counts.

`--ffmpeg` names a folder with FFmpeg's shared libraries, which torchcodec needs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from decode import cpu_name

HERE = Path(__file__).parent
PEERS = ("torchcodec", "decord", "opencv")


@dataclass
class Side:
    """A process that reads clips.

    Attributes:
        name: In the table.
        process: Answers a line for a line.
        wall: Seconds of each clip, by round.
        cpu: The same in processor time.
        failed: Clips that it cannot read, with the reason.
    """

    name: str
    process: subprocess.Popen[str]
    wall: dict[Path, list[float]] = field(default_factory=dict)
    cpu: dict[Path, list[float]] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)

    @staticmethod
    def start(
        name: str, way: str, frames: int, threads: int, python: str, env: dict[str, str]
    ) -> Side:
        """Starts the process of one side."""
        command = [python, str(HERE / "decode_reader.py"), way, str(frames), str(threads)]
        process = subprocess.Popen(
            command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, cwd=tempfile.gettempdir(), env=os.environ | env,
        )  # fmt: skip
        return Side(name, process)

    def ask(self, clip: Path) -> dict[str, Any]:
        """Reads one clip."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{clip}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"error": "its process has ended"}

    def take(self, clip: Path) -> None:
        """Reads one clip and notes the time."""
        answer = self.ask(clip)
        if "error" in answer:
            self.failed[clip] = answer["error"]
            return
        self.wall.setdefault(clip, []).append(answer["wall"])
        self.cpu.setdefault(clip, []).append(answer["cpu"])


def main() -> None:
    """Prints the tables, and stores them if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default=os.environ.get("MAFSAR_TEST_DATA"), help="folder of clips"
    )
    parser.add_argument("--before", metavar="COMMIT", help="compare with mafsar as of this commit")
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has the peers")
    parser.add_argument("--ffmpeg", metavar="FOLDER", help="FFmpeg's libraries for torchcodec")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--write", action="store_true", help="store in benchmarks/results/")
    arguments = parser.parse_args()
    if not arguments.data:
        parser.error("give --data, or set MAFSAR_TEST_DATA to the folder of real clips")
    root = Path(arguments.data).resolve()
    clips = [
        clip for folder in ("formats", "scenes6", "street60")
        for clip in sorted((root / folder).rglob("*.m*")) if clip.is_file()
    ]  # fmt: skip
    load = os.getloadavg()[0]
    lines = [
        "# Reading clips: before, now, and others",
        "",
        (
            f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}; {len(clips)} clips, "
            f"{arguments.frames} frames by time of each, {arguments.rounds} rounds, sides in turns "
            f"at every clip. Load of the machine by other programs at the start: {load:.1f}."
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        sides = start_sides(arguments, Path(folder))
        try:
            run(sides, clips, arguments.rounds)
        finally:
            for side in sides:
                side.process.kill()
                side.process.wait()
    lines += tables(sides, clips, arguments.rounds)
    print("\n".join(lines))
    if arguments.write:
        name = "-".join(cpu_name().lower().replace("(r)", "").split())
        out = HERE / "results" / f"decode-sides-{name}.md"
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def start_sides(arguments: argparse.Namespace, folder: Path) -> list[Side]:
    """The processes of all sides; a peer that is not installed is left out."""
    frames, cores = arguments.frames, os.cpu_count() or 1
    sides = [
        Side.start(name, way, frames, 0, sys.executable, {})
        for name, way in (("now", "ours"), ("now, squares", "square"))
    ]
    if arguments.before:
        archive = subprocess.run(
            ["git", "-C", str(HERE.parent), "archive", arguments.before, "mafsar"],
            check=True, capture_output=True,
        ).stdout  # fmt: skip
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        env = {"PYTHONPATH": str(folder)}
        sides += [
            Side.start(name, way, frames, 0, sys.executable, env)
            for name, way in (("before", "ours"), ("before, squares", "square"))
        ]
    if arguments.peers:
        env = {"LD_LIBRARY_PATH": arguments.ffmpeg} if arguments.ffmpeg else {}
        for peer in PEERS:
            for name, threads in ((peer, 0), (f"{peer}, {cores} threads", cores)):
                sides.append(
                    Side.start(
                        name, peer, frames, threads, arguments.peers,
                        env if peer == "torchcodec" else {},
                    )
                )  # fmt: skip
    return sides


def run(sides: list[Side], clips: list[Path], rounds: int) -> None:
    """Reads every clip by every side, once to warm up and then ``rounds`` times."""
    for side in sides:
        first = side.ask(clips[0])
        if "error" in first:
            print(f"{side.name}: left out ({first['error'][:200]})", file=sys.stderr)
    sides[:] = [side for side in sides if "error" not in side.ask(clips[0])]
    order = list(sides)
    for _ in range(rounds):
        for clip in clips:
            order = order[1:] + order[:1]
            for side in order:
                side.take(clip)


def tables(sides: list[Side], clips: list[Path], rounds: int) -> list[str]:
    """The lines of the tables."""
    named = {side.name: side for side in sides}
    read = [clip for clip in clips if all(clip not in side.failed for side in sides)]
    lines = [
        "", f"Sums over the {len(read)} clips that every side reads.", "",
        "| side | wall s | processor s | now / it: wall | processor | clips it cannot read |",
        "|---|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for side in sides:
        own = named["now, squares" if side.name.endswith("squares") else "now"]
        wall, cpu = (
            statistics.median(_sums(times, read, rounds)) for times in (side.wall, side.cpu)
        )
        ratios = [
            statistics.median(
                its / mine
                for its, mine in zip(
                    _sums(theirs, read, rounds), _sums(ours, read, rounds), strict=True
                )
            )
            for theirs, ours in ((side.wall, own.wall), (side.cpu, own.cpu))
        ]
        lines.append(
            f"| {side.name} | {wall:.2f} | {cpu:.2f} | {ratios[0]:.3f} | {ratios[1]:.3f} | "
            f"{len(side.failed)} |"
        )
    for side in sides:
        lines += [
            f"\n{side.name} cannot read {clip.name}: {why}" for clip, why in side.failed.items()
        ]
    return lines


def _sums(times: dict[Path, list[float]], clips: list[Path], rounds: int) -> list[float]:
    """Of each round the sum over the clips."""
    return [sum(times[clip][number] for clip in clips) for number in range(rounds)]


if __name__ == "__main__":
    main()
