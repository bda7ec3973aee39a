"""Each door of the package with what comes through it: whole inputs, damage, and everything after.

A door makes its whole files once in a folder; `use(number)` damages one of them as the number
draws and hands it to the package. It returns where the package answers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mutate import changed, damaged, misspelt, written

OLD_FILES = Path(__file__).parents[1] / "compat" / "files-0.1.0.zip"
Use = Callable[[int], None]


def rng_of(number: int, door: str) -> random.Random:
    """The draws of one input: the same on every machine."""
    return random.Random(f"{door} {number}")


def pictures(seed: int = 0, count: int = 12) -> list[np.ndarray]:
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    whole = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    return [np.roll(whole, 3 * k, axis=1) for k in range(count)]


def video(folder: Path) -> Use:
    """Videos of twelve containers and pictures of seven formats."""
    import av
    from PIL import Image

    from mafsar.video import load_clip, load_raw_clip, video_info

    kinds = {
        "mp4": "libx264", "mov": "mpeg4", "mkv": "libx264", "avi": "mpeg4", "webm": "libvpx", "ts": "mpeg2video",
        "mpg": "mpeg2video", "flv": "flv", "asf": "wmv2", "nut": "mpeg4", "ogv": "libtheora", "gif": "gif",
        "3gp": "mpeg4", "mxf": "mpeg2video", "y4m": "rawvideo",
    }  # fmt: skip
    whole: list[Path] = []
    for ending, codec in kinds.items():
        path = folder / f"whole.{ending}"
        with contextlib.suppress(av.error.FFmpegError, ValueError), av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=25)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "rgb8" if ending == "gif" else "yuv420p"
            for picture in pictures():
                frame = av.VideoFrame.from_ndarray(picture)
                out.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
            out.mux(stream.encode())
            whole.append(path)
    for ending in ("png", "jpg", "webp", "tiff", "bmp", "gif", "ppm"):
        path = folder / f"still.{ending}"
        Image.fromarray(pictures()[0]).save(path)
        whole.append(path)

    def use(number: int) -> None:
        rng = rng_of(number, "video")
        source = rng.choice(whole)
        path = folder / f"in{source.suffix if rng.random() < 0.8 else '.mp4'}"
        path.write_bytes(damaged(source.read_bytes(), rng))
        try:
            clip = load_clip(path, frames=8, size=32)
            assert clip.pixels.shape == (8, 32, 32, 3)
            assert np.isfinite(clip.times_seconds).all()
            assert np.isfinite(clip.duration_seconds)
            if rng.random() < 0.2:
                load_raw_clip(path, frames=4, short_side=24)
                video_info(path)
        finally:
            path.unlink()

    return use


def bank(folder: Path) -> Use:
    """Banks of two versions: damaged bytes, and descriptions that were changed and sealed again."""
    from safetensors import safe_open
    from safetensors.numpy import save

    from mafsar.runtime.bank.bank import read_bank
    from mafsar.runtime.bank.layout import checksum
    from mafsar.runtime.bank.quality import judge

    old = old_files(folder)
    sealed = read_bank(old / "on.safetensors").save(folder / "sealed.safetensors")
    whole = [old / "on.safetensors", old / "off.safetensors", sealed]

    def use(number: int) -> None:
        rng = rng_of(number, "bank")
        source, path = rng.choice(whole), folder / "in.safetensors"
        if rng.random() < 0.5:
            path.write_bytes(damaged(source.read_bytes(), rng))
        else:
            with safe_open(source, framework="numpy") as file:
                document = json.loads(file.metadata()["mafsar"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if rng.random() < 0.3:
                _spoil(tensors, rng)
            else:
                document = changed(document, rng)
            text = written(document, rng).decode("utf-8", "replace")
            metadata = {"mafsar": text, "sha256": checksum(text, tensors)}
            path.write_bytes(save(tensors, metadata=metadata))
        found = read_bank(path)
        assert np.isfinite(found.query).all()
        judge(found)
        found.save(folder / "again.safetensors", overwrite=True)

    return use


def _spoil(tensors: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(sorted(tensors))
    tensor = tensors[name]
    flat = tensor.reshape(-1).copy()
    kind = rng.randrange(6)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[name] = np.zeros_like(tensor)
    elif kind == 2 and flat.dtype == np.float32:
        flat[rng.randrange(len(flat))] = rng.choice((np.nan, np.inf, -1e38, 1e38))
        tensors[name] = flat.reshape(tensor.shape)
    elif kind == 3:
        tensors[name] = tensor[1:]
    elif kind == 4:
        tensors[name] = tensor.astype(rng.choice((np.float64, np.float16, np.int32)))
    else:
        tensors[name] = np.ascontiguousarray(tensor.T)


def bundle(folder: Path) -> Use:
    """Bundles: damaged files, changed manifests, and damaged files whose hashes were made again."""
    import mafsar

    source = old_files(folder) / "small.mafsar"
    names = sorted(path.name for path in source.iterdir() if path.is_file())
    frames = np.zeros((1, 4, 32, 32, 3), np.uint8)
    target = folder / "in.mafsar"

    def use(number: int) -> None:
        rng = rng_of(number, "bundle")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        manifest = target / "bundle.json"
        document = json.loads(manifest.read_text())
        kind = rng.random()
        if kind < 0.5:
            manifest.write_bytes(written(changed(document, rng), rng))
        else:
            spoilt = target / rng.choice(names)
            data = damaged(spoilt.read_bytes(), rng)
            spoilt.write_bytes(data)
            if kind < 0.8 and spoilt != manifest and spoilt.name in document["files"]:
                entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
                document["files"][spoilt.name] = entry
                manifest.write_text(json.dumps(document))
        model = mafsar.load_model(target, engine="onnx", device="cpu")
        model.encode_query(np.repeat(frames, 1, axis=0))
        if model.spec.text:
            model.encode_text(["a"])

    return use


def store(folder: Path) -> Use:
    """Packed data sets: damaged pages, and values of other types."""
    from mafsar.data.folders import read_own
    from mafsar.data.frames import StoredFrames
    from mafsar.data.pack import pack
    from mafsar.data.store import Store, StoreSettings
    from mafsar.video import write_video

    for label in ("a", "b"):
        for clip in range(3):
            write_video(folder / "data" / label / f"{clip}.mp4", pictures(clip), 10)
    whole = folder / "whole.sqlite"
    pack(read_own(folder / "data"), whole, StoreSettings(8, 32, 90), workers=1)
    columns = {
        "meta": ("key", "value"), "classes": ("id", "label", "text", "part"), "frames": ("id", "jpeg"),
        "clips": ("id", "class", "name", "duration_seconds", "fps", "frames", "problem"),
    }  # fmt: skip

    def use(number: int) -> None:
        rng = rng_of(number, "store")
        path = folder / "in.sqlite"
        if rng.random() < 0.6:
            path.write_bytes(damaged(whole.read_bytes(), rng))
        else:
            shutil.copy(whole, path)
            connection = sqlite3.connect(path)
            table = rng.choice(sorted(columns))
            values = (
                None,
                -1,
                2**62,
                1e308,
                "",
                "x" * 500,
                b"\xff\x00",
                "[1,2]",
                "9e999",
                '{"a":1}',
            )
            with contextlib.suppress(sqlite3.Error):
                connection.execute(
                    f"UPDATE {table} SET {rng.choice(columns[table])} = ? WHERE rowid = ?",
                    (rng.choice(values), rng.randrange(1, 6)),
                )
                connection.commit()
            connection.close()
        opened = Store(path)
        try:
            for clip in opened.catalogue().clips:
                opened.duration(clip)
                StoredFrames(opened).testing(clip, frames=4, size=32)
        finally:
            opened.close()

    return use


def lists(folder: Path) -> Use:
    """Lists of clips: CSV, TSV, JSON Lines, `path label`, and the texts of classes."""
    from mafsar.data.support import read_support
    from mafsar.video import write_video

    for label in ("wave", "jump high"):
        for clip in range(2):
            write_video(folder / label / f"{clip}.mp4", pictures(clip, 2), 10)
    rows = [(f"{label}/{clip}.mp4", label) for label in ("wave", "jump high") for clip in range(2)]
    whole = {
        "in.csv": "path,label,start,end\n" + "".join(f"{p},{c},0,0.1\n" for p, c in rows),
        "in.tsv": "".join(f"{p}\t{c}\n" for p, c in rows),
        "in.txt": "".join(f"{p} 2 {n % 2}\n" for n, (p, _) in enumerate(rows)),
        "in.jsonl": "".join(json.dumps({"file_name": p, "label": c}) + "\n" for p, c in rows),
        "labels.csv": "label,text\nwave,waving a hand\njump high,jumping\n",
    }

    def use(number: int) -> None:
        rng = rng_of(number, "lists")
        name = rng.choice(sorted(whole))
        path = folder / name
        path.write_bytes(misspelt(whole[name].encode(), rng))
        try:
            read_support(folder if name == "labels.csv" else path)
        finally:
            path.unlink()

    return use


def settings(folder: Path) -> Use:
    """Configurations of training as TOML and as `key=value`, and splits."""
    from mafsar.data.splits import read_split
    from mafsar.training.config import TrainConfig, build_config, flat, parse_pairs, to_toml

    whole = to_toml(TrainConfig(data="clips", alpha=0.5, episodes=10)).encode()
    split = {"train": ["a", "b"], "val": ["c"], "test": {"classes": ["d"]}}
    names = [*flat(TrainConfig()), "no.such"]

    def use(number: int) -> None:
        rng = rng_of(number, "settings")
        kind = rng.randrange(4)
        path = folder / ("in.json" if kind == 2 else "in.toml")
        if kind <= 1:
            path.write_bytes(misspelt(whole, rng))
            build_config(path)
        elif kind == 2:
            path.write_bytes(written(changed(split, rng), rng))
            read_split(path)
        else:
            values = (
                "inf",
                "nan",
                "-1",
                "1e400",
                "9" * 30,
                "",
                "true",
                "a\0b",
                "[1]",
                "otam",
                "0.5",
            )
            build_config(None, parse_pairs([f"{rng.choice(names)}={rng.choice(values)}"]))

    return use


def state(folder: Path) -> Use:
    """Run folders: state, metrics, optimiser, weights and their description."""
    from mafsar.model.sources import load_trained
    from mafsar.training.checkpoint import last_checkpoint, load_checkpoint
    from mafsar.training.run_folder import saved_config
    from mafsar.training.run_log import read_metrics

    import torch  # isort: skip

    run = old_files(folder) / "run"
    os.chdir(run.parent)  # the run names its towers by a relative path
    torch.set_num_threads(1)
    network = load_trained(run)
    tuned = network.tunable_parameters()
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    target = folder / "in"

    def use(number: int) -> None:
        rng = rng_of(number, "state")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(run, target)
        spoilt = target / rng.choice(names)
        data = spoilt.read_bytes()
        if spoilt.suffix == ".json" and rng.random() < 0.7:
            spoilt.write_bytes(written(changed(json.loads(data), rng), rng))
        elif spoilt.suffix == ".safetensors" and rng.random() < 0.5:
            spoilt.write_bytes(_with_config(data, rng))
        else:
            spoilt.write_bytes(damaged(data, rng))
        saved_config(target)
        read_metrics(target)
        last = last_checkpoint(target)
        if last is not None:
            optimizer = torch.optim.AdamW(list(tuned.values()))
            load_checkpoint(last, tuned, optimizer, _base(last))
        load_trained(target)

    return use


def _with_config(data: bytes, rng: random.Random) -> bytes:
    """Weights whose description in the header was changed."""
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    metadata = head.get("__metadata__", {})
    if "config" in metadata:
        metadata["config"] = written(changed(json.loads(metadata["config"]), rng), rng).decode(
            "utf-8", "replace"
        )
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _base(checkpoint: Path) -> str:
    from mafsar.model.weights import read_safetensors

    return read_safetensors(checkpoint / "adapters.safetensors")[1].get("base_sha256", "")


def cache(folder: Path) -> Use:
    """Entries of the cache: a damaged one is as good as none, and never another one's features."""
    from mafsar.runtime.cache.features import FeatureCache

    kept = FeatureCache(folder / "cache")
    key = "ab" + "0" * 62
    tensors = {"frames": np.arange(24, dtype=np.float32).reshape(4, 6), "pooled": np.ones(6, "f4")}
    kept.put(key, tensors)
    (path,) = [p for p in (folder / "cache").rglob("*.safetensors") if p.is_file()]
    whole = path.read_bytes()

    def use(number: int) -> None:
        path.write_bytes(damaged(whole, rng_of(number, "cache")))
        found = kept.get(key)
        if found is not None:
            assert sorted(found) == sorted(tensors)
            assert all(np.array_equal(found[name], tensors[name]) for name in tensors)

    return use


