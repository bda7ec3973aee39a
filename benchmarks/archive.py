"""Indexing and searching archives: throughput, exact search, shortlist, large banks, growth.

    python benchmarks/archive.py index            # windows/s by workers, decode and encode core-seconds
    python benchmarks/archive.py exact            # 100 000 windows against 20 classes
    python benchmarks/archive.py shortlist        # 1 000 000 windows, agreement with the exact search
    python benchmarks/archive.py bank             # 1 000 classes of 100 clips
    python benchmarks/archive.py enroll --clips 400   # memory of enrolling 400, 1 600 and 6 400 clips
    python benchmarks/archive.py growth           # 1x, 4x, 16x of classes, clips and windows

Features of `exact`, `bank` and `growth` are random (`--width 128`, 8 frames); those of `shortlist`
are rendered clips by the shipped model (`--index INDEX`, made by `mafsar index`), and rows between two
windows of one file where more are asked for. Each part prints JSON Lines. Wall seconds are medians;
CPU seconds stand beside them, as a busy machine changes only the former.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import mafsar
from mafsar.choices import EngineChoice, Scoring
from mafsar.data.support import SupportClass
from mafsar.runtime.archive import encode
from mafsar.runtime.archive.build import build_index
from mafsar.runtime.archive.coarse import add_coarse
from mafsar.runtime.archive.encode import FileFacts, file_windows
from mafsar.runtime.archive.index import Index, open_index
from mafsar.runtime.archive.manifest import MANIFEST, Manifest, ShardEntry, Source, write_sources
from mafsar.runtime.archive.parts import (
    FileRecord,
    Windows,
    features_buffer,
    table_buffer,
    times_table,
)
from mafsar.runtime.archive.scan import scan_index
from mafsar.runtime.archive.scorer import BankScorer
from mafsar.runtime.archive.search import Found, search_index
from mafsar.runtime.archive.settings import IndexSettings
from mafsar.runtime.archive.shortlist import shortlist
from mafsar.runtime.archive.store import Store
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.bank.clips import EnrolledClip
from mafsar.runtime.bank.text_choice import TextChoice
from mafsar.runtime.encoder import BankModel
from mafsar.runtime.engines.loading import open_model
from mafsar.runtime.live.windows import name_windows
from mafsar.video import Geometry
from mafsar.video.live.place import places_of

FRAMES, SHARD = 8, 65536
PREPROCESS = {
    "size": 112, "frames": FRAMES, "resample": "bicubic", "mean": [0.5] * 3, "std": [0.25] * 3,
}  # fmt: skip
SCORING = Scoring("otam", lam=0.1, visual_scale=2.0, views=0.5)
MODEL = BankModel("random", None, "trained", "0" * 64, PREPROCESS, ("{}",), SCORING)


def say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def anonymous_mb() -> float:
    """Memory that is not a file's, now."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def timed(call: Callable[[], Any], repeats: int = 3) -> tuple[float, float, Any]:
    """Median wall seconds, least CPU seconds, and what the last call returned."""
    walls, cpus, result = [], [], None
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return float(np.median(walls)), min(cpus), result


def random_bank(classes: int, clips: int, width: int, seed: int = 1) -> Bank:
    """A bank of random features; each class's clips lie about a centre of their own."""
    rng = np.random.default_rng(seed)
    query = np.empty((classes * clips, FRAMES, width), np.float32)
    for c in range(classes):
        centre = rng.standard_normal((FRAMES, width), np.float32)
        query[c * clips : (c + 1) * clips] = centre + rng.standard_normal(
            (clips, FRAMES, width), np.float32
        )
    kinds = tuple(SupportClass(f"class{c:04d}", f"class{c:04d}") for c in range(classes))
    enrolled = tuple(
        EnrolledClip(
            path=Path(f"{kind.label}/{k}.mp4"),
            label=kind.label,
            content_sha256=f"{c * clips + k:064x}",
            size_bytes=10**6 + k,
            duration_seconds=2.0,
        )
        for c, kind in enumerate(kinds)
        for k in range(clips)
    )
    return Bank(
        kinds, (False,) * classes, enrolled, query, query.mean(axis=1), None, None, MODEL,
        Geometry(), TextChoice("off", False, 0.0, "as requested"), views=0.5,
    )  # fmt: skip


