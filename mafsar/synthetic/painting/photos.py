"""Photographs from other packages, for backgrounds and table tops; used only on request.

They come from scikit-image (CC0 or public domain) and scikit-learn (CC-BY 2.0); none is copied into
this project. Their bytes are checked, so that the pixels of a clip never depend on a package's version.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from mafsar.errors import UnavailableError

_LONG_SIDE = 512


@dataclass(frozen=True)
class Photo:
    """A photograph: its package and file, its author and licence, and whether it shows a surface."""

    package: str
    path: str
    sha256: str
    author: str
    licence: str
    surface: bool = False


PHOTOS: tuple[Photo, ...] = (
    Photo(
        "skimage", "data/brick.png",
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
        "CC0Textures", "CC0", surface=True,
    ),
    Photo(
        "skimage", "data/grass.png",
        "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
        "CC0Textures", "CC0", surface=True,
    ),
    Photo(
        "skimage", "data/gravel.png",
        "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
        "CC0Textures", "CC0", surface=True,
    ),
    Photo(
        "skimage", "data/coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "Rachel Michetti", "CC0",
    ),
    Photo(
        "skimage", "data/camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        "Lav Varshney", "CC0",
    ),
    Photo(
        "skimage", "data/chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "Stefan van der Walt", "CC0",
    ),
    Photo(
        "skimage", "data/rocket.jpg",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        "SpaceX", "public domain",
    ),
    Photo(
        "sklearn", "datasets/images/china.jpg",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        "danielbuechele", "CC-BY 2.0",
    ),
    Photo(
        "sklearn", "datasets/images/flower.jpg",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        "vultilion", "CC-BY 2.0",
    ),
)  # fmt: skip


def cut_photo(
    rng: np.random.Generator, width: int, height: int, *, surface: bool = False
) -> np.ndarray:
    """Cut a random window out of a random photograph, mirrored and recoloured at random.

    Args:
        rng: Draws everything.
        width: Width of the result, pixels.
        height: Height of the result, pixels.
        surface: Take small windows of photographs that do not show a surface.

    Returns:
        float32 (height, width, 3), about [0, 255].

    Raises:
        UnavailableError: A package with photographs is not installed, or has other files.
    """
    photo, pixels = load_photos()[int(rng.integers(len(PHOTOS)))]
    tall, wide = pixels.shape[:2]
    share = rng.uniform(0.2, 0.45) if surface and not photo.surface else rng.uniform(0.4, 1.0)
    side = share * min(tall / height, wide / width)
    w, h = side * width, side * height
    x, y = rng.uniform(0, wide - w), rng.uniform(0, tall - h)
    window = Image.fromarray(pixels).resize(
        (width, height), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h)
    )
    cut = np.asarray(window, np.float32)
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    if photo.surface or rng.random() < 0.3:
        cut = cut[..., rng.permutation(3)] * rng.uniform(0.7, 1.2, 3).astype(np.float32)
    return np.ascontiguousarray((cut - 128) * rng.uniform(0.6, 1.1) + rng.uniform(90, 150))


@lru_cache(maxsize=1)
def load_photos() -> list[tuple[Photo, np.ndarray]]:
    """Read all photographs, uint8 (h, w, 3), at most 512 on the longer side."""
    loaded = []
    for photo in PHOTOS:
        image = read_photo(photo)
        shrink = min(1.0, _LONG_SIDE / max(image.size))
        size = (round(image.width * shrink), round(image.height * shrink))
        loaded.append((photo, np.asarray(image.resize(size, Image.Resampling.BOX))))
    return loaded


def read_photo(photo: Photo) -> Image.Image:
    """Read a photograph from its package, RGB.

    Raises:
        UnavailableError: The package is not installed, or has another file.
    """
    spec = find_spec(photo.package)
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
    path = None if folder is None else folder / photo.path
    if path is None or not path.is_file():
        raise _missing(f"{photo.package}/{photo.path} is not installed")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != photo.sha256:
        raise _missing(f"{path} is not the picture that this version of mafsar expects")
    return Image.open(io.BytesIO(content)).convert("RGB")


def _missing(what: str) -> UnavailableError:
    return UnavailableError(
        f"photographic backgrounds: {what}; install the starter group "
        "(pip install scikit-image scikit-learn viser==1.1.1) or render without photographs"
    )
