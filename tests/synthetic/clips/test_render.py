"""Rendered clips: repeatable, told apart by motion alone, and reversed if their name says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mafsar.errors import InputError
from mafsar.synthetic import ACTIONS, class_names, render, render_clip, render_video
from mafsar.synthetic.__main__ import main
from mafsar.synthetic.body import JOINTS, draw_build, joints, pose
from mafsar.synthetic.clips.scene import paint_scene_clip
from mafsar.synthetic.painting.backgrounds import KINDS
from mafsar.synthetic.painting.figure import TRACKED
from mafsar.synthetic.painting.nuisance import draw_nuisance
from mafsar.video import load_clip

HAND = TRACKED.index("l_hand")
THING = len(TRACKED)


@pytest.mark.parametrize("name", class_names())
def test_same_seed_gives_the_same_pixels(name: str) -> None:
    first = render_clip(name, seed=11, frames=4, size=64)
    assert first.shape == (4, 64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, render_clip(name, seed=11, frames=4, size=64))
    assert not np.array_equal(first, render_clip(name, seed=12, frames=4, size=64))


def test_splits_are_disjoint_and_hold_whole_pairs() -> None:
    splits = {split: set(class_names(split)) for split in ("train", "val", "test")}
    assert len(splits["train"]) >= 24
    assert len(splits["val"]) >= 6
    assert len(splits["test"]) >= 6
    assert sum(map(len, splits.values())) == len(set().union(*splits.values())) == len(ACTIONS)
    reversed_pairs = [e for e in ACTIONS.values() if e.partner and not e.side]
    assert len(reversed_pairs) == 2 * sum(entry.backwards for entry in ACTIONS.values())
    assert len(reversed_pairs) >= len(ACTIONS) / 2
    for entry in (entry for entry in ACTIONS.values() if entry.partner):
        partner = ACTIONS[str(entry.partner)]
        assert partner.split == entry.split
        assert partner.partner == entry.name


BACKWARDS = [entry for entry in ACTIONS.values() if entry.backwards]


@pytest.mark.parametrize("entry", BACKWARDS, ids=lambda entry: entry.name)
def test_reversed_pair_is_the_same_motion_backwards(entry) -> None:  # type: ignore[no-untyped-def]
    steady = next(seed for seed in range(200) if np.abs(draw_nuisance(seed).shake).max() == 0)
    forward = render(str(entry.partner), seed=steady, frames=8, size=64)
    backward = render(entry.name, seed=steady, frames=8, size=64)
    np.testing.assert_allclose(backward.points, forward.points[::-1], atol=1e-6)
    grain = 4 * draw_nuisance(steady).film.noise + 1
    gap = backward.frames.astype(int) - forward.frames[::-1].astype(int)
    assert np.abs(gap).mean() <= grain
    # And it is a motion: the first and the last frame differ.
    assert np.nanmax(np.abs(forward.points[0] - forward.points[-1])) > 0.02


@pytest.mark.parametrize(
    "name",
    [
        entry.name
        for entry in ACTIONS.values()
        if entry.side > 0 and not entry.name.startswith("turn")
    ],
)
@pytest.mark.parametrize("seed", range(6))
def test_sided_classes_go_where_they_say(name: str, seed: int) -> None:
    point = TRACKED.index("pelvis") if ACTIONS[name].scene == "person" else THING
    right = render(name, seed=seed).points[:, point, 0]
    left = render(str(ACTIONS[name].partner), seed=seed).points[:, point, 0]
    assert right[-1] - right[0] > 0.2
    assert left[-1] - left[0] < -0.2


def test_pencil_turns_clockwise_in_the_picture_whatever_the_seed() -> None:
    for seed in range(6):
        points = render("turn_clockwise", seed=seed).points[:, THING : THING + 3].astype(float)
        arm = points[:, 2] - points[:, 0]
        angles = np.unwrap(np.arctan2(arm[:, 1], arm[:, 0]))  # y downwards: grows clockwise
        assert angles[-1] - angles[0] > 1.0


def test_body_and_place_depend_on_the_seed_alone() -> None:
    """Clips of one seed show the same clothes and background for every action."""
    seed = next(s for s in range(200) if np.abs(draw_nuisance(s).shake).max() == 0)
    phrases = {
        name: [p for p in render(name, seed=seed).phrases[0] if "shirt" in p or "front of" in p]
        for name, entry in ACTIONS.items()
        if entry.scene == "person"
    }
    assert len({tuple(value) for value in phrases.values()}) == 1
    # The border of the picture is background; compare classes that are never mirrored apart.
    corners = [render_clip(n, seed=seed)[0, :6, :6].astype(int) for n in ("clap", "jump", "kick")]
    for corner in corners[1:]:
        assert np.abs(corner - corners[0]).mean() < 4 * draw_nuisance(seed).film.noise + 1


def test_nuisance_varies_between_seeds() -> None:
    drawn = [draw_nuisance(seed) for seed in range(200)]
    assert {nuisance.background for nuisance in drawn} == set(KINDS)
    assert len({nuisance.build.shirt_name for nuisance in drawn}) >= 8
    scales = [nuisance.scale for nuisance in drawn]
    assert min(scales) < 0.5
    assert max(scales) > 0.9
    assert np.ptp([nuisance.yaw for nuisance in drawn]) > 80
    assert {nuisance.mirror for nuisance in drawn} == {True, False}
    films = [nuisance.film for nuisance in drawn]
    assert 0.2 < np.mean([film.saturation == 0 for film in films]) < 0.4
    assert 0.3 < np.mean([film.pixels is not None for film in films]) < 0.6
    assert min(film.pixels or 112 for film in films) < 64
    assert min(film.quality or 100 for film in films) < 30
    assert 0.3 < np.mean([np.abs(nuisance.shake).max() == 0 for nuisance in drawn]) < 0.7


def test_standing_people_stay_in_the_picture() -> None:
    for seed in range(60):
        first = render("wave_hand", seed=seed, size=32).points[:, : len(TRACKED)]
        head, feet = first[:, TRACKED.index("head"), 1], first[:, TRACKED.index("l_ankle") :, 1]
        assert head.min() > -0.05
        assert feet.max() < 1.1


def test_grey_and_small_clips_are_grey_and_small() -> None:
    films = {seed: draw_nuisance(seed).film for seed in range(100)}
    grey = next(s for s, film in films.items() if film.saturation == 0)
    clip = render_clip("clap", seed=grey).astype(int)
    assert np.ptp(clip - clip.mean(axis=-1, keepdims=True), axis=-1).mean() < 12  # light has a tint
    small = next(s for s, film in films.items() if film.pixels and film.noise == 0)
    sharp = next(s for s, f in films.items() if not (f.pixels or f.blur or f.noise or f.quality))
    energy = [
        np.abs(np.fft.rfft2(render_clip("clap", seed=seed)[0].mean(axis=-1)))[40:72, 40:].mean()
        for seed in (small, sharp)
    ]
    assert energy[0] < energy[1]


def test_classes_move_differently() -> None:
    """For the same body, the paths of the joints differ between any two classes of people."""
    names = [name for name, entry in ACTIONS.items() if entry.scene == "person"]
    tracks = np.stack([render(name, seed=5, size=32).points[:, : len(TRACKED)] for name in names])
    flat = tracks.reshape(len(names), -1).astype(float)
    gaps = np.abs(flat[:, None] - flat[None]).max(axis=-1)
    np.fill_diagonal(gaps, 1)
    assert gaps.min() > 0.02


# Where the thing is at the end against the beginning: across, up, and how far at most between.
def _thing_path(name: str, seed: int) -> np.ndarray:
    return render(name, seed=seed, frames=24, size=32).points[:, THING].astype(float)


@pytest.mark.parametrize("name", ["fail_to_lift", "tilt_and_let_back", "poke_object"])
def test_failed_attempts_leave_things_where_they_were(name: str) -> None:
    for seed in range(5):
        track = _thing_path(name, seed)
        shake = np.abs(draw_nuisance(seed).shake).max()
        assert np.abs(track[0] - track[-1]).max() < 0.01 + 2 * shake
        hand = render(name, seed=seed, frames=24, size=32).points[:, THING + 2]
        assert np.nanmax(np.ptp(hand, axis=0)) > 0.15  # a hand tried


def test_hand_reaches_head_and_cup_reaches_mouth() -> None:
    for seed in range(6):
        for name in ("put_hand_on_head", "put_cup_to_mouth"):
            points = render(name, seed=seed, frames=6, size=32).points
            head, hands = points[:, TRACKED.index("head")], points[:, HAND : HAND + 2]
            gaps = np.linalg.norm(hands - head[:, None], axis=-1).min(axis=1)
            assert gaps[-1] < 0.23 * draw_nuisance(seed).scale
            assert gaps[-1] < 0.7 * gaps[0]


def test_raised_hands_are_above_the_head_at_the_end_only() -> None:
    for seed in range(5):
        points = render("raise_both_arms", seed=seed).points
        head, hands = points[:, TRACKED.index("head"), 1], points[:, HAND : HAND + 2, 1]
        assert (hands[0] > head[0]).all()  # y runs downwards
        assert (hands[-1] < head[-1]).all()


def test_limbs_keep_their_length_and_feet_their_ground() -> None:
    rng = np.random.default_rng(0)
    poses = np.stack([pose(), pose(b_hip=90, b_knee=90), pose(tip=-80), pose(pitch=70, turn=120)])
    placed = joints(poses, draw_build(rng))
    index = {name: i for i, name in enumerate(JOINTS)}
    for a, b in (("l_shoulder", "l_elbow"), ("r_kneejoint", "r_ankle"), ("pelvis", "chest")):
        length = np.linalg.norm(placed[:, index[a]] - placed[:, index[b]], axis=-1)
        np.testing.assert_allclose(length, length[0], rtol=1e-9)
    np.testing.assert_allclose(placed[..., 1].min(axis=1), 0.025, atol=1e-9)


def test_takes_of_a_place_share_its_colours() -> None:
    clips = np.stack([[paint_scene_clip(seed, take) for take in (0, 1)] for seed in range(12)])
    means = clips.mean(axis=(2, 3, 4))  # (seed, take, 3)
    same = np.abs(means[:, 0] - means[:, 1]).mean()
    other = np.abs(means[:, 0] - np.roll(means[:, 1], 1, axis=0)).mean()
    assert same < 0.6 * other
    assert not np.array_equal(clips[0, 0], clips[0, 1])


def test_unknown_class_names_the_nearest() -> None:
    with pytest.raises(InputError, match="raise_both_arms"):
        render_clip("raise_both_arm", seed=0)
    with pytest.raises(InputError, match="frames"):
        render_clip("clap", seed=0, frames=0)


def test_video_shows_what_the_array_shows(tmp_path: Path) -> None:
    path = render_video("bend_forward", tmp_path / "clip.mp4", seed=3, seconds=1, fps=8, size=112)
    clip = load_clip(path, frames=8, size=112)
    assert clip.duration_seconds == pytest.approx(1.0, abs=0.05)
    wanted = render_clip("bend_forward", seed=3, frames=8, size=112)
    assert np.abs(clip.pixels.astype(int) - wanted).mean() < 6


def test_demo_has_a_reversed_pair_and_other_people_in_queries(tmp_path: Path) -> None:
    assert main(["demo", str(tmp_path), "--shots", "1"]) == 0
    classes = sorted(folder.name for folder in (tmp_path / "support").iterdir())
    assert any(ACTIONS[name].partner in classes for name in classes)
    assert sorted(p.stem for p in (tmp_path / "queries").glob("*.mp4")) == classes
    assert all(ACTIONS[name].split == "test" for name in classes)


def test_contact_sheet_and_errors_of_the_command(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    assert main(["sheet", str(path), "--classes", "clap,stir"]) == 0
    assert path.stat().st_size > 1000
    assert main(["clip", "clapp", str(tmp_path / "x.mp4")]) == 1


def test_rendering_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['av'] = None\n"
        "from mafsar.synthetic import render_clip\n"
        "assert render_clip('clap', seed=0).shape == (8, 112, 112, 3)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
