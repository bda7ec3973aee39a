"""Geometry: how its values are read and checked, and what they do to the picture."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from mafsar.cli.wording import worded
from mafsar.errors import InputError
from mafsar.video import Geometry, clip_from_array
from mafsar.video.picture import Picture
from mafsar.video.preprocess import arrange, to_square


def test_values_are_read_from_text() -> None:
    assert Geometry.parse() == Geometry()
    parsed = Geometry.parse(fit="pad", roi="10, 20,30,40", rotate="90", hflip=True)
    assert parsed == Geometry(fit="pad", roi=(10, 20, 30, 40), rotate=90, hflip=True)
    assert Geometry.parse(roi="0,0.5,1,0.5").roi == (0, 0.5, 1, 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"roi": "10,10,0,5"}, "roi=(10, 10, 0, 5): width must be > 0; give X,Y,W,H"),
        ({"roi": "10,10,5,-1"}, "roi=(10, 10, 5, -1): height must be > 0"),
        ({"roi": "-1,0,5,5"}, "roi=(-1, 0, 5, 5): X must be ≥ 0"),
        ({"roi": "1,2,3"}, "roi=(1, 2, 3): 3 numbers instead of four"),
        ({"roi": "1,2,3,x"}, "roi='1,2,3,x': not four numbers"),
        ({"roi": "1,2,3,nan"}, "roi=(1, 2, 3, nan): every number must be finite"),
        ({"roi": "0.5,0,0.6,1"}, "roi=(0.5, 0, 0.6, 1): reaches outside the picture"),
        ({"rotate": "45"}, "rotate=45: must be 0, 90, 180 or 270"),
        ({"rotate": "left"}, "rotate='left': must be 0, 90, 180 or 270"),
        ({"fit": "stretch"}, "fit='stretch': must be crop or pad"),
    ],
)
def test_wrong_text_is_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        Geometry.parse(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"roi": (10, 10, 0, 5)}, "roi=(10, 10, 0, 5): width must be > 0"),
        ({"roi": (1, 2, 3)}, "roi=(1, 2, 3): 3 numbers instead of four"),
        ({"roi": "1,2,3,4"}, "roi: must be four numbers, got '1,2,3,4'"),
        ({"roi": 5}, "roi: must be four numbers, got 5"),
        ({"roi": (0, 0, float("inf"), 1)}, "roi=(0, 0, inf, 1): every number must be finite"),
        ({"rotate": "90"}, "rotate='90': must be 0, 90, 180 or 270"),
        ({"hflip": "no"}, "hflip: must be True or False, got 'no'"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        Geometry(**values)
    assert "\n" not in str(caught.value)


def test_the_command_line_words_the_same_errors_as_flags() -> None:
    with pytest.raises(InputError) as caught:
        Geometry(roi=(10, 10, 0, 5))
    assert worded(caught.value).startswith("--roi 10,10,0,5: width must be > 0; ")


def test_equal_regions_have_one_form() -> None:
    whole = Geometry(roi=[0, 0, 1, 1])  # type: ignore[arg-type]
    assert whole == Geometry(roi=(0.0, 0.0, 1.0, 1.0))
    assert json.dumps(whole.to_json()) == json.dumps(Geometry.parse(roi="0,0,1,1").to_json())


def test_json_round_trip() -> None:
    for geometry in (Geometry(), Geometry("pad", (0.0, 0.1, 0.5, 0.9), 270, True)):
        assert Geometry.from_json(geometry.to_json()) == geometry
    with pytest.raises(InputError, match="unknown name rio"):
        Geometry.from_json({"rio": [1, 2, 3, 4]})


def test_region_in_pixels_and_fractions() -> None:
    assert Geometry(roi=(10, 20, 30, 40)).roi_box(100, 80) == (10, 20, 40, 60)
    assert Geometry(roi=(0.1, 0.25, 0.3, 0.5)).roi_box(100, 80) == (10, 20, 40, 60)
    assert Geometry(roi=(0, 0, 1, 1)).roi_box(97, 31) == (0, 0, 97, 31)
    with pytest.raises(InputError, match="outside the picture of 100x80 pixels"):
        Geometry(roi=(90, 0, 20, 10)).roi_box(100, 80)


@pytest.fixture
def corners() -> np.ndarray:
    """Red top left, green top right, blue bottom left, white bottom right; 60 wide, 40 high."""
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:20, :30] = (255, 0, 0)
    picture[:20, 30:] = (0, 255, 0)
    picture[20:, :30] = (0, 0, 255)
    picture[20:, 30:] = (255, 255, 255)
    return picture


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize(
    ("geometry", "shape", "expected"),
    [
        (Geometry(), (40, 60), (RED, GREEN, BLUE, WHITE)),
        (Geometry(rotate=90), (60, 40), (BLUE, RED, WHITE, GREEN)),
        (Geometry(rotate=180), (40, 60), (WHITE, BLUE, GREEN, RED)),
        (Geometry(rotate=270), (60, 40), (GREEN, WHITE, RED, BLUE)),
        (Geometry(hflip=True), (40, 60), (GREEN, RED, WHITE, BLUE)),
        (Geometry(rotate=90, hflip=True), (60, 40), (RED, BLUE, GREEN, WHITE)),
        (Geometry(roi=(30, 20, 30, 20)), (20, 30), (WHITE,) * 4),
        (Geometry(hflip=True, roi=(0, 0, 30, 20)), (20, 30), (GREEN,) * 4),
        (Geometry(rotate=90, roi=(0, 0, 20, 30)), (30, 20), (BLUE,) * 4),
    ],
)
def test_order_is_rotate_flip_region(
    corners: np.ndarray, geometry: Geometry, shape: tuple[int, int], expected: tuple[object, ...]
) -> None:
    pixels = arrange(Picture.of(corners), geometry).pixels
    assert pixels.shape[:2] == shape
    found = [tuple(pixels[y, x].tolist()) for y in (0, -1) for x in (0, -1)]
    assert found == list(expected)


def test_crop_takes_the_centre_and_pad_the_whole(corners: np.ndarray) -> None:
    corners[:, :10] = corners[:, -10:] = (9, 9, 9)  # exactly what the crop leaves out
    cropped = to_square(Picture.of(corners), 20, Geometry())
    assert cropped.shape == (20, 20, 3)
    assert tuple(cropped[3, 3]) == RED
    assert tuple(cropped[-4, -4]) == WHITE
    padded = to_square(Picture.of(corners), 30, Geometry(fit="pad"))
    assert padded.shape == (30, 30, 3)
    assert (padded[:5] == 0).all()
    assert (padded[25:] == 0).all()
    assert tuple(padded[6, 0]) == (9, 9, 9)
    assert (padded[5:25].max(axis=(0, 2)) > 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (97, 175), (3, 224)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_any_shape_becomes_the_square(shape: tuple[int, int], fit: str) -> None:
    picture = Picture.of(np.full((*shape, 3), 77, np.uint8))
    square = to_square(picture, 32, Geometry.parse(fit=fit))
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.uint8
    assert set(np.unique(square).tolist()) <= {0, 77}
    if fit == "crop":
        assert (square == 77).all()


def test_region_outside_names_the_size(corners: np.ndarray) -> None:
    with pytest.raises(InputError, match="outside the picture of 60x40 pixels"):
        clip_from_array(corners[None], frames=2, size=8, geometry=Geometry(roi=(50, 0, 20, 10)))
