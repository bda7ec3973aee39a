"""Long videos of one place: actions at known times, with idle time between them.

A person comes into an empty room, acts, stands idle, and leaves; others pass by or come in later.
Each action begins in the pose in which the last one ended: raised arms stay up until they are
lowered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mafsar.synthetic.actions.classes import ACTIONS, Action, action
from mafsar.synthetic.actions.people import REST, draw_sign
from mafsar.synthetic.body import Build, draw_build, field, sway
from mafsar.synthetic.clips.stage import Stage
from mafsar.synthetic.motion import Motion
from mafsar.synthetic.painting.nuisance import Nuisance, draw_nuisance

SHORTEST, LONGEST = 0.5, 12.0
"""Length of an action, seconds."""
_STREAM = 112
_IDLE = (0.8, 5.0)  # seconds between actions
_EMPTY = (2.0, 8.0)  # seconds that the room is empty
_PERIOD = (0.6, 1.4)  # seconds of a repetition
_BLEND_SECONDS = 0.35  # from the pose before an action to its first pose
_SWAY_SECONDS = 4.0
_OUTSIDE = 6.0  # body heights to the side: out of the picture
_WALKING = (0.45, 0.9)  # body heights a second
_CROSSINGS = ("walk_to_the_right", "walk_to_the_left")


@dataclass(frozen=True)
class Event:
    """An action in a stream: its start and end in seconds, and its label."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Stream:
    """A long video ready to be painted, and its events."""

    stage: Stage
    events: list[Event]


def stream_classes() -> list[str]:
    """Return the classes that streams can show: people who stay in place and hold nothing."""
    return [name for name, entry in ACTIONS.items() if _stays_in_place(entry)]


def plan_stream(
    names: Sequence[str],
    *,
    seed: int,
    seconds: float,
    fps: float,
    size: int,
    photos: bool = False,
) -> Stream:
    """Plan a stream.

    Args:
        names: Its actions, from ``stream_classes()``. People who enter, leave or cross are
            labelled, too.
        seed: Draws everything.
        seconds: Its length.
        fps: Frames a second.
        size: Side of the picture, pixels.
        photos: The background may be a photograph.
    """
    rng = np.random.default_rng([_STREAM, seed])
    nuisance = _steady(draw_nuisance(seed), rng)
    frames = max(1, round(seconds * fps))
    script = _Script(names, rng, frames, fps, nuisance)
    script.run()
    poses = script.poses
    sway(poses, nuisance.posture * [[1.0], [0.4]], np.arange(frames) / fps / _SWAY_SECONDS)
    stage = Stage(
        Motion(poses),
        nuisance,
        seed=seed,
        frames=frames,
        size=size,
        mirrored=False,
        photos=photos,
        cast=script.cast,
    )
    return Stream(stage, script.events)


