"""Clearing and eviction touch the cache's own files only, and never go through a link."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mafsar.runtime.cache.bundles import bundles_folder, clear_kept, kept_bundles, make_room
from mafsar.runtime.cache.features import FeatureCache, cache_folder
from mafsar.runtime.cache.room import mark_in_use
from mafsar.runtime.cache.speeds import clear_measured, measured_speeds, record_speeds

KEY = "ab" + "0" * 62
BUNDLE = "vit-b-32-0123456789ab.mafsar"


def tensors():
    return {"frames": np.zeros((4, 8), np.float32)}


def write(path: Path, size: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def links_out(cache: FeatureCache, outside: Path) -> list[Path]:
    """Links of each kind that lead out of the cache to a file that looks like an entry."""
    entry = write(outside / "cd" / f"{'1' * 62}.safetensors")
    (cache.folder / "cd").symlink_to(outside / "cd", target_is_directory=True)
    (cache.folder / "ab" / f"{'2' * 62}.safetensors").symlink_to(entry)
    os.link(entry, cache.folder / "ab" / f"{'3' * 62}.safetensors")  # its own name goes, no more
    return [entry]


@pytest.mark.parametrize("how", ["clear", "evict"])
def test_only_own_entries_go(how, tmp_path):
    cache = FeatureCache(tmp_path / "cache", cap_bytes=1 << 30 if how == "clear" else 10)
    (cache.folder / "ab").mkdir(parents=True)
    foreign = [
        write(cache.folder / "notes.txt"),
        write(cache.folder / "ab" / "thesis.docx"),
        write(cache.folder / "ab" / f"{'0' * 61}.safetensors"),
        write(cache.folder / "my" / f"{'4' * 62}.safetensors"),
        write(tmp_path / "cache" / "other" / "ab" / f"{'0' * 62}.safetensors"),
        *links_out(cache, tmp_path / "outside"),
    ]
    remains = write(cache.folder / "ab" / f".{'5' * 62}.safetensors.123-0a1b2c3d.part")
    cache.put(KEY, tensors())
    if how == "clear":
        assert cache.clear().entries == 3  # the entry, the hard link, the remains
    assert cache.info().entries == 0
    assert not remains.exists()
    assert all(path.is_file() for path in foreign)


def test_a_cache_that_is_a_link_is_left_alone(tmp_path):
    outside = FeatureCache(tmp_path / "outside")
    outside.put(KEY, tensors())
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "features").symlink_to(outside.folder, target_is_directory=True)
    cache = FeatureCache(tmp_path / "cache")
    assert (cache.info().entries, cache.clear().entries) == (0, 0)
    assert cache.get(KEY) is None
    cache.put("cd" + KEY[2:], tensors())
    assert outside.info().entries == 1


def test_a_folder_above_the_cache_may_be_a_link(tmp_path):
    """Users put the whole cache on another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "disk", target_is_directory=True)
    cache = FeatureCache(tmp_path / "cache")
    cache.put(KEY, tensors())
    assert (cache.get(KEY) is not None, cache.clear().entries) == (True, 1)


def test_only_own_bundles_go(tmp_path):
    folder = bundles_folder()
    write(folder / BUNDLE / "bundle.json")
    write(folder / BUNDLE / "query-fp32.onnx")
    write(folder / BUNDLE / "engines" / "trt.engine")
    shared = "rn50-0123456789ab.mafsar"
    foreign = [
        write(folder / "mine.mafsar" / "bundle.json"),
        write(folder / "notes.txt"),
        write(folder / "vit-b-32-0123456789ab" / "bundle.json"),
        write(folder / shared / "README.md"),
        write(tmp_path / "outside" / "bundle.json"),
    ]
    write(folder / shared / "bundle.json")
    write(folder / f".{BUNDLE}.99.part" / "query-fp32.onnx")
    link = folder / "vit-b-16-0123456789ab.mafsar"
    link.symlink_to(tmp_path / "outside", target_is_directory=True)
    (folder / shared / "engines").symlink_to(tmp_path / "outside", target_is_directory=True)
    assert kept_bundles().names == (BUNDLE, shared)
    assert make_room(folder / BUNDLE, cap_bytes=1 << 30) == []
    assert clear_kept().names == (BUNDLE, shared)
    assert all(path.is_file() for path in foreign)
    assert not (folder / BUNDLE).exists()
    assert not (folder / f".{BUNDLE}.99.part").exists()
    assert link.is_symlink()
    assert not (folder / shared / "bundle.json").exists()


def aged(path: Path, age: float, size: int = 1000) -> Path:
    os.utime(write(path, size), (1e9 - age, 1e9 - age))
    return path


def entry_of(number: int, age: float) -> Path:
    return aged(cache_folder() / "features" / "ab" / f"{number:062d}.safetensors", age)


def test_features_and_bundles_go_by_age_alike():
    old, young = entry_of(1, 40), entry_of(2, 10)
    bundles = [
        aged(bundles_folder() / f"{name}-0123456789ab.mafsar" / "bundle.json", age)
        for name, age in (("kept", 50), ("used", 45), ("older", 30), ("newer", 20))
    ]
    kept, used, older, newer = bundles
    mark_in_use(used.parent)
    assert make_room(kept.parent, cap_bytes=6000) == []
    assert make_room(kept.parent, cap_bytes=5000) == []  # the old features are enough
    assert [path.exists() for path in (old, young, *bundles)] == [False] + [True] * 5
    assert make_room(kept.parent, cap_bytes=3000) == [older.parent.name, newer.parent.name]
    assert [path.exists() for path in (young, kept, used)] == [True] * 3
    assert make_room(kept.parent, cap_bytes=0) == []
    assert [path.exists() for path in (young, kept, used)] == [False, True, True]


def test_new_features_put_out_old_bundles():
    kept = aged(bundles_folder() / BUNDLE / "bundle.json", 1000, 100_000)
    young = entry_of(1, 10)
    cache = FeatureCache(cap_bytes=100_000)
    cache.put(KEY, tensors())  # less than the cap by itself
    assert not kept.parent.exists()
    assert young.exists()
    assert cache.info().entries == 2


def test_what_was_measured_goes_with_the_rest(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "disk", target_is_directory=True)
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path / "cache"))
    record_speeds("1" * 64, "fp32", 2, {"onnx": 1.0})
    cache = cache_folder()
    own = [
        cache / "speeds.json",
        write(cache / ".speeds.json.12-0a1b2c3d.part"),
        write(cache / "tensorrt" / "trt10.3.0-sm87.timing"),
        write(cache / "tensorrt" / ".rtx1.0-sm120.timing.12-0a1b2c3d.part"),
    ]
    assert all(path.is_file() for path in own)
    clear_measured()
    assert not any(path.exists() for path in (*own, cache / "tensorrt"))
    assert measured_speeds("1" * 64, "fp32", 2) == {}
    outside = write(tmp_path / "outside" / "trt10.3.0-sm87.timing")
    foreign = [
        write(cache / "my-speeds.json"),
        write(cache / "places" / f"{'1' * 64}.txt"),
        outside,
    ]
    (cache / "speeds.json").symlink_to(outside)
    (cache / "tensorrt").symlink_to(outside.parent, target_is_directory=True)
    clear_measured()
    assert all(path.is_file() for path in foreign)
    assert (cache / "speeds.json").is_symlink()
