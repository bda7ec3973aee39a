"""Labels of any script in pictures: glyph by glyph, and one warning where no font has one."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image, ImageFont

from mafsar.video import fonts


def drawn(text: str, size: int = 40) -> np.ndarray:
    image = Image.new("RGB", (700, 80), "white")
    fonts.draw_text(image, (10, 10), text, size, "black")
    return np.asarray(image).astype(int)


@pytest.fixture
def only_pillows_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without any font."""

    truetype = ImageFont.truetype

    def missing(font: object, *words: object, **options: object) -> object:
        if isinstance(font, str):
            raise OSError("no such font")
        return truetype(font, *words, **options)  # Pillow's own font comes from memory

    monkeypatch.setattr(ImageFont, "truetype", missing)
    monkeypatch.setattr(fonts.shutil, "which", lambda _: None)
    caches = [value for value in vars(fonts).values() if hasattr(value, "cache_clear")]
    for cached in caches:
        cached.cache_clear()
    fonts.warned.clear()
    yield
    for cached in caches:
        cached.cache_clear()
    fonts.warned.clear()


def test_typographic_characters_have_a_shape_without_system_fonts(only_pillows_font: None) -> None:
    del only_pillows_font
    tofu = drawn("\U0010ffff")
    for letter in "–—…’“·×":
        shown = drawn(letter)
        assert (shown != 255).any(), letter
        assert (shown != tofu).any(), letter


def test_one_warning_names_the_packages(
    only_pillows_font: None, caplog: pytest.LogCaptureFixture
) -> None:
    del only_pillows_font
    with caplog.at_level(logging.WARNING, "mafsar"):
        for _ in range(3):
            drawn("手を振る 👋 – wave")
    (record,) = caplog.records
    said = record.getMessage()
    assert "手 を 振 る 👋" in said
    assert "sudo apt install fonts-noto-cjk fonts-noto-color-emoji" in said
    assert "–" not in said


def test_each_character_comes_from_a_font_that_has_it() -> None:
    """Whatever fonts are here: a mixed text is as wide as its pieces, and keeps their shapes."""
    for text in ("wave жест", "– wave", "жж"):
        whole = fonts.text_width(text, 30)
        pieces = sum(fonts.text_width(word, 30) for word in text.split(" "))
        assert whole >= pieces - 2
    assert fonts.text_width("", 30) == 0
    assert fonts.text_width("a\u200d\ufe0f", 30) == fonts.text_width("a", 30)


@pytest.mark.parametrize("anchor", ["la", "ra", "ma", "lm", "rs", "ms"])
def test_anchors_are_pillows(anchor: str) -> None:
    from PIL import ImageDraw

    ours, theirs = (Image.new("L", (300, 120), 0) for _ in range(2))
    fonts.draw_text(ours, (150, 60), "Wave 0.93", 30, 255, anchor)  # type: ignore[arg-type]
    ImageDraw.Draw(theirs).text(
        (150, 60), "Wave 0.93", fill=255, font=ImageFont.load_default(30), anchor=anchor
    )
    ours_box, theirs_box = ours.getbbox(), theirs.getbbox()
    assert ours_box == pytest.approx(theirs_box, abs=1)
