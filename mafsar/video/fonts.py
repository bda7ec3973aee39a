"""Text on pictures, in a font that has its letters, without font files of our own.

Pillow comes with one Latin font. Labels are Unicode: for letters that this font lacks, common
fonts of the system are tried.
"""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansArabic-Regular.ttf",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
)
_MISSING = "\U0010ffff"  # a code point that no font has: drawn as the font's "missing" glyph


def font_for(text: str, size: int) -> Font:
    """The first font that has every letter of `text`, at `size` pixels."""
    letters = frozenset(text) - {" "}
    fallback = _font(None, size)
    for name in (None, *_SYSTEM_FONTS):
        font = _font(name, size)
        if font is not None and all(_has(name, letter) for letter in letters):
            return font
    assert fallback is not None  # Pillow's own font always exists
    return fallback


def text_width(text: str, size: int) -> int:
    """Width of `text` in pixels."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return int(font_for(text, size).getlength(text) + 0.5)


def shortened(text: str, size: int, width: int) -> str:
    """`text`, with its middle replaced by … where it is wider than `width` pixels."""
    if text_width(text, size) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head = kept // 3
        candidate = f"{text[:head]}…{text[len(text) - (kept - head) :]}"
        if text_width(candidate, size) <= width:
            return candidate
    return "…"


def draw_text(
    draw: ImageDraw.ImageDraw,
    position: tuple[float, float],
    text: str,
    size: int,
    fill: str | tuple[int, ...],
    anchor: str = "la",
) -> None:
    """Draws `text` in a font that has its letters; `anchor` as Pillow names anchors."""
    # A file name may contain bytes that are not text, which FreeType would refuse.
    text = text.encode("utf-8", "replace").decode("utf-8")
    draw.text(position, text, fill=fill, font=font_for(text, size), anchor=anchor)


@lru_cache(maxsize=128)
def _font(name: str | None, size: int) -> Font | None:
    if name is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has(name: str | None, letter: str) -> bool:
    return _picture(name, letter) != _picture(name, _MISSING)


@lru_cache(maxsize=4096)
def _picture(name: str | None, letter: str) -> bytes:
    font = _font(name, 24)
    if font is None:
        return b""
    image = Image.new("L", (48, 48))
    ImageDraw.Draw(image).text((8, 8), letter, fill=255, font=font)
    return image.tobytes()
