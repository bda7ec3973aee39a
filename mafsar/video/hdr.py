"""Tone mapping in numpy, from HDR pictures (PQ or HLG, BT.2020) to SDR (BT.709): not every build of
FFmpeg has filters for it.

PQ codes become light by SMPTE ST 2084 (BT.2100 table 4), HLG codes by the inverse OETF and the OOTF
of a 1000 cd/m² display (BT.2100 table 5). Highlights are compressed by the EETF of Report BT.2390
(5.4.1) from 1000 to 203 cd/m², the level of diffuse white (BT.2408), by the largest of R, G, B so
that hues do not change. Colours are converted to BT.709 (BT.2087) and clipped, and the result is
encoded for an SDR display (BT.1886, gamma 2.4).
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

Transfer = Literal["pq", "hlg"]

PEAK_NITS = 1000.0
WHITE_NITS = 203.0

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_HLG_A = 0.17883277
_HLG_B, _HLG_C = 1 - 4 * _HLG_A, 0.5 - _HLG_A * float(np.log(4 * _HLG_A))
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    dtype=np.float32,
)
_STEPS = 4096


def pq_to_nits(code: np.ndarray) -> np.ndarray:
    """Light in cd/m² of PQ codes in [0, 1]."""
    power = np.maximum(code, 0.0) ** (1 / _M2)
    light = np.maximum(power - _C1, 0) / (_C2 - _C3 * power)
    return np.asarray(10000 * light ** (1 / _M1))


def nits_to_pq(nits: np.ndarray) -> np.ndarray:
    """PQ code of light in cd/m²; the inverse of `pq_to_nits`."""
    power = (np.maximum(nits, 0.0) / 10000) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def hlg_to_scene(code: np.ndarray) -> np.ndarray:
    """Scene light in [0, 1] of HLG codes in [0, 1]."""
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - _HLG_C) / _HLG_A) + _HLG_B) / 12)


def compress(nits: np.ndarray) -> np.ndarray:
    """The EETF of BT.2390: unchanged up to the knee, then a Hermite curve to `WHITE_NITS`."""
    top = float(nits_to_pq(np.array(PEAK_NITS)))
    limit = float(nits_to_pq(np.array(WHITE_NITS))) / top
    knee = 1.5 * limit - 0.5
    code = np.minimum(nits_to_pq(nits) / top, 1.0)
    t = np.maximum(code - knee, 0.0) / (1 - knee)
    curve = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * limit
    )
    return pq_to_nits(np.where(code < knee, code, curve) * top)


def to_sdr(codes: np.ndarray, transfer: Transfer) -> np.ndarray:
    """Maps an HDR picture to SDR.

    Args:
        codes: BT.2020 R'G'B', full range, (H, W, 3), uint16.
        transfer: The curve from codes to light.

    Returns:
        BT.709 R'G'B', (H, W, 3), uint8.
    """
    if transfer == "pq":
        light = _pq_table()[codes]
    else:
        scene = _hlg_table()[codes]
        luma = scene @ _LUMA_2020
        light = scene * (PEAK_NITS * np.maximum(luma, 1e-6) ** np.float32(0.2))[..., None]
    largest = np.minimum(light.max(axis=-1) / np.float32(PEAK_NITS), 1)
    # Square-root spacing puts more of the table's entries at dark levels, as the eye needs.
    gain = _gain_table()[(np.sqrt(largest) * (_STEPS - 1) + 0.5).astype(np.int32)]
    linear = (light * gain[..., None]) @ (_TO_709.T / np.float32(WHITE_NITS))
    steps = (np.sqrt(np.clip(linear, 0, 1)) * (_STEPS - 1) + 0.5).astype(np.int32)
    return np.asarray(_sdr_table()[steps])


@functools.cache
def _pq_table() -> np.ndarray:
    """Light of every 16-bit PQ code, clipped at the peak."""
    nits = np.minimum(pq_to_nits(np.arange(65536) / 65535), PEAK_NITS)
    return np.asarray(nits, dtype=np.float32)


@functools.cache
def _hlg_table() -> np.ndarray:
    return np.asarray(hlg_to_scene(np.arange(65536) / 65535), dtype=np.float32)


@functools.cache
def _gain_table() -> np.ndarray:
    """Compressed / original light, indexed by the square root of light / peak."""
    nits = np.maximum((np.arange(_STEPS) / (_STEPS - 1)) ** 2 * PEAK_NITS, 1e-4)
    return np.asarray(compress(nits) / nits, dtype=np.float32)


@functools.cache
def _sdr_table() -> np.ndarray:
    """8-bit codes, indexed by the square root of linear light."""
    linear = (np.arange(_STEPS) / (_STEPS - 1)) ** 2
    return np.rint(255 * linear ** (1 / 2.4)).astype(np.uint8)
