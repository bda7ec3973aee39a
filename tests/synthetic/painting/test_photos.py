"""Photographic backgrounds: only on request, the same everywhere, one clear line without them."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mafsar.errors import UnavailableError
from mafsar.synthetic import render_clip
from mafsar.synthetic.clips.scene import paint_scene_clip
from mafsar.synthetic.painting import photos


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two pictures, all of one saturated colour each."""
    home = tmp_path / "picturebook"
    home.mkdir()
    (home / "__init__.py").write_text("")
    entries = []
    for name, colour in (("red", (250, 10, 10)), ("blue", (10, 10, 250))):
        Image.new("RGB", (80, 60), colour).save(home / f"{name}.png")
        digest = hashlib.sha256((home / f"{name}.png").read_bytes()).hexdigest()
        entries.append(photos.Photo("picturebook", f"{name}.png", digest, "nobody", "CC0"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(photos, "PHOTOS", tuple(entries))
    photos.load_photos.cache_clear()
    yield home
    photos.load_photos.cache_clear()
    sys.modules.pop("picturebook", None)


def test_photos_show_in_some_clips_and_change_nothing_else(pictures: Path) -> None:
    assert pictures.is_dir()
    changed = []
    for seed in range(24):
        plain = render_clip("clap", seed=seed, frames=1, size=32)
        np.testing.assert_array_equal(plain, render_clip("clap", seed=seed, frames=1, size=32))
        real = render_clip("clap", seed=seed, frames=1, size=32, photos=True)
        changed.append(not np.array_equal(plain, real))
        np.testing.assert_array_equal(
            real, render_clip("clap", seed=seed, frames=1, size=32, photos=True)
        )
    assert 0.2 < np.mean(changed) < 0.8
    scenes = [
        not np.array_equal(
            paint_scene_clip(seed, 0, frames=1, size=32),
            paint_scene_clip(seed, 0, frames=1, size=32, photos=True),
        )
        for seed in range(24)
    ]
    assert 0.2 < np.mean(scenes) < 0.8


def test_other_pictures_are_refused(pictures: Path) -> None:
    Image.new("RGB", (80, 60), (0, 255, 0)).save(pictures / "red.png")
    with pytest.raises(UnavailableError, match=r"red\.png is not the picture that this version"):
        photos.load_photos()


def test_missing_packages_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = photos.Photo("no_such_package", "a.png", "", "nobody", "CC0")
    monkeypatch.setattr(photos, "PHOTOS", (missing,))
    photos.load_photos.cache_clear()
    with pytest.raises(UnavailableError, match="pip install scikit-image scikit-learn"):
        [render_clip("clap", seed=seed, frames=1, size=32, photos=True) for seed in range(20)]


def test_every_photo_names_its_author_and_a_permissive_licence() -> None:
    for photo in photos.PHOTOS:
        assert photo.author
        assert photo.licence in {"CC0", "public domain", "CC-BY 2.0"}
        assert len(photo.sha256) == 64


def test_installed_photos_are_the_known_ones() -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    photos.load_photos.cache_clear()
    assert len(photos.load_photos()) == len(photos.PHOTOS)