def settings_of(width: int) -> IndexSettings:
    return IndexSettings(
        "random", "0" * 64, "", "fp32", PREPROCESS, Geometry(), (2.0,), (0.5,), FRAMES, width, False
    )


def write_index(
    place: Path, settings: IndexSettings, shards: Iterator[np.ndarray], *, coarse: bool
) -> Index:
    """An index of given features, (n, T, E) a shard: one file of windows a shard."""
    store, entries, sources = Store(place), [], []
    for number, frames in enumerate(shards):
        start = np.arange(len(frames)) * settings.strides[0]
        rows = Windows(
            start, start + settings.lengths[0], np.zeros(len(frames), np.int8),
            np.full(len(frames), 20, np.float32), frames.astype(np.float16), None,
        )  # fmt: skip
        table = times_table(rows).append_column("file", [np.full(len(frames), number, np.int32)])
        names = f"windows-{number:05d}.parquet", f"features-{number:05d}.arrow"
        store.write(names[0], table_buffer(table, settings))
        store.write(names[1], features_buffer(rows))
        entries.append(ShardEntry(*names, len(rows)))
        record = FileRecord(f"{number:064x}", 0, 0, f"{number}.mp4", float(start[-1] + 2.0), 25.0)
        sources.append(Source(f"{number}.mp4", replace(record, windows=len(rows))))
    write_sources(store, settings, "sources.parquet", sources)
    manifest = Manifest(settings, True, "sources.parquet", tuple(entries))
    (add_coarse(store, manifest) if coarse else manifest).write(store)
    return open_index(place)


def random_shards(windows: int, width: int, seed: int = 2) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for first in range(0, windows, SHARD):
        yield rng.standard_normal((min(SHARD, windows - first), FRAMES, width), np.float32)


def index_part(options: argparse.Namespace) -> None:
    """Windows a second by workers, against what decoding and encoding alone allow."""
    folder = Path(options.films)
    encoder = open_model("tiny", EngineChoice(threads=1))
    plan = name_windows([2.0], encoder.spec.frames)
    settings = IndexSettings.of(encoder, plan, Geometry())
    places = places_of(str(folder))
    cpu = time.process_time()
    pixels = [
        np.stack(window.frames)
        for place in places
        for window in file_windows(Path(place.where), settings, FileFacts())
    ]
    decode = time.process_time() - cpu
    cpu = time.process_time()
    for first in range(0, len(pixels), encode.BATCH):
        encoder.encode_query(np.stack(pixels[first : first + encode.BATCH]))
    encoding = time.process_time() - cpu
    say(part="index", windows=len(pixels), decode_core_s=decode, encode_core_s=encoding,
        core_s_per_window=(decode + encoding) / len(pixels))  # fmt: skip
    del pixels
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as place:
            wall, cpu = time.perf_counter(), time.process_time()
            report = build_index(Store(place), settings, encoder, places, workers=workers)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        cores = min(os.cpu_count() or 1, 2 * workers)
        say(part="index", workers=workers, wall_s=wall, cpu_s=cpu, windows=report.windows,
            windows_per_s=report.windows / wall, cores_used=cpu / wall,
            core_efficiency=(decode + encoding) / cpu,
            of_what_cores_allow=(decode + encoding) / cores / wall)  # fmt: skip


