"""Text on pictures, glyph by glyph in a font that has it; no font file of our own.

Pillow carries one Latin font. Labels are Unicode, so for each character that it lacks the system's
fonts are asked for. Where none has it, one warning names the package that brings such a font.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_log = logging.getLogger(__name__)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoColorEmoji.ttf",
    "NotoEmoji-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansSymbols2-Regular.ttf",
    "Symbola.ttf",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
)
# Fonts made of pictures exist in these sizes only (Noto 109 and 136, Apple 160).
_PICTURE_SIZES = (109, 136, 160)
_MISSING = "\U0010ffff"  # a code point that no font has: shows what "missing" looks like
# What a Latin font without typographic characters shows instead.
_PLAIN = {
    "‐": "-", "‑": "-", "–": "-", "—": "-", "−": "-", "…": "...", "·": "-", "•": "-", "×": "x",
    "‘": "'", "’": "'", "“": '"', "”": '"', "→": ">", "≥": ">=", "≤": "<=",
}  # fmt: skip
_CJK = ((0x1100, 0x11FF), (0x2E80, 0x9FFF), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xF900, 0xFAFF),
        (0xFF00, 0xFFEF), (0x20000, 0x3FFFF))  # fmt: skip
_EMOJI = ((0x2600, 0x27BF), (0x1F000, 0x1FAFF))
_MOST_PROBED = 8  # files of `fc-list` that are opened for one character
warned: set[str] = set()
"""Packages that a warning has named already."""


@dataclass(frozen=True)
class _Run:
    """A piece of text in one font; `scale` shrinks fonts that exist in one size only."""

    text: str
    name: str | None
    font: Font
    scale: float

    @property
    def width(self) -> float:
        return self.font.getlength(self.text) * self.scale


def text_width(text: str, size: int) -> int:
    """Width of `text` in pixels."""
    return int(sum(run.width for run in _runs(text, size)) + 0.5)


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
    image: Image.Image,
    position: tuple[float, float],
    text: str,
    size: int,
    fill: str | tuple[int, ...],
    anchor: str = "la",
) -> None:
    """Draws `text`, each character in a font that has it.

    Args:
        image: What is drawn on.
        position: Where the anchor is, pixels.
        text: One line.
        size: Height of the font, pixels.
        fill: Colour; emoji keep their own where the system has a font of coloured ones.
        anchor: As Pillow names anchors: ``l``, ``m`` or ``r``, then ``a``, ``m`` or ``s``.
    """
    runs = _runs(text, size)
    draw = ImageDraw.Draw(image)
    left, baseline = position
    across, down = anchor[0], anchor[1]
    total = sum(run.width for run in runs)
    left -= {"l": 0.0, "m": total / 2, "r": total}[across]
    ascent, descent = _metrics(size)
    baseline += {"a": ascent, "m": (ascent - descent) / 2, "s": 0.0}[down]
    for run in runs:
        if run.scale == 1.0:
            draw.text((left, baseline), run.text, fill=fill, font=run.font, anchor="ls")
        else:
            glyphs = _picture_run(run)
            place = (round(left), round(baseline - 0.82 * glyphs.height))
            image.paste(glyphs, place, glyphs)
        left += run.width


def _runs(text: str, size: int) -> list[_Run]:
    """The text in pieces of one font each."""
    # A file name may hold bytes that are no text, which FreeType would refuse.
    text = text.encode("utf-8", "replace").decode("utf-8")
    pieces: list[tuple[str | None, str]] = []
    missing: list[str] = []
    for letter in text:
        kind = unicodedata.category(letter)
        if kind == "Cf" or 0xFE00 <= ord(letter) <= 0xFE0F or 0x1F3FB <= ord(letter) <= 0x1F3FF:
            continue  # joiners and variants: without them the plain characters are shown
        name: str | None = None
        # Marks belong to the letter before them, and a space fits in any font of letters.
        if pieces and kind.startswith("M"):
            name = pieces[-1][0]
        elif pieces and letter == " ":
            name = pieces[-1][0] if _sized(pieces[-1][0], size)[1] == 1.0 else None
        else:
            found = _font_with(letter)
            if found is None and letter in _PLAIN:
                letter = _PLAIN[letter]
            elif found is None:
                missing.append(letter)
            else:
                name = found.name
        if pieces and pieces[-1][0] == name:
            pieces[-1] = (name, pieces[-1][1] + letter)
        else:
            pieces.append((name, letter))
    if missing:
        _warn(missing)
    return [_Run(piece, name, *_sized(name, size)) for name, piece in pieces]


@dataclass(frozen=True)
class _Found:
    """A font that has a character; the name None stands for Pillow's own."""

    name: str | None


