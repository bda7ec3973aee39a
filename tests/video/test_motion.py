"""Still clips, judged from pixels."""

from __future__ import annotations

import numpy as np
import pytest

from mafsar.synthetic import class_names, render_clip
from mafsar.video.motion import STILL_LEVELS, is_still, motion_levels


def picture(seed: int) -> np.ndarray:
    return render_clip("wave_hand", seed=seed, frames=1, size=112)


@pytest.mark.parametrize("noise", [0.0, 2.0, 5.0, 10.0])
def test_one_picture_with_a_sensor_s_noise_is_still(noise: float) -> None:
    rng = np.random.default_rng(3)
    for seed in range(8):
        seen = picture(seed) + rng.normal(0, noise, (8, 112, 112, 3))
        assert is_still(motion_levels(np.clip(seen, 0, 255).astype(np.uint8)))


def test_a_change_of_brightness_is_not_motion() -> None:
    grey = (
        np.full((6, 112, 112, 3), 90, np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None]
    )
    assert motion_levels(grey) == 0.0


def test_every_rendered_action_moves() -> None:
    for name in class_names("test"):
        for seed in range(3):
            assert motion_levels(render_clip(name, seed=40 + seed)) > 2 * STILL_LEVELS


def test_a_small_thing_that_crosses_the_picture_is_seen() -> None:
    clip = np.repeat(picture(1), 8, axis=0)
    for t, frame in enumerate(clip):
        frame[50:60, 5 + 12 * t : 15 + 12 * t] = (250, 240, 20)
    assert not is_still(motion_levels(clip))


def test_noise_moves_and_one_frame_does_not() -> None:
    rng = np.random.default_rng(0)
    assert not is_still(motion_levels(rng.integers(0, 256, (8, 112, 112, 3), dtype=np.uint8)))
    assert motion_levels(picture(2)) == 0.0
    assert not is_still(-1.0)  # unknown