def write_random_index(place: str, windows: int, width: int) -> None:
    """An index of random features; in a process of its own, so that it adds no memory to this one."""
    work = multiprocessing.get_context("spawn").Process(
        target=_write_random, args=(place, windows, width)
    )
    work.start()
    work.join()
    if work.exitcode != 0:
        raise SystemExit("the index could not be written")
    os.sync()  # writing it out would take cores from what is timed


def _write_random(place: str, windows: int, width: int) -> None:
    write_index(Path(place), settings_of(width), random_shards(windows, width), coarse=False)


def exact_part(options: argparse.Namespace) -> None:
    """All windows against 20 classes."""
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        bank = random_bank(20, 5, options.width)
        write_random_index(place, options.windows, options.width)
        index = open_index(place)
        before = peak_mb()
        scorer = BankScorer(bank, index)
        wall, cpu, _ = timed(lambda: scan_index(index, scorer))
        whole, _, found = timed(lambda: list(search_index(index, scorer, exact=True)), 1)
        say(part="exact", windows=len(index), classes=20, width=options.width, wall_s=wall,
            cpu_s=cpu, search_wall_s=whole, found=len(found), peak_rss_mb=peak_mb(),
            rss_before_mb=before)  # fmt: skip


def between(index: Index, windows: int, seed: int = 3) -> Iterator[np.ndarray]:
    """The windows of an index, then as many as are missing between two windows of one file."""
    rng = np.random.default_rng(seed)
    own = np.concatenate([np.asarray(shard.frames, np.float32) for shard in index.shards])
    yield own
    left = windows - len(own)
    order = np.argsort(index.file, kind="stable")
    firsts = np.searchsorted(index.file[order], index.file)
    counts = np.bincount(index.file)[index.file]
    while left > 0:
        count = min(SHARD, left)
        one = rng.integers(0, len(own), count)
        other = order[firsts[one] + (rng.random(count) * counts[one]).astype(int)]
        share = rng.random((count, 1, 1), np.float32)
        yield share * own[one] + (1 - share) * own[other]
        left -= count


def shortlist_index(options: argparse.Namespace, place: str) -> tuple[Bank, Index, int]:
    """A bank, an index of so many windows, and how many of them are of videos."""
    real = None if options.index is None else open_index(options.index)
    bank = random_bank(20, 5, options.width)
    settings = settings_of(options.width)
    if real is not None:
        bank = mafsar.read_bank(options.bank)
        settings = replace(
            real.settings, lengths=(real.settings.lengths[0],),
            strides=(real.settings.strides[0],), pooled=False,
        )  # fmt: skip
    if (Path(place) / MANIFEST).exists():
        index = open_index(place)
    elif real is None:
        index = write_index(
            Path(place), settings, random_shards(options.windows, options.width), coarse=True
        )
    else:
        index = write_index(Path(place), settings, between(real, options.windows), coarse=True)
    if index.basis is None:
        raise SystemExit(f"{len(index)} windows: too few for a small copy; --windows 100000")
    return bank, index, 0 if real is None else len(real)


def shortlist_part(options: argparse.Namespace) -> None:
    """The time of a search by the shortlist, and how many of the exact search's moments it finds."""
    with tempfile.TemporaryDirectory() as place:
        bank, index, real = shortlist_index(options, options.made or place)
        if options.make_only:
            return
        os.sync()
        before = peak_mb()
        scorer = BankScorer(bank, index)
        classes = range(len(bank.labels))
        wall, cpu, _ = timed(lambda: shortlist(index, scorer, classes))
        whole, whole_cpu, found = timed(
            lambda: list(search_index(index, scorer, topk=100, exact=False))
        )
        peak = peak_mb()
        exact, exact_cpu, expected = timed(
            lambda: list(search_index(index, scorer, topk=100, exact=True)), 1
        )
        agreement = [agreeing(label, found, expected) for label in bank.labels]
        say(part="shortlist", windows=len(index), of_videos=real, classes=len(classes),
            width=index.settings.width, shortlist_wall_s=wall, shortlist_cpu_s=cpu,
            search_wall_s=whole, search_cpu_s=whole_cpu, exact_wall_s=exact,
            exact_cpu_s=exact_cpu, moments=len(expected),
            agreement_top100=float(np.mean(agreement)), worst_class=float(np.min(agreement)),
            rss_before_mb=before, peak_rss_mb=peak)  # fmt: skip


