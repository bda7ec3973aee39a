"""Clearing and eviction touch the cache's own files only, and never go through a link."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mafsar.runtime.cache.bundles import bundles_folder, clear_kept, kept_bundles, make_room
from mafsar.runtime.cache.features import FeatureCache

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
