"""Views of real places, as through a hand-held camera, from panoramas.

The ten panoramas of Poly Haven (CC0) are part of the package viser; none is copied into this
project. A photograph gives one view of a place; a panorama gives any number of views, and two takes
of a view that differ as two clips from one camera do.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mafsar.synthetic.painting.photos import Photo, read_photo

_PANORAMA_STREAM = 114
_SHA256 = {
    "dikhololo_night": "736a497fb53c50b5ab7f94740c4dafc65fb6e05592bc592d8b4c27e9abc974c9",
    "empty_warehouse_01": "8e2f00e156e3aec90b85ac98d9027d4c63e1c4e36133dc816c2674f00ebccbd1",
    "forest_slope": "d9911a7af626df46942e968b6612f42ac77f33602f86bedf2bcc9a27bfc3b318",
    "kiara_1_dawn": "483b206f292583c7da13e1d2045e66d42d2d36e4f1ba4e5748a00ae46f66ab9d",
    "lebombo": "2128eff3036157c15e8f7056dcc49ed94ddc606e73edc2dd5ee5aeeadf4f4294",
    "potsdamer_platz": "01e4690f086a9f1e46201ead1c7ff45aa7556ec534f4205c9d38534d3476a932",
    "rooitou_park": "5fe75682ef16300d78747325d7538167940e64963f9423d9144580f62198504e",
    "st_fagans_interior": "c7ac30f6ee6dfab3baefad60fdc93a01172de5c0132d5e95c9410d43f4de2553",
    "studio_small_03": "e03b8f898562515714bab61fee0dd1e09c880e7b06c979148fc1eaca52680b7a",
    "venice_sunset": "73105f28cdd7f3e1ef4ad944c69b35b747c37c18b96c06c010faa29c13a84ae5",
}
PANORAMAS: tuple[Photo, ...] = tuple(
    Photo("viser", f"_assets/hdri/{name}_1k.jpg", sha256, "Poly Haven", "CC0")
    for name, sha256 in _SHA256.items()
)


def paint_panorama_clip(seed: int, take: int, *, frames: int = 8, size: int = 112) -> np.ndarray:
    """Paint one take of a view of a real place without an action.

    Takes of the same seed look in about the same direction; each has its own drift of the camera,
    light and grain.

    Args:
        seed: Draws the place and the view.
        take: Number of the clip of this view.
        frames: Number of frames, T.
        size: Side of the picture, pixels.

    Returns:
        uint8 (frames, size, size, 3).

    Raises:
        UnavailableError: The package with the panoramas is not installed, or has other files.
    """
    place = np.random.default_rng([_PANORAMA_STREAM, seed])
    own = np.random.default_rng([_PANORAMA_STREAM, seed, take + 1])
    around = load_panoramas()[int(place.integers(len(PANORAMAS)))]
    yaw, pitch = place.uniform(-np.pi, np.pi), place.uniform(-0.45, 0.25)
    view = place.uniform(0.7, 1.5) * own.uniform(0.85, 1.18)
    start, stop = np.array([yaw, pitch]) + own.normal(0, [0.12, 0.06], (2, 2))
    stop = start + own.uniform(0.2, 1.0) * (stop - start)
    zoom = own.uniform(0.95, 1.05)
    gain = own.uniform(0.85, 1.15) * (1 + own.normal(0, 0.03, 3))
    clip = np.empty((frames, size, size, 3), np.uint8)
    for t in range(frames):
        share = t / max(1, frames - 1)
        yaw, pitch = start + share * (stop - start)
        seen = look(around, yaw, pitch, view * zoom**share, size)
        clip[t] = np.clip(seen * gain + own.normal(0, 3, (size, size, 1)), 0, 255)
    return clip


def look(around: np.ndarray, yaw: float, pitch: float, view: float, size: int) -> np.ndarray:
    """Take a square picture of a panorama, as a pinhole camera would, bilinear.

    Args:
        around: float32 (h, 2·h, 3), equirectangular: longitude −π … π from left to right, latitude
            π/2 … −π/2 from top to bottom.
        yaw: Direction of the camera, radians to the right.
        pitch: Direction of the camera, radians upwards.
        view: Angle of view, radians, below π.
        size: Side of the picture, pixels.

    Returns:
        float32 (size, size, 3).
    """
    high, wide = around.shape[:2]
    across = np.tan(view / 2) * ((2 * np.arange(size) + 1) / size - 1)
    right, down = np.meshgrid(across, across)
    up = np.sin(pitch) - np.cos(pitch) * down
    ahead = np.cos(pitch) + np.sin(pitch) * down
    longitude = yaw + np.arctan2(right, ahead)
    latitude = np.arctan2(up, np.hypot(right, ahead))
    x = (longitude / (2 * np.pi) + 0.5) * wide - 0.5
    y = np.clip((0.5 - latitude / np.pi) * high - 0.5, 0, high - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    dx, dy = (x - left)[..., None], (y - top)[..., None]
    columns, rows = (left % wide, (left + 1) % wide), (top, np.minimum(top + 1, high - 1))
    upper, lower = (
        (1 - dx) * around[row, columns[0]] + dx * around[row, columns[1]] for row in rows
    )
    return np.asarray((1 - dy) * upper + dy * lower, np.float32)


@lru_cache(maxsize=1)
def load_panoramas() -> list[np.ndarray]:
    """Read all panoramas, float32 (512, 1024, 3) in [0, 255]."""
    return [np.asarray(read_photo(photo), np.float32) for photo in PANORAMAS]