def agreeing(label: str, found: list[Found], expected: list[Found]) -> float:
    """The share of the expected moments of a class that are found."""
    places = {(each.source, each.t_start) for each in found if each.label == label}
    wanted = {(each.source, each.t_start) for each in expected if each.label == label}
    return len(places & wanted) / max(len(wanted), 1)


def bank_part(options: argparse.Namespace) -> None:
    """A bank of 1 000 classes of 100 clips: reading, matching, the nearest of all clips."""
    with tempfile.TemporaryDirectory() as place:
        path = random_bank(options.classes, options.clips, options.width).save(
            Path(place) / "bank.safetensors"
        )
        before = anonymous_mb()
        wall, cpu, bank = timed(lambda: mafsar.read_bank(path), 2)
        say(part="bank", what="read", classes=options.classes, clips=len(bank), wall_s=wall,
            cpu_s=cpu, file_mb=path.stat().st_size / 1e6,
            memory_mb=anonymous_mb() - before)  # fmt: skip
        for name, values in match_times(bank).items():
            say(part="bank", what=name, classes=options.classes, clips=len(bank), **values)


class Given:
    """An encoder that gives a stored clip."""

    engine, device, precision, choice = "onnx", "cpu", "fp32", "given"

    def __init__(self, bank: Bank) -> None:
        from mafsar.runtime.encoder import Features, ModelSpec

        self.spec = ModelSpec(
            "random", "random", FRAMES, 112, bank.query.shape[-1], "trained", False, ("{}",), None,
            SCORING, "0" * 64, 0, 0, mean=(0.5,) * 3, std=(0.25,) * 3,
        )  # fmt: skip
        self._features = Features(np.array(bank.query[:1]), np.array(bank.pooled[:1]))

    def encode_query(self, _: np.ndarray) -> Any:
        return self._features


def match_times(bank: Bank) -> dict[str, dict[str, float]]:
    """Seconds of the first match, of one after it past the encoder, and of a search of all clips."""
    from mafsar.kernels import otam_match

    matcher = mafsar.Matcher(bank, Given(bank))  # type: ignore[arg-type]
    clip = np.random.default_rng(0).integers(0, 255, (FRAMES, 112, 112, 3), np.uint8)
    first, first_cpu, _ = timed(lambda: matcher(clip, fps=8), 1)
    matches = [matcher(clip, fps=8).seconds.match for _ in range(9)]  # type: ignore[union-attr]
    query, clips = np.array(bank.query[:1]), np.ascontiguousarray(bank.query)
    each, each_cpu, _ = timed(lambda: otam_match(query, clips, lam=0.1), 5)
    return {
        "first match": {"wall_s": first, "cpu_s": first_cpu},
        "match": {"wall_s": float(np.median(matches)), "least_s": min(matches)},
        "all clips": {"wall_s": each, "cpu_s": each_cpu},
    }


class Made:
    """An encoder whose features are made of the first pixels of a clip, in no time."""

    engine, device, precision, choice = "onnx", "cpu", "fp32", "made"

    def __init__(self, width: int) -> None:
        from mafsar.runtime.encoder import ModelSpec

        self.spec = ModelSpec(
            "random", "random", FRAMES, 32, width, "trained", False, ("{}",), None, SCORING,
            "0" * 64, 0, 0, mean=(0.5,) * 3, std=(0.25,) * 3,
        )  # fmt: skip

    def encode_query(self, pixels: np.ndarray) -> Any:
        from mafsar.runtime.encoder import Features

        seeds = [int.from_bytes(clip.tobytes()[:8], "little") for clip in pixels]
        frames = np.stack(
            [
                np.random.default_rng(seed).standard_normal(
                    (FRAMES, self.spec.embed_dim), np.float32
                )
                for seed in seeds
            ]
        )
        return Features(frames, frames.mean(axis=1))


