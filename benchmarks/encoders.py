"""Is our encoder on a CPU as fast as the fastest, and does a clip cost no more than its parts?

First, one clip of 8 frames of 224² through the same adapted ViT-B/32 and B/16 (random weights, query
branch): torch eager, torch.compile, OpenVINO (a yardstick; `--openvino DIR` names a folder that it
was installed into) on the bundle's own graph, and ours: the bundle on ONNX Runtime and, where it is
installed, on OpenVINO, in fp32 and, where it has such graphs, int8. "Ours" of the demands is the
faster engine in fp32, which `auto` takes once `mafsar bench` has compared them. Sides are compared with torch before they are timed, then take
turns; a figure is the median over the rounds of a round's fastest call. Beside the clock stands the
processor's time, which a busy machine changes less.

Then, a rendered 1080p video of 2 s: through `match` (decoded ahead of the encoder, as the command
does it) against the sum of decoding the needed frames, resizing them and encoding them, each alone.

    python benchmarks/encoders.py [--models vit-b-32,vit-b-16] [--threads 2] [--rounds 7]
        [--calls 3] [--no-compile] [--no-clips] [--openvino DIR] [--work DIR] [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from encoder_sides import (
    Frames,
    Side,
    adapted_bundle,
    adapted_network,
    openvino,
    ours,
    ours_on_openvino,
    torch_compiled,
    torch_eager,
)

from mafsar import kernels
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.onnx_encoder import OnnxEncoder
from mafsar.runtime.engines.parity import compare
from mafsar.runtime.machine.system import system_facts
from mafsar.runtime.match.matcher import Matcher
from mafsar.synthetic import class_names, render_clip, render_video
from mafsar.video import load_clip, write_video

RESULTS = Path(__file__).parent / "results"
ENGINE_TARGET, INT8_TARGET = 1.02, 1.3
CLIP_TARGET, CLIPS_TARGET = 1.05, 0.9
MANY, VIDEOS = 16, 4  # clips through one command, of so many different videos
SEED = 9_000_000


@dataclass(frozen=True)
class Timing:
    """One side: medians over the rounds.

    Attributes:
        milliseconds: By the clock.
        processor_milliseconds: Of all threads.
        cosine: Least, of a frame feature to torch's.
    """

    milliseconds: float
    processor_milliseconds: float
    cosine: float


def rendered(count: int, size: int) -> Frames:
    """Clips of 8 frames, (count, 8, size, size, 3)."""
    names = class_names("test")
    return np.stack(
        [
            render_clip(names[k % len(names)], seed=SEED + k, frames=8, size=size)
            for k in range(count)
        ]
    )


def alternate(sides: dict[str, Side], size: int, rounds: int, calls: int) -> dict[str, Timing]:
    """Every side's time, all of them round by round; the first side is what others must equal."""
    clips = rendered(2, size)
    reference = next(iter(sides.values()))(clips[:1])
    cosines = {name: compare(reference, side(clips[:1])).min_cosine for name, side in sides.items()}
    clock: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            best, spent = [], []
            for call in range(calls):
                clip = clips[(number + call) % 2][None]
                began, used = time.perf_counter(), time.process_time()
                side(clip)
                best.append(time.perf_counter() - began)
                spent.append(time.process_time() - used)
            clock[name].append(min(best))
            processor[name].append(min(spent))
    return {
        name: Timing(
            1e3 * statistics.median(clock[name]),
            1e3 * statistics.median(processor[name]),
            cosines[name],
        )
        for name in sides
    }