@lru_cache(maxsize=4096)
def _font_with(letter: str) -> _Found | None:
    """The first font that has `letter`: Pillow's own, a common one, any of the system's."""
    for name in (None, *_SYSTEM_FONTS):
        if _has(name, letter):
            return _Found(name)
    for path in _listed_fonts(letter):
        if _has(path, letter):
            return _Found(path)
    return None


def _listed_fonts(letter: str) -> Iterable[str]:
    """Files of which fontconfig says that they have `letter`, upright ones first."""
    tool = shutil.which("fc-list")
    if tool is None:
        return []
    words = [tool, f":charset={ord(letter):x}", "file"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    files = [line.strip().rstrip(":") for line in done.stdout.splitlines() if line.strip()]
    files.sort(key=lambda file: ("regular" not in file.lower(), len(Path(file).name), file))
    return files[:_MOST_PROBED]


def _sized(name: str | None, size: int) -> tuple[Font, float]:
    """The font at `size` pixels, or the one size that it has and the factor to shrink it by."""
    font = _font(name, size)
    if font is not None:
        return font, 1.0
    for pixels in _PICTURE_SIZES:
        font = _font(name, pixels)
        if font is not None:
            return font, size / pixels
    own = _font(None, size)
    assert own is not None  # Pillow's own font is always there
    return own, 1.0


@lru_cache(maxsize=256)
def _font(name: str | None, size: int) -> Font | None:
    if name is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _metrics(size: int) -> tuple[float, float]:
    """Ascent and descent of Pillow's own font, pixels; every run stands on its baseline."""
    font = _font(None, size)
    if isinstance(font, ImageFont.FreeTypeFont):
        ascent, descent = font.getmetrics()
        return float(ascent), float(descent)
    return 0.8 * size, 0.2 * size


@lru_cache(maxsize=256)
def _picture_run(run: _Run) -> Image.Image:
    """Coloured glyphs, RGBA, shrunk to the size that they are drawn in."""
    left, top, right, bottom = run.font.getbbox(run.text)
    width, height = max(round(right - left), 1), max(round(bottom - top), 1)
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    ImageDraw.Draw(image).text((-left, -top), run.text, font=run.font, embedded_color=True)
    shape = (max(round(width * run.scale), 1), max(round(height * run.scale), 1))
    return image.resize(shape, Image.Resampling.LANCZOS)


@lru_cache(maxsize=8192)
def _has(name: str | None, letter: str) -> bool:
    return _sample(name, letter) != _sample(name, _MISSING)


@lru_cache(maxsize=8192)
def _sample(name: str | None, letter: str) -> bytes:
    """What a font draws for one character; nothing where there is no such font."""
    if _font(name, 24) is None and all(_font(name, size) is None for size in _PICTURE_SIZES):
        return b""
    font, scale = _sized(name, 24)
    side = round(48 / scale)
    image = Image.new("RGBA", (side, side))
    ImageDraw.Draw(image).text((8, 8), letter, fill="white", font=font, embedded_color=scale != 1.0)
    return image.tobytes()


def _warn(missing: Iterable[str]) -> None:
    """Says once which package has a font for characters that no font here has."""
    letters = list(dict.fromkeys(missing))
    packages = {_package(letter): None for letter in letters}
    new = [package for package in packages if package not in warned]
    warned.update(new)
    if new:
        _log.warning(
            "no font on this system has %s: pictures show boxes instead; install one: "
            "sudo apt install %s",
            " ".join(letters[:8]),
            " ".join(new),
        )


def _package(letter: str) -> str:
    """The package of Debian and Ubuntu with a font for a character."""
    code = ord(letter)
    for package, ranges in (("fonts-noto-cjk", _CJK), ("fonts-noto-color-emoji", _EMOJI)):
        if any(first <= code <= last for first, last in ranges):
            return package
    return "fonts-noto-core"