def enroll_part(options: argparse.Namespace) -> None:
    """Memory of enrolling 1x, 4x and 16x as many clips, in a process of each: features and pictures."""
    for factor in (1, 4, 16):
        work = multiprocessing.get_context("spawn").Process(
            target=_enroll, args=(options.width, factor * options.clips)
        )
        work.start()
        work.join()


def _enroll(width: int, clips: int) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (FRAMES, 32, 32, 3), np.uint8)
    support = {}
    for c in range(20):
        support[f"class{c:02d}"] = []
        for _ in range(clips // 20):
            clip = base.copy()
            clip[0, 0, :2] = rng.integers(0, 255, (2, 3), np.uint8)
            clip[0, 0, 2:4] = rng.integers(0, 255, (2, 3), np.uint8)
            support[f"class{c:02d}"].append(clip)
    before = anonymous_mb()
    with watched_memory() as peak, tempfile.TemporaryDirectory() as place:
        bank = mafsar.enroll(support, Made(width), fps=8, cache=False)  # type: ignore[arg-type]
        path = bank.save(Path(place) / "bank.safetensors")
        size = path.stat().st_size / 1e6
    say(part="enroll", clips=len(bank), file_mb=size, memory_mb=peak[0] - before)


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """The largest amount of memory that is not a file's, MB, looked at every 10 ms."""
    peak, stop = [anonymous_mb()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], anonymous_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def growth_part(options: argparse.Namespace) -> None:
    """Time at 1x, 4x and 16x of each size, and the exponent of a power law through them."""
    width, base = options.width, {"classes": 20, "clips": 5, "windows": 5_000}
    for what, size in base.items():
        seconds, memory = [], []
        for factor in (1, 4, 16):
            sizes = base | {what: size * factor}
            bank = random_bank(sizes["classes"], sizes["clips"], width)
            with tempfile.TemporaryDirectory() as place:
                index = write_index(
                    Path(place), settings_of(width), random_shards(sizes["windows"], width),
                    coarse=False,
                )  # fmt: skip
                _, cpu, _ = timed(lambda: list(search_index(index, BankScorer(bank, index))))  # noqa: B023
                seconds.append(cpu)
                files = sum(path.stat().st_size for path in Path(place).iterdir())
            memory.append(files + bank.query.nbytes)
        say(part="growth", of=what, base=base, cpu_s=seconds, bytes=memory,
            exponent_time=fitted(seconds), exponent_bytes=fitted(memory))  # fmt: skip


def fitted(values: list[float]) -> float:
    """The exponent of the power law through the values at 1x, 4x and 16x."""
    return float(np.polyfit(np.log([1, 4, 16]), np.log(values), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = {"index": index_part, "exact": exact_part, "shortlist": shortlist_part,
             "bank": bank_part, "enroll": enroll_part, "growth": growth_part}  # fmt: skip
    parser.add_argument("part", choices=parts)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--windows", type=int, help="100000, and 1000000 for shortlist")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--films", help="folder of videos for index")
    parser.add_argument("--folder", help="where indexes are written; default: for temporary files")
    parser.add_argument(
        "--made", help="folder in which shortlist keeps its index for the next call"
    )
    parser.add_argument(
        "--make-only", action="store_true", help="write that index, measure nothing"
    )
    parser.add_argument("--index", help="index of rendered clips for shortlist")
    parser.add_argument("--bank", help="bank of the same model for shortlist")
    options = parser.parse_args()
    if options.windows is None:
        options.windows = 1_000_000 if options.part == "shortlist" else 100_000
    parts[options.part](options)


if __name__ == "__main__":
    main()
