"""Backgrounds: walls, rooms, fields, clutter; painted from a seed, or cut from photographs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from mafsar.synthetic.painting import textures
from mafsar.synthetic.painting.photos import cut_photo
from mafsar.synthetic.palette import Colour, name_of, pick, shade

_PICTURE_STREAM, _PHOTO_STREAM = 102, 108
_PHOTO_SHARE = 0.45  # share of the clips that use a photograph, if photographs are asked for
# How often each is drawn; flat colours and patterns are rare in real clips.
_SHARES = {
    "wall": 5, "field": 4, "room": 4, "leaves": 2, "shelves": 2, "clutter": 3, "blurred": 3,
    "cloudy": 2, "gradient": 3, "plain": 2, "stripes": 1, "checks": 1,
}  # fmt: skip
KINDS = tuple(_SHARES)


def draw_kind(rng: np.random.Generator) -> str:
    """Draw one of KINDS."""
    shares = np.asarray(list(_SHARES.values()), float)
    return KINDS[int(rng.choice(len(KINDS), p=shares / shares.sum()))]


def paint_background(
    kind: str, seed: int, size: int, *, photos: bool = False
) -> tuple[np.ndarray, str]:
    """Paint a background of one of KINDS.

    Args:
        kind: One of KINDS.
        seed: Draws it.
        size: Its side, pixels.
        photos: Use a photograph instead in some clips.

    Returns:
        uint8 (size, size, 3) RGB, and a few words for it.

    Raises:
        UnavailableError: ``photos`` is set and the packages with the photographs are missing.
    """
    if photos:
        rng = np.random.default_rng([_PHOTO_STREAM, seed])
        if rng.random() < _PHOTO_SHARE:
            picture = _photographed(rng, size)
            return _finish(picture, rng), f"a real place mostly {name_of(picture.mean((0, 1)))}"
    rng = np.random.default_rng([_PICTURE_STREAM, seed])
    picture, words = _PAINTERS[kind](rng, size)
    if kind not in ("room", "clutter", "wall", "field") and rng.random() < 0.5:
        floor = int(size * rng.uniform(0.6, 0.85))
        picture[floor:] = picture[floor:] * rng.uniform(0.55, 0.85)
    # Real places are paler than the named colours, which things in front of them may have.
    grey = picture.mean(axis=-1, keepdims=True)
    picture = grey + rng.uniform(0.15, 1.0) * (picture - grey)
    rough = textures.cut("cloud" if rng.random() < 0.5 else "cloth", rng, size)
    picture = picture * (1 + rng.uniform(0.0, 0.2) * rough[..., None])
    if "{}" not in words:
        words += " mostly {}"
    return _finish(picture, rng), words.format(name_of(picture.mean(axis=(0, 1))))


def paint_surface(seed: int, size: int, colour: Colour, *, photos: bool = False) -> np.ndarray:
    """Paint a table top seen from the front, with its far edge at the top.

    Args:
        seed: Draws it.
        size: Its side, pixels.
        colour: Its main colour.
        photos: Use a photograph of a surface in some clips.

    Returns:
        float32 (size, size, 3), about [0, 255].
    """
    rng = np.random.default_rng([_PHOTO_STREAM, seed, 1])
    if photos and rng.random() < _PHOTO_SHARE:
        return textures.lay_down(cut_photo(rng, size, size, surface=True), size, size)
    kind = str(rng.choice(["boards", "boards", "grain", "cloth", "cloud", "plain"]))
    base = np.asarray(colour, np.float32)
    base = base.mean() + rng.uniform(0.2, 0.9) * (base - base.mean())
    if kind == "plain":
        return np.tile(base, (size, size, 1)).astype(np.float32)
    surface = textures.cut(kind, rng, size, grow=float(rng.uniform(0.4, 1.2)))
    if rng.random() < 0.5:
        surface = surface.T  # boards towards the viewer, or across
    bent = textures.lay_down(surface, size, size)[..., None]
    return np.asarray(base * (1 + rng.uniform(0.05, 0.3) * bent), np.float32)


def _finish(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grain = rng.normal(0, 2, (*picture.shape[:2], 1))
    return np.asarray(np.clip(picture + grain, 0, 255), np.uint8)


def _photographed(rng: np.random.Generator, size: int) -> np.ndarray:
    picture = cut_photo(rng, size, size)
    if rng.random() < 0.3:
        horizon = int(size * rng.uniform(0.5, 0.8))
        ground = cut_photo(rng, size, size, surface=True)
        picture[horizon:] = textures.lay_down(ground, size, size - horizon)
    return picture


def _blend(first: Colour, second: Colour, weight: np.ndarray) -> np.ndarray:
    """Mix two colours by a weight (H, W, 1) or (H, W)."""
    weight = weight if weight.ndim == 3 else weight[..., None]
    a, b = np.asarray(first, np.float32), np.asarray(second, np.float32)
    return np.asarray((1 - weight) * a + weight * b, np.float32)


def _pale(rng: np.random.Generator, low: float = 60, high: float = 225) -> Colour:
    """Draw a colour of walls and ground: any brightness, low saturation."""
    r, g, b = np.clip(rng.uniform(low, high) * rng.normal(1, 0.07, 3), 0, 255)
    return (int(r), int(g), int(b))


def _draw_dye(rng: np.random.Generator, bright: float) -> Callable[[np.random.Generator], Colour]:
    """Decide whether a background has bright colours; return the function that draws one."""
    if rng.random() < bright:
        return lambda rng: pick(rng)[1]
    return _pale


Painted = tuple[np.ndarray, str]


def _plain(rng: np.random.Generator, size: int) -> Painted:
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = pick(rng)[1]
    return picture, "a plain {} wall"


def _gradient(rng: np.random.Generator, size: int) -> Painted:
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    weight = ramp[:, None] * rng.random() + ramp[None] * rng.random()
    return _blend(pick(rng)[1], pick(rng)[1], np.asarray(weight, np.float32)), "a {} wall"


def _wall(rng: np.random.Generator, size: int) -> Painted:
    """A wall of plaster, boards or bricks, and the ground in front of it."""
    kind = str(rng.choice(["cloud", "cloth", "boards", "bricks", "grain"]))
    surface = textures.cut(kind, rng, size, grow=float(rng.uniform(0.4, 1.0)))
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = _pale(rng)
    picture *= 1 + rng.uniform(0.03, 0.08 if kind == "grain" else 0.18) * surface[..., None]
    if rng.random() < 0.75:
        _lay_ground(picture, int(size * rng.uniform(0.6, 0.95)), _pale(rng), rng)
    return picture, f"a {'brick' if kind == 'bricks' else 'rough'} {{}} wall"


def _field(rng: np.random.Generator, size: int) -> Painted:
    """Open ground under a sky, often with trees or a building between."""
    horizon = int(size * rng.uniform(0.35, 0.85))
    ramp = np.linspace(1, 0, size, dtype=np.float32)[:, None] * np.ones(size, np.float32)
    picture = _blend(_pale(rng, 150, 250), (120, 165, 220), ramp * float(rng.uniform(0, 1)))
    cloud = textures.cut("cloud", rng, size)[..., None]
    picture *= 1 + rng.uniform(0, 0.08) * cloud
    if rng.random() < 0.75:
        top = horizon - int(size * rng.uniform(0.05, 0.35))
        skyline = textures.cut("cloud", rng, size)[0] * size * rng.uniform(0.0, 0.06) + top
        between = np.arange(size)[:, None] > skyline[None]
        tone = _pale(rng, 40, 130) if rng.random() < 0.4 else (60, 85, 45)
        leaves = textures.cut("leaves", rng, size, grow=float(rng.uniform(0.3, 0.8)))
        trees = np.asarray(tone, np.float32) * (1 + rng.uniform(0.1, 0.4) * leaves[..., None])
        picture = np.where(between[..., None], trees, picture)
    green = rng.random() < 0.5
    _lay_ground(picture, horizon, (95, 130, 60) if green else _pale(rng), rng)
    return picture, "open ground"


def _lay_ground(
    picture: np.ndarray, horizon: int, colour: Colour, rng: np.random.Generator
) -> None:
    """Paint ground below a row, in place."""
    size = picture.shape[0]
    if horizon >= size:
        return
    kind = str(rng.choice(["grain", "cloth", "leaves", "boards"]))
    surface = textures.cut(kind, rng, size, grow=float(rng.uniform(0.25, 0.6)))
    bent = textures.lay_down(surface, size, size - horizon)[..., None]
    picture[horizon:] = np.asarray(colour, np.float32) * (1 + rng.uniform(0.05, 0.3) * bent)
    if rng.random() < 0.4:
        picture[horizon - 1 : horizon + 1] *= 0.6


def _leaves(rng: np.random.Generator, size: int) -> Painted:
    surface = textures.cut("leaves", rng, size, grow=float(rng.uniform(0.4, 1.5)))
    weight = np.clip(0.5 + rng.uniform(0.1, 0.4) * surface, 0, 1)
    return _blend(_pale(rng, 20, 140), _pale(rng, 90, 240), weight), "leaves"


def _shelves(rng: np.random.Generator, size: int) -> Painted:
    """Rows of upright boxes and books."""
    image = Image.new("RGB", (size, size), _pale(rng, 30, 160))
    draw = ImageDraw.Draw(image)
    rows = int(rng.integers(2, 5))
    dye = _draw_dye(rng, 0.5)
    for row in range(rows):
        bottom, x = (row + 1) * size / rows, 0.0
        while x < size:
            width = float(rng.uniform(0.02, 0.12)) * size
            if rng.random() < 0.85:
                top = bottom - float(rng.uniform(0.5, 0.9)) * size / rows
                draw.rectangle((x, top, x + width, bottom - 2), fill=shade(dye(rng), 0.85))
            x += width
        draw.line((0, bottom, size, bottom), fill=_pale(rng, 20, 90), width=max(2, size // 60))
    return np.asarray(image, np.float32), "shelves"


def _stripes(rng: np.random.Generator, size: int, checks: bool = False) -> Painted:
    angle, period = rng.uniform(0, np.pi), size * rng.uniform(0.07, 0.25)
    ys, xs = np.mgrid[:size, :size].astype(np.float32)
    across = np.sin((xs * np.cos(angle) + ys * np.sin(angle)) * 2 * np.pi / period)
    if checks:
        across = across * np.sin((ys * np.cos(angle) - xs * np.sin(angle)) * 2 * np.pi / period)
    weight = np.clip(across * 4 + 0.5, 0, 1) * rng.uniform(0.3, 1.0)
    kind = "checked" if checks else "striped"
    return _blend(pick(rng)[1], pick(rng)[1], weight), f"a {kind} {{}} wall"


def _checks(rng: np.random.Generator, size: int) -> Painted:
    return _stripes(rng, size, checks=True)


def _cloudy(rng: np.random.Generator, size: int, grow: float = 0.6) -> Painted:
    """Two colours mixed by smooth noise of several scales, tinted."""
    weight = np.clip(0.5 + 0.3 * textures.cut("cloud", rng, size, grow=grow), 0, 1)
    picture = _blend(pick(rng)[1], pick(rng)[1], weight)
    for channel in range(3):
        small = rng.normal(0, 25, (4, 4)).astype(np.float32)
        grown = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
        picture[..., channel] += np.asarray(grown)
    return picture, "clouds"


def _blurred(rng: np.random.Generator, size: int) -> Painted:
    """A background far out of focus."""
    cells = int(rng.integers(5, 14))
    source = [_room, _clutter, _shelves, _cloudy][int(rng.integers(4))](rng, 4 * cells)[0]
    small = Image.fromarray(np.clip(source, 0, 255).astype(np.uint8)).reduce(4)
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), np.float32), (
        "a blurred place"
    )


def _room(rng: np.random.Generator, size: int) -> Painted:
    """A room with pictures and furniture."""
    dye = _draw_dye(rng, 0.4)
    first, second = dye(rng), dye(rng)
    image = Image.new("RGB", (size, size), first)
    draw = ImageDraw.Draw(image)
    floor = int(size * rng.uniform(0.6, 0.9))
    draw.rectangle((0, floor, size, size), fill=shade(second, 0.7))
    draw.line((0, floor, size, floor), fill=shade(first, 0.5), width=2)
    if rng.random() < 0.4:
        _window(draw, rng, size)
    _scatter(draw, rng, size, count=int(rng.integers(3, 7)), floor=floor, square=0.85)
    picture = np.asarray(image, np.float32).copy()
    if rng.random() < 0.5:
        _lay_ground(picture, floor, shade(second, 0.7), rng)
    return picture, "a room with a {} wall"


def _window(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: int) -> None:
    x, y, w, h = rng.uniform([0.0, 0.0, 0.2, 0.25], [0.7, 0.25, 0.5, 0.6]) * size
    draw.rectangle((x, y, x + w, y + h), fill=_pale(rng, 190, 255), outline=_pale(rng, 20, 250))
    draw.line((x + w / 2, y, x + w / 2, y + h), fill=_pale(rng, 20, 250), width=3)


def _clutter(rng: np.random.Generator, size: int) -> Painted:
    """A heap of shapes."""
    image = Image.new("RGB", (size, size), pick(rng)[1])
    draw = ImageDraw.Draw(image)
    _scatter(draw, rng, size, count=int(rng.integers(12, 40)), floor=None, square=0.6)
    return np.asarray(image, np.float32), "a cluttered place"


def _scatter(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    size: int,
    *,
    count: int,
    floor: int | None,
    square: float,
) -> None:
    """Paint boxes and ovals, some of them standing on the floor."""
    dye = _draw_dye(rng, 0.5)
    for _ in range(count):
        colour = shade(dye(rng), float(rng.uniform(0.6, 1.1)))
        x, y = rng.uniform(-0.1, 1.0, 2) * size
        w, h = rng.uniform(0.06, 0.35, 2) * size
        if floor is not None and rng.random() < 0.5:
            y = floor - h
        box = (x, y, x + w, y + h)
        if rng.random() < square:
            draw.rectangle(box, fill=colour, outline=shade(colour, 0.6))
        else:
            draw.ellipse(box, fill=colour)


_PAINTERS: dict[str, Callable[[np.random.Generator, int], Painted]] = {
    "wall": _wall,
    "field": _field,
    "room": _room,
    "leaves": _leaves,
    "shelves": _shelves,
    "clutter": _clutter,
    "blurred": _blurred,
    "cloudy": _cloudy,
    "gradient": _gradient,
    "plain": _plain,
    "stripes": _stripes,
    "checks": _checks,
}
