"""Pictures are decoded as a player shows them: turned, in square pixels, in the right colours."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mafsar.video import hdr, load_clip, load_raw_clip

LOSSLESS = {"qp": "0", "preset": "ultrafast"}
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "grey": (128,) * 3}


def quadrants(number: int, width: int, height: int) -> np.ndarray:  # noqa: ARG001
    """Red top left, green top right, blue bottom left, grey bottom right."""
    picture = np.zeros((height, width, 3), np.uint8)
    for name, rows, columns in (
        ("red", slice(0, height // 2), slice(0, width // 2)),
        ("green", slice(0, height // 2), slice(width // 2, None)),
        ("blue", slice(height // 2, None), slice(0, width // 2)),
        ("grey", slice(height // 2, None), slice(width // 2, None)),
    ):
        picture[rows, columns] = COLOURS[name]
    return picture


def corner_names(picture: np.ndarray) -> list[str]:
    """The colours of top left, top right, bottom left, bottom right."""
    height, width = picture.shape[:2]
    found = []
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            colour = picture[y, x].astype(int)
            found.append(min(COLOURS, key=lambda name: np.abs(colour - COLOURS[name]).sum()))
    return found


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Patches the track header's matrix (ISO/IEC 14496-12, 8.3.2) of an MP4."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4
    start += 40 if data[start] == 0 else 52
    one = 1 << 16
    data[start : start + 36] = struct.pack(
        ">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30
    )
    path.write_bytes(bytes(data))


TURNS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
MIRRORS = [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]


@pytest.mark.parametrize("matrix", [*TURNS, *MIRRORS])
def test_display_matrix_is_applied(
    make: Any, tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    path = make.write(tmp_path / "phone.mp4", [0, 1, 2], size=(96, 64), picture=quadrants)
    set_matrix(path, *matrix)
    a, b, c, d = matrix
    corners = {(-1, -1): "red", (1, -1): "green", (-1, 1): "blue", (1, 1): "grey"}
    moved = {(a * p + c * q, b * p + d * q): name for (p, q), name in corners.items()}
    picture = load_raw_clip(path, frames=1).frames[0]
    assert corner_names(picture) == [moved[p, q] for q in (-1, 1) for p in (-1, 1)]
    assert picture.shape == ((64, 96, 3) if a else (96, 64, 3))


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(1, 2), Fraction(128, 117)])
def test_pixels_become_square(make: Any, tmp_path: Path, aspect: Fraction) -> None:
    def adjust(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = aspect

    path = make.write(tmp_path / "a.mp4", [0, 1], size=(96, 64), adjust=adjust, picture=quadrants)
    width = round(96 * aspect)
    assert load_raw_clip(path, frames=1).frames.shape == (1, 64, width, 3)
    # As on phones, the pixels are stretched before the picture is turned.
    set_matrix(path, 0, 1, -1, 0)
    turned = load_raw_clip(path, frames=1).frames
    assert turned.shape == (1, width, 64, 3)
    assert corner_names(turned[0]) == ["blue", "red", "grey", "green"]


def test_a_circle_in_wide_pixels_is_round_for_the_model(make: Any, tmp_path: Path) -> None:
    def disc(number: int, width: int, height: int) -> np.ndarray:  # noqa: ARG001
        y, x = np.mgrid[:height, :width] + 0.5
        inside = ((x - width / 2) * 2) ** 2 + (y - height / 2) ** 2 < 40**2
        return np.repeat(np.where(inside, 255, 0).astype(np.uint8)[..., None], 3, axis=-1)

    def adjust(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2)

    path = make.write(tmp_path / "a.mp4", [0, 1], size=(96, 128), adjust=adjust, picture=disc)
    light = load_clip(path, frames=1, size=64).pixels[0].mean(axis=-1) > 128
    across, down = light.sum(axis=1).max(), light.sum(axis=0).max()
    assert across == pytest.approx(64 * 80 / 128, abs=2)
    assert down == pytest.approx(across, abs=2)


@pytest.mark.parametrize(
    ("name", "codec", "layout"),
    [("a.mkv", "ffv1", "yuv420p"), ("a.mp4", "libx264", "yuv444p"), ("b.mkv", "ffv1", "yuv411p")],
)
def test_odd_sizes(make: Any, tmp_path: Path, name: str, codec: str, layout: str) -> None:
    path = make.write(tmp_path / name, codec=codec, layout=layout, size=(175, 97))
    frames = load_raw_clip(path, frames=8).frames
    assert frames.shape == (8, 97, 175, 3)
    assert [make.number_of(frame) for frame in frames] == make.expected(list(range(30)), 1, 8)
    assert load_clip(path, frames=8, size=32).pixels.shape == (8, 32, 32, 3)


# 8-bit codes of luma and the two colour differences, valid in limited and full range.
PATCHES = np.array(
    [
        (60, 128, 128),
        (180, 128, 128),
        (120, 90, 170),
        (150, 160, 100),
        (90, 140, 150),
        (200, 120, 118),
    ],
    dtype=np.float64,
)
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def planes(codes: np.ndarray, width: int, height: int, dtype: Any = np.uint8) -> np.ndarray:
    """4:4:4 planes, (3, H, W), of equally wide stripes of the codes."""
    stripe = np.arange(width) * len(codes) // width
    return np.repeat(codes.T[:, stripe][:, None, :], height, axis=1).astype(dtype)


def stripes(picture: np.ndarray, count: int) -> np.ndarray:
    """The colour in the middle of each stripe, (count, 3)."""
    centres = ((np.arange(count) + 0.5) * picture.shape[1] / count).astype(int)
    return picture[picture.shape[0] // 2, centres].astype(np.float64)


def to_rgb(codes: np.ndarray, matrix: int, *, full: bool, scale: float = 1.0) -> np.ndarray:
    """ITU-T H.273 equations: R'G'B' in [0, 1] of Y'CbCr codes, not clipped."""
    red, blue = LUMA[matrix]
    low, span, chroma = (0, 255, 255) if full else (16, 219, 224)
    luma = (codes[:, 0] / scale - low) / span
    cb, cr = ((codes[:, 1:] / scale - 128) / chroma).T
    r = luma + 2 * (1 - red) * cr
    b = luma + 2 * (1 - blue) * cb
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return np.stack([r, g, b], axis=-1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("tag", "height", "meant"),
    [(1, 64, 1), (5, 64, 5), (6, 720, 6), (9, 64, 9), (2, 64, 5), (2, 720, 1)],
)
def test_colour_matrix_and_range(
    make: Any, tmp_path: Path, tag: int, height: int, meant: int, full: bool
) -> None:
    def adjust(stream: Any) -> None:
        stream.codec_context.colorspace = tag
        stream.codec_context.color_range = 2 if full else 1

    path = make.write(
        tmp_path / "a.mp4", [0, 1], layout="yuv444p", frame_layout="yuv444p", options=LOSSLESS,
        size=(96, height), adjust=adjust, picture=lambda _, w, h: planes(PATCHES, w, h),
    )  # fmt: skip
    found = stripes(load_raw_clip(path, frames=1).frames[0], len(PATCHES))
    expected = np.clip(to_rgb(PATCHES, meant, full=full), 0, 1) * 255
    np.testing.assert_allclose(found, expected, atol=2)


def test_ten_bits(make: Any, tmp_path: Path) -> None:
    codes = PATCHES * 4 + 1

    def adjust(stream: Any) -> None:
        stream.codec_context.colorspace = stream.codec_context.color_range = 1

    path = make.write(
        tmp_path / "a.mkv", [0, 1], codec="ffv1", layout="yuv444p10le", frame_layout="yuv444p10le",
        adjust=adjust, picture=lambda _, w, h: planes(codes, w, h, np.uint16),
    )  # fmt: skip
    found = stripes(load_raw_clip(path, frames=1).frames[0], len(codes))
    expected = np.clip(to_rgb(codes, 1, full=False, scale=4), 0, 1) * 255
    np.testing.assert_allclose(found, expected, atol=2)


@pytest.mark.parametrize(
    ("color_range", "levels"),
    [
        (1, {16: 0, 126: 128, 235: 255}),
        (2, {16: 16, 126: 126, 235: 235}),
        (0, {16: 16, 126: 126, 235: 235}),
    ],
)
def test_grey(make: Any, tmp_path: Path, color_range: int, levels: dict[int, int]) -> None:
    def adjust(stream: Any) -> None:
        stream.codec_context.color_range = color_range

    def steps(number: int, width: int, height: int) -> np.ndarray:  # noqa: ARG001
        return np.repeat(np.repeat(list(levels), width // 3)[None], height, 0).astype(np.uint8)

    path = make.write(
        tmp_path / "a.mkv", [0, 1], codec="ffv1", layout="gray", frame_layout="gray",
        adjust=adjust, picture=steps,
    )  # fmt: skip
    found = stripes(load_raw_clip(path, frames=1).frames[0], 3)
    np.testing.assert_allclose(found, np.repeat([[v] for v in levels.values()], 3, 1), atol=2)


def hdr_expected(rgb: np.ndarray, transfer: str) -> np.ndarray:
    """BT.2100 light, BT.2390 tone curve 1000 → 203 cd/m² on the largest component, BT.709 colours,
    gamma 2.4, in float64 from the recommendations' own numbers. ``rgb`` in [0, 1], (N, 3).
    """
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875

    def eotf(code: Any) -> Any:
        power = np.power(np.clip(code, 0, 1), 1 / m2)
        return 10000 * np.power(np.maximum(power - c1, 0) / (c2 - c3 * power), 1 / m1)

    def inverse(nits: Any) -> Any:
        power = np.power(np.asarray(nits) / 10000, m1)
        return np.power((c1 + c2 * power) / (1 + c3 * power), m2)

    if transfer == "pq":
        light = np.minimum(eotf(rgb), 1000)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(rgb <= 0.5, rgb**2 / 3, (np.exp((rgb - c) / a) + b) / 12)
        luma = scene @ np.array([0.2627, 0.6780, 0.0593])
        light = 1000 * scene * luma[:, None] ** 0.2
    peak, white = inverse(1000.0), inverse(203.0)
    largest = np.minimum(light.max(axis=1), 1000)
    e1, top = inverse(largest) / peak, white / peak
    knee = 1.5 * top - 0.5
    t = (e1 - knee) / (1 - knee)
    hermite = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * top
    )
    mapped = eotf(np.where(e1 < knee, e1, hermite) * peak)
    linear = light * (mapped / np.maximum(largest, 1e-9))[:, None] / 203
    primaries = np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    )
    return 255 * np.clip(linear @ primaries.T, 0, 1) ** (1 / 2.4)


@pytest.mark.parametrize(("transfer", "tag"), [("pq", 16), ("hlg", 18)])
def test_hdr_is_tone_mapped(make: Any, tmp_path: Path, transfer: str, tag: int) -> None:
    codes = np.concatenate([PATCHES * 4, [(64, 512, 512), (300, 512, 512), (723, 512, 512)]])

    def adjust(stream: Any) -> None:
        context = stream.codec_context
        context.colorspace = context.color_primaries = 9
        context.color_trc, context.color_range = tag, 1

    path = make.write(
        tmp_path / "a.mkv", [0, 1], codec="ffv1", layout="yuv444p10le", size=(288, 64),
        frame_layout="yuv444p10le", adjust=adjust,
        picture=lambda _, w, h: planes(codes, w, h, np.uint16),
    )  # fmt: skip
    expected = hdr_expected(np.clip(to_rgb(codes, 9, full=False, scale=4), 0, 1), transfer)
    whole = load_raw_clip(path, frames=1).frames[0]
    np.testing.assert_allclose(stripes(whole, len(codes)), expected, atol=1.5)
    # For a model the picture is reduced before tone mapping; flat colours stay the same.
    for short_side in (32, 64):
        kept = load_raw_clip(path, frames=1, short_side=short_side).frames[0]
        np.testing.assert_allclose(stripes(kept, len(codes)), expected, atol=4)
    small = load_clip(path, frames=1, size=16).pixels[0]
    middle = expected[len(codes) // 2]
    np.testing.assert_allclose(small[8, 8], middle, atol=4)


@pytest.mark.parametrize("tag", [16, 18])
def test_hdr_in_h265(make: Any, tmp_path: Path, tag: int) -> None:
    """HDR as phones record it, 10 bits and 4:2:0."""

    def adjust(stream: Any) -> None:
        context = stream.codec_context
        context.colorspace = context.color_primaries = 9
        context.color_trc, context.color_range = tag, 1

    path = make.write(
        tmp_path / "a.ts", layout="yuv420p10le", codec="libx265", adjust=adjust,
        options={"x265-params": "log-level=none"},
    )  # fmt: skip
    frames = load_raw_clip(path, frames=8).frames
    assert [make.number_of(frame) for frame in frames] == make.expected(list(range(30)), 1, 8)
    light = hdr_expected(np.full((1, 3), 215 / 255), "pq" if tag == 16 else "hlg")[0]
    np.testing.assert_allclose(frames[-1].max(), light.max(), atol=6)


def test_hdr_levels_of_the_reports() -> None:
    """BT.2408: HDR white is 58 % PQ and 75 % HLG, which is 203 cd/m² on a 1000 cd/m² display."""
    assert hdr.nits_to_pq(np.array(203.0)) == pytest.approx(0.58, abs=0.002)
    assert hdr.nits_to_pq(np.array(1000.0)) == pytest.approx(0.75, abs=0.003)
    white = hdr.hlg_to_scene(np.array(0.75))
    assert 1000 * white**1.2 == pytest.approx(203, abs=1)
    ramp = np.repeat(np.linspace(0, 65535, 400).astype(np.uint16)[None, :, None], 3, axis=2)
    for transfer in ("pq", "hlg"):
        mapped = hdr.to_sdr(ramp, transfer)[0, :, 0].astype(int)
        assert mapped[0] == 0
        assert mapped[-1] == 255
        assert (np.diff(mapped) >= 0).all()
    shadows = np.array([1.0, 20.0, 80.0])
    np.testing.assert_allclose(hdr.compress(shadows), shadows, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "codec", "layout"),
    [("a.mov", "qtrle", "argb"), ("a.mkv", "ffv1", "yuva444p"), ("b.mkv", "ffv1", "bgra")],
)
def test_transparent_parts_are_black(
    make: Any, tmp_path: Path, name: str, codec: str, layout: str
) -> None:
    def veils(number: int, width: int, height: int) -> np.ndarray:  # noqa: ARG001
        picture = np.full((height, width, 4), 200, np.uint8)
        picture[..., 3] = np.repeat([0, 128, 255], width // 3)
        return picture

    path = make.write(
        tmp_path / name, [0, 1], codec=codec, layout=layout, frame_layout="rgba", picture=veils
    )
    found = stripes(load_raw_clip(path, frames=1).frames[0], 3)
    expected = np.repeat([[0.0], [200 * 128 / 255], [200.0]], 3, axis=1)
    np.testing.assert_allclose(found, expected, atol=2)


def test_transparent_gif(make: Any, tmp_path: Path) -> None:
    frames = []
    for number in (7, 7, 7, 7):
        grey = make.picture(number)[..., 0]
        rgba = np.dstack([grey, grey, grey, np.where(grey > 128, 255, 0).astype(np.uint8)])
        frames.append(Image.fromarray(rgba))
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, disposal=2)
    picture = load_raw_clip(path, frames=2).frames[0]
    assert make.number_of(picture) == 7
    assert picture[-1, -1].max() == 0


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P", "L", "I;16"])
def test_large_pictures_are_reduced_as_they_are_read(tmp_path: Path, kind: str) -> None:
    """Averages over squares of pixels, whichever way they are made; never the whole picture."""
    small = np.kron(np.arange(36).reshape(6, 6) * 7 % 256, np.ones((80, 80))).astype(np.uint8)
    large = np.kron(small, np.ones((9, 9), np.uint8))  # 4320 pixels a side
    pixels = np.repeat(large[..., None], 3, axis=-1)
    image = {
        "RGB": lambda: Image.fromarray(pixels),
        "RGBA": lambda: Image.fromarray(np.dstack([pixels, np.full(large.shape, 255, np.uint8)])),
        "P": lambda: Image.fromarray(large).convert("P"),
        "L": lambda: Image.fromarray(large),
        "I;16": lambda: Image.fromarray(large.astype(np.uint16) * 257),
    }[kind]()
    image.save(tmp_path / "large.png", compress_level=1)
    assert image.mode == kind
    frame = load_clip(tmp_path / "large.png", frames=1, size=240).pixels[0]
    centres = frame[20::40, 20::40, 0].astype(int)
    assert np.abs(centres - np.arange(36).reshape(6, 6) * 7).max() <= 2


def test_pages_of_a_bigtiff(make: Any, tmp_path: Path) -> None:
    pages = [Image.fromarray(make.picture(number)) for number in range(10)]
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], big_tiff=True)
    assert path.read_bytes()[:3] == b"II+"
    frames = load_raw_clip(path, frames=10).frames
    assert [make.number_of(frame) for frame in frames] == list(range(10))


def test_motion_jpeg_by_its_content(make: Any, tmp_path: Path) -> None:
    """JPEGs one after another are a stream, whatever the file is called; one alone is a picture."""
    stream = make.write(
        tmp_path / "a.mjpeg", list(range(40)), codec="mjpeg", layout="yuvj420p",
        options={"q:v": "2"},
    )  # fmt: skip
    path = stream.rename(tmp_path / "camera.data")
    taken = [make.number_of(frame) for frame in load_raw_clip(path, frames=8).frames]
    assert taken == [2, 7, 12, 17, 22, 27, 32, 37]


def test_still_pictures_of_every_kind(tmp_path: Path) -> None:
    half = np.zeros((20, 30, 4), np.uint8)
    half[...] = (200, 100, 50, 255)
    half[:, :15, 3] = 0
    Image.fromarray(half).save(tmp_path / "rgba.png")
    Image.fromarray(np.full((20, 30), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((20, 30), 77, np.uint8)).save(tmp_path / "grey.png")
    indexed = Image.fromarray(half[..., :3]).quantize(4)
    indexed.save(tmp_path / "indexed.png")
    Image.new("CMYK", (30, 20), (0, 0, 0, 0)).save(tmp_path / "print.jpg")
    upright = Image.fromarray(quadrants(0, 30, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90° clockwise to show
    upright.save(tmp_path / "phone.jpg", exif=exif, quality=100, subsampling=0)

    def shown(name: str) -> np.ndarray:
        return load_raw_clip(tmp_path / name, frames=1).frames[0]

    rgba = shown("rgba.png")
    assert tuple(rgba[0, 0]) == (0, 0, 0)
    assert tuple(rgba[0, -1]) == (200, 100, 50)
    assert (shown("deep.png") == 0x80).all()
    assert (shown("grey.png") == 77).all()
    assert tuple(shown("indexed.png")[0, -1]) == (200, 100, 50)
    assert (shown("print.jpg") > 250).all()
    assert shown("phone.jpg").shape == (30, 20, 3)
    assert corner_names(shown("phone.jpg")) == ["blue", "red", "grey", "green"]
