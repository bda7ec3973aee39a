"""Panoramas: views follow the geometry, and takes of a view show the same place."""

from __future__ import annotations

import numpy as np
import pytest

from mafsar.errors import UnavailableError
from mafsar.synthetic.painting import panoramas
from mafsar.synthetic.painting.photos import Photo


def directions(high: int) -> np.ndarray:
    """A panorama whose pixels hold their directions: right, up, and ahead at longitude 0."""
    longitude = (np.arange(2 * high) + 0.5) / high * np.pi - np.pi
    latitude = np.pi / 2 - (np.arange(high) + 0.5) / high * np.pi
    flat = np.cos(latitude)[:, None]
    right, ahead = flat * np.sin(longitude), flat * np.cos(longitude)
    up = np.broadcast_to(np.sin(latitude)[:, None], right.shape)
    return np.stack([right, up, ahead], axis=-1).astype(np.float32)


@pytest.mark.parametrize(
    ("yaw", "pitch", "view"),
    [(0.0, 0.0, 1.0), (3.0, 0.2, 1.4), (-3.1, -0.4, 0.7), (1.2, 0.25, 1.1)],
)
def test_a_pixel_shows_what_lies_in_its_direction(yaw: float, pitch: float, view: float) -> None:
    size = 24
    seen = panoramas.look(directions(512), yaw, pitch, view, size)
    turn = np.array(
        [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    ) @ np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    reach = np.tan(view / 2)
    for row in range(size):
        for column in range(size):
            x, y = (2 * (column + 0.5) / size - 1) * reach, (1 - 2 * (row + 0.5) / size) * reach
            ray = turn @ (np.array([x, y, 1.0]) / np.sqrt(x * x + y * y + 1))
            np.testing.assert_allclose(seen[row, column], ray, atol=1e-3)


def test_takes_show_the_same_view_at_another_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)  # coloured tiles, where the real ones are not installed
    around = [
        np.kron(rng.uniform(0, 255, (4, 8, 3)), np.ones((32, 32, 1))).astype(np.float32)
        for _ in panoramas.PANORAMAS
    ]
    monkeypatch.setattr(panoramas, "load_panoramas", lambda: around)
    takes = np.stack(
        [
            [panoramas.paint_panorama_clip(seed, take, frames=3, size=32) for take in range(2)]
            for seed in range(12)
        ]
    )  # (places, takes, T, S, S, 3)
    assert takes.dtype == np.uint8
    np.testing.assert_array_equal(
        takes[3, 1], panoramas.paint_panorama_clip(3, 1, frames=3, size=32)
    )
    coarse = takes[:, :, 1].reshape(12, 2, 4, 8, 4, 8, 3).mean(axis=(3, 5)).reshape(12, 2, -1)
    coarse -= coarse.mean(axis=(0, 1))
    coarse /= np.linalg.norm(coarse, axis=-1, keepdims=True)
    alike = coarse[:, 0] @ coarse[:, 1].T  # whatever the light
    assert (alike.argmax(axis=1) == np.arange(12)).mean() > 0.8
    assert all(not np.array_equal(first, second) for first, second in takes)
    assert all(not np.array_equal(clip[0], clip[-1]) for clip in takes[:, 0])


def test_missing_panoramas_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Photo("no_such_package", "a.jpg", "", "nobody", "CC0")
    monkeypatch.setattr(panoramas, "PANORAMAS", (missing,))
    panoramas.load_panoramas.cache_clear()
    with pytest.raises(UnavailableError, match=r"pip install .*viser"):
        panoramas.paint_panorama_clip(0, 0)


def test_every_panorama_is_named_and_free() -> None:
    assert len({photo.sha256 for photo in panoramas.PANORAMAS}) == 10
    assert {photo.licence for photo in panoramas.PANORAMAS} == {"CC0"}


def test_installed_panoramas_are_the_known_ones() -> None:
    pytest.importorskip("viser")
    panoramas.load_panoramas.cache_clear()
    assert {around.shape for around in panoramas.load_panoramas()} == {(512, 1024, 3)}