def encoders(name: str, options: argparse.Namespace, bundle: Bundle) -> dict[str, Timing]:
    """All sides of one model."""
    network = adapted_network(name)
    sides: dict[str, Side] = {"torch eager": torch_eager(network)}
    if not options.no_compile:
        sides["torch.compile"] = torch_compiled(network)
    yardstick = openvino(bundle, options.threads)
    if yardstick is not None:
        sides["OpenVINO"] = yardstick
    second = ours_on_openvino(bundle, options.threads)
    if second is not None:
        sides["ours fp32, openvino"] = second
    for precision in ("fp32", "int8"):
        if precision in bundle.precisions():
            sides[f"ours {precision}"] = ours(bundle, options.threads, precision)[1]
    return alternate(sides, bundle.spec.image_size, options.rounds, options.calls)


def whole_clips(bundle: Bundle, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Seconds of one 1080p clip and of 16 through `match`, and of their parts, medians."""
    encoder, encode = ours(bundle, options.threads)
    support = folder / "support"
    for label in class_names("test")[:2]:
        render_video(label, support / label / "0.mp4", seed=SEED)
    bank = enroll(support, encoder, text="off", cache=False)
    videos = [
        write_video(folder / f"{number}.mp4", full_hd(number), 30) for number in range(VIDEOS)
    ]
    paths = [videos[number % VIDEOS] for number in range(MANY)]
    rounds: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, seconds in one_round(bank, encoder, encode, paths).items():
            rounds.setdefault(name, []).append(seconds)
    return {name: statistics.median(values) for name, values in rounds.items()}


def one_round(bank, encoder: OnnxEncoder, encode: Side, paths: list[Path]) -> dict[str, float]:
    """Each part alone, then one clip and all clips through `match`."""
    frames, size = encoder.spec.frames, encoder.spec.image_size
    clips = [load_clip(path, frames=frames, size=size) for path in paths[:VIDEOS]]
    began = time.perf_counter()
    for clip in clips[:3]:
        encode(clip.pixels[None])
    encoding = (time.perf_counter() - began) / 3
    found = {
        "decode": statistics.mean(clip.decode_seconds for clip in clips),
        "resize": statistics.mean(clip.preprocess_seconds for clip in clips),
        "encode": encoding,
    }
    for name, asked in (("one clip", paths[:1]), ("16 clips", paths)):
        began = time.perf_counter()
        answers = list(Matcher(bank, encoder).stream(asked))
        found[name] = (time.perf_counter() - began) / len(asked)
        assert all(answer.label for answer in answers)
    return found


def full_hd(number: int):
    """60 frames of 1920×1080: a rendered clip, enlarged, with grain, as a camera gives it."""
    names = class_names("test")
    small = render_clip(names[number % len(names)], seed=SEED + number, frames=60, size=270)
    rng = np.random.default_rng(number)
    grain = rng.integers(0, 12, (4, 1080, 1920, 1), np.uint8)
    for index, frame in enumerate(small):
        picture = frame.repeat(4, 0)
        picture = np.concatenate([picture[:, ::-1], picture, picture[:, ::-1]], axis=1)
        wide = picture.repeat(4, 1)[:, 660 : 660 + 1920]
        yield np.clip(wide.astype(np.int16) + grain[index % 4] - 6, 0, 255).astype(np.uint8)


def fastest_of_ours(sides: dict[str, Timing]) -> Timing:
    """The engine that is faster in fp32."""
    mine = [side for name, side in sides.items() if name.startswith("ours fp32")]
    return min(mine, key=lambda side: side.milliseconds)


def table(found: dict[str, dict[str, Timing]]) -> list[str]:
    """The encoders, and whether ours holds."""
    lines = [
        "| model | side | ms a clip | × ours | processor ms | × ours | least cosine |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, sides in found.items():
        mine = fastest_of_ours(sides)
        for name, side in sides.items():
            lines.append(
                f"| {model} | {name} | {side.milliseconds:.0f} "
                f"| {side.milliseconds / mine.milliseconds:.2f} "
                f"| {side.processor_milliseconds:.0f} "
                f"| {side.processor_milliseconds / mine.processor_milliseconds:.2f} "
                f"| {side.cosine:.6f} |"
            )
    lines += ["", "| demand | measured | by processor time | |", "|---|---|---|---|"]
    for model, sides in found.items():
        others = [side for name, side in sides.items() if not name.startswith("ours")]
        mine = fastest_of_ours(sides)
        clock = mine.milliseconds / min(side.milliseconds for side in others)
        spent = mine.processor_milliseconds / min(side.processor_milliseconds for side in others)
        lines.append(
            f"| {model}: ours ≤ {ENGINE_TARGET} × the fastest other | {clock:.2f} | {spent:.2f} "
            f"| {verdict(clock <= ENGINE_TARGET)} |"
        )
        if "ours int8" in sides:
            same = sides["ours fp32"]  # int8 is ONNX Runtime's
            gain = same.milliseconds / sides["ours int8"].milliseconds
            used = same.processor_milliseconds / sides["ours int8"].processor_milliseconds
            lines.append(
                f"| {model}: int8 ≥ {INT8_TARGET} × fp32 | {gain:.2f} | {used:.2f} "
                f"| {verdict(gain >= INT8_TARGET)} |"
            )
    return lines


def clip_table(seconds: dict[str, float], model: str) -> list[str]:
    """The 1080p rows."""
    parts = sum(seconds[name] for name in ("decode", "resize", "encode"))
    each = ", ".join(
        f"{name} {1e3 * seconds[name]:.0f} ms" for name in ("decode", "resize", "encode")
    )
    one, many = seconds["one clip"] / parts, seconds["16 clips"] / parts
    return [
        f"1080p, 2 s, {model} in fp32: {each}, together {1e3 * parts:.0f} ms.",
        "",
        "| demand | measured | |",
        "|---|---|---|",
        f"| one clip ≤ {CLIP_TARGET} × the sum | {one:.2f} | {verdict(one <= CLIP_TARGET)} |",
        f"| {MANY} clips ≤ {CLIPS_TARGET} × the sum | {many:.2f} | {verdict(many <= CLIPS_TARGET)} |",
    ]


def verdict(holds: bool) -> str:
    """In a word."""
    return "holds" if holds else "missed"


def main() -> None:
    """Measure, print the tables, and keep them with --write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="vit-b-32,vit-b-16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=3, help="of a side in a round")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--no-clips", action="store_true", help="leave the 1080p rows out")
    parser.add_argument("--openvino", type=Path, help="folder that OpenVINO was installed into")
    parser.add_argument("--work", type=Path, help="keeps the bundles for another run")
    parser.add_argument("--write", action="store_true", help=f"keep the tables in {RESULTS.name}/")
    options = parser.parse_args()
    if options.openvino:
        sys.path.append(str(options.openvino.resolve()))
    torch.set_num_threads(options.threads)
    kernels.set_num_threads(options.threads)
    load = round(os.getloadavg()[0], 2)
    found: dict[str, dict[str, Timing]] = {}
    clips: dict[str, float] = {}
    names = options.models.split(",")
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        for name in names:
            bundle = adapted_bundle(name, adapted_network(name), work)
            found[name] = encoders(name, options, bundle)
            if name == names[0] and not options.no_clips:
                clips = whole_clips(bundle, options, Path(folder))
    facts = system_facts() | {"threads": str(options.threads), "load": str(load)}
    lines = ["# Encoders on a CPU", "", *(f"- {key}: {value}" for key, value in facts.items())]
    lines += ["", *table(found)]
    if clips:
        lines += ["", *clip_table(clips, names[0])]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        model = facts["processor"] or platform.machine()
        slug = "-".join("".join(c if c.isalnum() else " " for c in model).lower().split())
        stem = RESULTS / f"encoders-{slug}"
        stem.with_suffix(".md").write_text(text, encoding="utf-8")
        record = {
            "machine": facts,
            "encoders": {
                model: {name: vars(side) for name, side in sides.items()}
                for model, sides in found.items()
            },
            "seconds_1080p": clips,
        }
        stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
