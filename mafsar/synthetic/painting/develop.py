"""From a painted to a stored picture: focus, light, colour, grain, low resolution, JPEG."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from mafsar.synthetic.painting.nuisance import Film

_NOISE_STREAM = 105
_LUMA = np.asarray([0.299, 0.587, 0.114], np.float32)


class Developer:
    """Develops the pictures of one clip.

    Args:
        film: What to do to them.
        seed: Seed of the clip; draws the grain.
        frames: Number of pictures, T.
        size: Side of the pictures, pixels.
    """

    def __init__(self, film: Film, seed: int, frames: int, size: int) -> None:
        self._film, self._size = film, size
        self._stored = size if film.pixels is None else min(film.pixels, size)
        at = np.random.default_rng([_NOISE_STREAM, seed]).integers(0, 64, (frames, 2))
        self._grain_at = np.tile(at[:1], (frames, 1)) if film.frozen else at
        self._light = _light(film, self._stored)
        grey = np.eye(3, dtype=np.float32) * film.saturation
        self._colour = grey + (1 - film.saturation) * _LUMA[:, None]
        levels = np.arange(256) / 255.0
        self._tone = np.round(255 * levels**film.gamma).astype(np.uint8)

    def develop(self, picture: np.ndarray, t: int) -> np.ndarray:
        """Develop picture t, uint8 (S, S, 3) to the same."""
        film, stored = self._film, self._stored
        image = Image.fromarray(picture)
        if film.blur > 0:
            image = image.filter(ImageFilter.BoxBlur(film.blur * self._size))
        if stored < self._size:
            image = image.resize((stored, stored), Image.Resampling.BOX)
        lit = np.asarray(image) * self._light
        if film.saturation != 1:
            lit = lit @ self._colour
        if film.noise > 0:
            x, y = self._grain_at[t]
            grain = _grain(-(-stored // 128) * 128)
            lit += film.noise * grain[y : y + stored, x : x + stored]
        image = Image.fromarray(self._tone[np.clip(lit, 0, 255).astype(np.uint8)])
        if film.quality is not None:
            image = _store(image, film.quality)
        if stored < self._size:
            image = image.resize((self._size, self._size), Image.Resampling.BILINEAR)
        return np.asarray(image)


def _store(image: Image.Image, quality: int) -> Image.Image:
    """Write and read a picture as JPEG with halved colour."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=2)
    return Image.open(file).convert("RGB")


def _light(film: Film, size: int) -> np.ndarray:
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope = 1 + film.falloff[0] * ramp[None] + film.falloff[1] * ramp[:, None]
    return np.asarray(slope[..., None] * np.asarray(film.gain), np.float32)


@lru_cache(maxsize=4)
def _grain(size: int) -> np.ndarray:
    rng = np.random.default_rng(_NOISE_STREAM)
    return np.asarray(rng.normal(0, 1, (size + 64, size + 64, 1)), np.float32)