def native(folder: Path) -> Use:  # noqa: ARG001
    """The native module through its doors: any shape, layout, type, length and value."""
    from mafsar import kernels
    from mafsar.kernels.windows import WindowViews, can_match_windows, match_windows

    types = (np.float32, np.float64, np.float16, np.int32)
    values = (0.0, 1.0, -1.0, 1e-30, 1e30, -1e30, 3e38, np.inf, np.nan, 0.5)

    def array(rng: random.Random, shape: tuple[int, ...]) -> np.ndarray:
        made = np.random.default_rng(rng.randrange(1 << 30)).normal(size=shape)
        made = made.astype(rng.choice(types) if rng.random() < 0.3 else np.float32)
        if made.size and rng.random() < 0.3 and made.dtype.kind == "f":
            with np.errstate(over="ignore"):
                made.reshape(-1)[rng.randrange(made.size)] = rng.choice(values)
        if made.ndim > 1 and rng.random() < 0.2:
            made = made[..., ::-1]
        return made

    def sizes(rng: random.Random, count: int, most: int) -> tuple[int, ...]:
        return tuple(rng.choice((0, 1, 2, 3, 7, 8, most)) for _ in range(count))

    def use(number: int) -> None:
        rng = rng_of(number, "native")
        lam = rng.choice((0.5, 0.5, 0.01, 1e-6, 10.0, 0.0, -1.0, np.nan, np.inf))
        kind = rng.random()
        if kind < 0.2 and can_match_windows("otam", 1):
            width, seen = rng.randrange(1, 40), rng.random() < 0.5
            windows = array(rng, (*sizes(rng, 2, 34), width))
            windows = windows.astype(np.float16) if rng.random() < 0.9 else windows
            prototypes = array(rng, (*sizes(rng, 2, 17), width * (1 + seen)))
            prototypes = prototypes.astype(np.float32)
            views = WindowViews(np.zeros(width, np.float32), 0.1, 0.5) if seen else None
            op = rng.choice(("otam", "bimhm"))
            cost = match_windows(op, windows, prototypes, lam, views)
        elif kind < 0.6:
            shape = sizes(rng, rng.randrange(1, 4), 33)
            distances = array(rng, (*shape, rng.randrange(0, 20), rng.randrange(0, 20)))
            lengths = None
            if rng.random() < 0.5:
                wide = (*distances.shape[:-2], 2) if rng.random() < 0.8 else sizes(rng, 2, 9)
                lengths = np.random.default_rng(number).integers(-1, 20, wide)
            op = rng.choice(("otam", "bimhm"))
            cost = kernels.otam(distances, lam, rng.random() < 0.5, lengths) if op == "otam" else (
                kernels.bimhm(distances, lengths)
            )  # fmt: skip
        else:
            width, lead = rng.randrange(0, 40), sizes(rng, rng.randrange(0, 2), 3)
            other = width if rng.random() < 0.9 else width + 1
            query = array(rng, (*lead, *sizes(rng, 2, 17), width))
            prototypes = array(rng, (*lead, *sizes(rng, 2, 17), other))
            given = None
            if rng.random() < 0.5:
                given = np.random.default_rng(number).integers(0, 18, query.shape[:-2])
            op = rng.choice((kernels.otam_match, kernels.bimhm_match))
            cost = op(query, prototypes, lam, given) if op is kernels.otam_match else (
                op(query, prototypes, given)
            )  # fmt: skip
        assert np.isfinite(cost).all()

    return use


def python(folder: Path) -> Use:
    """The Python interface: clips, rates, labels and options of any kind, drawn by hypothesis."""
    from python_doors import make

    return make(folder)


def old_files(folder: Path) -> Path:
    """The bank, bundle and run that version 0.1.0 made."""
    target = folder / "old"
    if not target.exists():
        with zipfile.ZipFile(OLD_FILES) as archive:
            archive.extractall(target)
    return target


DOORS: dict[str, tuple[Callable[[Path], Use], int]] = {
    "video": (video, 1500),
    "bank": (bank, 900),
    "bundle": (bundle, 500),
    "store": (store, 700),
    "lists": (lists, 800),
    "settings": (settings, 800),
    "state": (state, 400),
    "cache": (cache, 300),
    "native": (native, 1000),
    "python": (python, 160),
}
"""What makes a door ready, and how many inputs `make fuzz` gives it."""