class _Script:
    """Writes the poses of a stream and its events, from the first frame to the last."""

    def __init__(
        self,
        names: Sequence[str],
        rng: np.random.Generator,
        frames: int,
        fps: float,
        nuisance: Nuisance,
    ) -> None:
        self._entries = [action(name) for name in names]
        self._rng, self._fps, self._frames = rng, fps, frames
        self._facing = draw_sign(rng) * float(rng.uniform(20, 50))
        # Distance to the side at which a person is out of the picture, body heights.
        self._off = (0.5 + abs(nuisance.offset[0])) / nuisance.scale + 0.27
        self._t = 0
        self.events: list[Event] = []
        self.cast: list[tuple[int, Build]] = []
        self.poses = np.tile(REST, (frames, 1))

    def run(self) -> None:
        """Fill the whole length: an empty room, a person for a while, an empty room again."""
        while self._t < self._frames:
            self._nobody(_EMPTY)
            if self._rng.random() < 0.35:
                self._walk(_CROSSINGS[int(self._rng.integers(2))])
                self._nobody(_EMPTY)
            self._walk("enter")
            pose = self._standing()
            visit = self._t + round(float(self._rng.uniform(20, 60)) * self._fps)
            due: Action | None = None
            while self._t < min(visit, self._frames) or due is not None:
                self._idle(pose)
                entry = due or self._entries[int(self._rng.integers(len(self._entries)))]
                if entry.backwards and due is None and entry.partner is not None:
                    entry = action(entry.partner)
                pose = self._act(entry, pose)
                reverse = entry.partner is not None and not entry.backwards
                due = action(str(entry.partner)) if reverse else None
                if self._t >= self._frames:
                    return
            self._idle(pose)
            self._walk("leave")

    def _standing(self) -> np.ndarray:
        pose = REST.copy()
        field(pose[None], "turn")[0] = self._facing
        return pose

    def _put(self, poses: np.ndarray) -> None:
        """Append poses; those past the end of the video are dropped."""
        room = self._frames - self._t
        self.poses[self._t : self._t + len(poses)] = poses[:room]
        self._t += min(len(poses), room)

    def _happen(self, label: str, poses: np.ndarray) -> None:
        """Append poses and their event."""
        if self._t + len(poses) > self._frames:
            # An action that would not end in time does not begin: the last pose is held.
            last = self.poses[self._t - 1] if self._t else self._nowhere()
            self._put(np.tile(last, (self._frames - self._t, 1)))
            return
        start = self._t / self._fps
        self._put(poses)
        self.events.append(Event(start, self._t / self._fps, label))

    def _count(self, low: float, high: float) -> int:
        return max(1, round(float(self._rng.uniform(low, high)) * self._fps))

    def _nowhere(self) -> np.ndarray:
        pose = REST.copy()
        field(pose[None], "x")[0] = _OUTSIDE
        return pose

    def _nobody(self, seconds: tuple[float, float]) -> None:
        self._put(np.tile(self._nowhere(), (self._count(*seconds), 1)))

    def _idle(self, pose: np.ndarray) -> None:
        self._put(np.tile(pose, (self._count(*_IDLE), 1)))

    def _walk(self, label: str) -> None:
        """Let a person come in, go out or cross at walking speed."""
        if label != "leave":
            self.cast.append((self._t, draw_build(self._rng)))
        side = draw_sign(self._rng) * self._off
        start, stop = {
            "enter": (side, 0.0),
            "leave": (0.0, side),
            "walk_to_the_right": (-self._off, self._off),
            "walk_to_the_left": (self._off, -self._off),
        }[label]
        length = abs(stop - start)
        count = max(4, round(length / float(self._rng.uniform(*_WALKING)) * self._fps))
        p = np.linspace(0, 1, count)
        poses = action("walk_to_the_right").motion(self._rng, p * length).poses
        assert poses is not None
        field(poses, "x")[:] = start + (stop - start) * p
        field(poses, "turn")[:] = np.copysign(80.0, stop - start)
        if label == "enter":
            poses = _blend_out(poses, self._standing(), self._blend(count))
        elif label == "leave":
            poses = _blend_in(poses, self._standing(), self._blend(count))
        self._happen(label, poses)

    def _blend(self, count: int) -> int:
        """Return the frames of a change of pose within an event of ``count`` frames."""
        return max(1, min(round(_BLEND_SECONDS * self._fps), count // 4))

    def _act(self, entry: Action, pose: np.ndarray) -> np.ndarray:
        """Perform an action that starts in a pose; return its last pose."""
        low, high = np.log(SHORTEST if not entry.cyclic else 1.2), np.log(LONGEST)
        seconds = float(np.exp(self._rng.uniform(low, high)))
        count = max(3, round(seconds * self._fps))
        p = np.linspace(0, 1, count)
        if entry.cyclic:
            p = (p * max(1.0, seconds / float(self._rng.uniform(*_PERIOD)))) % 1.0
        elif entry.backwards:
            p = 1 - p
        style = np.random.default_rng(self._style if entry.backwards else self._new_style())
        poses = entry.motion(style, p).poses
        assert poses is not None
        field(poses, "turn")[:] += self._facing
        poses = _blend_in(poses, pose, self._blend(count))
        if entry.partner is None or entry.backwards:
            poses = _blend_out(poses, self._standing(), self._blend(count))
        self._happen(entry.name, poses)
        return np.asarray(poses[-1])

    def _new_style(self) -> int:
        """Draw the variation of the next action; its reverse has the same one."""
        self._style = int(self._rng.integers(2**31))
        return self._style


def _blend_in(poses: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
    """Change from another pose into these poses within their first ``count`` frames."""
    weight = np.linspace(0, 1, count, endpoint=False)[:, None]
    weight = weight * weight * (3 - 2 * weight)
    blended = poses.copy()
    blended[:count] = (1 - weight) * start + weight * poses[:count]
    return blended


def _blend_out(poses: np.ndarray, end: np.ndarray, count: int) -> np.ndarray:
    """Change from these poses into another one within their last ``count`` frames."""
    return _blend_in(poses[::-1], end, count)[::-1]


def _steady(nuisance: Nuisance, rng: np.random.Generator) -> Nuisance:
    """Return the nuisance of a fixed camera in a room without bystanders."""
    return replace(
        nuisance,
        bystander=False,
        shake=np.zeros_like(nuisance.shake),
        yaw=float(rng.uniform(-15, 15)),
        film=replace(nuisance.film, noise=min(nuisance.film.noise, 3.0), frozen=True),
    )


def _stays_in_place(entry: Action) -> bool:
    """Whether it is an action of a person without props who stays in place."""
    if entry.scene != "person" or entry.side:
        return False
    motion = entry.motion(np.random.default_rng(0), np.linspace(0, 1, 9))
    poses = motion.poses
    if poses is None or motion.props:
        return False
    moved = max(float(np.ptp(field(poses, name))) for name in ("x", "z"))
    return moved < 0.5 and entry.name not in ("step_forward", "step_back")
