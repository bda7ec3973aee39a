"""Painting of a person and the things nearby, from far to near."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from mafsar.synthetic.body import J, field, joints
from mafsar.synthetic.motion import Motion, Prop
from mafsar.synthetic.painting.canvas import Canvas, Point
from mafsar.synthetic.painting.nuisance import Nuisance
from mafsar.synthetic.palette import shade

TRACKED = (
    "head", "chest", "pelvis", "l_elbow", "r_elbow", "l_hand", "r_hand",
    "l_kneejoint", "r_kneejoint", "l_ankle", "r_ankle",
)  # fmt: skip


class Person:
    """A person in a clip: joints and props projected for every frame.

    Attributes:
        world: float64 (T, J, 3) joints in body heights, before the view.
        points: float64 (T, len(TRACKED), 2) picture fractions.
    """

    def __init__(self, motion: Motion, nuisance: Nuisance) -> None:
        if motion.poses is None:
            raise ValueError("motion.poses must be an array for a person's clip, got None")
        self._nuisance = nuisance
        self._build = nuisance.build
        self._props = motion.props
        self.world = joints(motion.poses, self._build)
        self._view = _view(motion.view + nuisance.yaw, nuisance.tilt)
        self._flat, self._depth, self._grow = self._project(self.world)
        self._at = [self._project(self._where(prop)[:, None]) for prop in motion.props]
        self.points = self._flat[:, [J[name] for name in TRACKED]]
        self.lift = field(motion.poses, "up")

    def _where(self, prop: Prop) -> np.ndarray:
        """Return the position of a prop (T, 3): its own, or that of the hands that hold it."""
        if prop.held is None:
            return prop.position
        hands = ["r_hand"] if prop.hands == "right" else ["l_hand", "r_hand"]
        grip = self.world[:, [J[name] for name in hands]].mean(axis=1)
        weight = prop.held[:, None]
        return np.asarray(weight * grip + (1 - weight) * prop.position)

    def _project(self, world: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return picture positions (T, n, 2), depths (T, n) and scales (T, n)."""
        scale, (dx, dy) = self._nuisance.scale, self._nuisance.offset
        seen = (world - [0.0, 0.5, 0.0]) @ self._view.T
        grow = scale * np.maximum(0.15, 1 + self._nuisance.perspective * seen[..., 2])
        x = 0.5 + dx + grow * seen[..., 0]
        y = 0.53 + dy - grow * seen[..., 1]
        return np.stack([x, y], axis=-1), seen[..., 2], grow

    def paint(self, canvas: Canvas, t: int, shift: np.ndarray) -> None:
        """Paint frame t, moved by ``shift`` (2,)."""
        flat = self._flat[t] + shift
        spot: dict[str, Point] = {n: (float(flat[i, 0]), float(flat[i, 1])) for n, i in J.items()}
        depth, unit = self._depth[t], float(self._grow[t].mean())
        feet = 0.5 * (flat[J["l_ankle"]] + flat[J["r_ankle"]])
        # The shadow falls on the side opposite to the light.
        aside = feet[0] - 0.1 * unit * self._nuisance.light[0]
        floor = float(flat[:, 1].max() + self._nuisance.scale * self.lift[t])
        canvas.oval((aside, floor), 0.2 * unit, 0.035 * unit, (0, 0, 0), 70)
        parts = self._body_parts(canvas, spot, depth, unit)
        for prop, (at, far, grow) in zip(self._props, self._at, strict=True):
            here = at[t, 0] + shift
            parts.append((float(far[t, 0]), self._prop(canvas, prop, here, float(grow[t, 0]))))
        for _, paint in sorted(parts, key=lambda part: part[0]):
            paint()

    def _body_parts(
        self, canvas: Canvas, spot: dict[str, Point], depth: np.ndarray, unit: float
    ) -> list[tuple[float, Callable[[], None]]]:
        build = self._build
        parts: list[tuple[float, Callable[[], None]]] = []
        girth = build.girth * unit

        def limb(a: str, b: str, ra: float, rb: float, colour: tuple[int, int, int]) -> None:
            far = 0.5 * (depth[J[a]] + depth[J[b]])
            draw = partial(canvas.capsule, spot[a], spot[b], ra * girth, rb * girth, colour)
            parts.append((float(far), draw))

        shin = build.skin if build.shorts else build.trousers
        fore = build.shirt if build.long_sleeves else build.skin
        for side in "lr":
            limb(f"{side}_hipjoint", f"{side}_kneejoint", 0.052, 0.042, build.trousers)
            limb(f"{side}_kneejoint", f"{side}_ankle", 0.038, 0.027, shin)
            limb(f"{side}_ankle", f"{side}_toe", 0.028, 0.022, build.shoes)
            limb(f"{side}_shoulder", f"{side}_elbow", 0.036, 0.030, build.shirt)
            limb(f"{side}_elbow", f"{side}_hand", 0.028, 0.022, fore)
            parts.append(self._hand(canvas, spot, depth, unit, side))
        trunk = float(np.mean([depth[J[n]] for n in ("chest", "pelvis")]))
        parts.append((trunk, lambda: self._torso(canvas, spot, girth)))
        if build.pack is not None:
            parts.append(self._pack(canvas, spot, depth, unit))
        facing = float(depth[J["face"]] - depth[J["head"]]) / build.head
        parts.append((float(depth[J["head"]]), lambda: self._head(canvas, spot, unit, facing)))
        return parts

    def _hand(
        self, canvas: Canvas, spot: dict[str, Point], depth: np.ndarray, unit: float, side: str
    ) -> tuple[float, Callable[[], None]]:
        """Return the depth of a hand and a function that paints it along the forearm."""
        wrist, elbow = spot[f"{side}_hand"], spot[f"{side}_elbow"]
        ahead = 0.3 / self._build.arm
        tip = (wrist[0] + ahead * (wrist[0] - elbow[0]), wrist[1] + ahead * (wrist[1] - elbow[1]))
        far = float(depth[J[f"{side}_hand"]]) + 0.01
        skin = self._build.skin
        return far, partial(canvas.capsule, wrist, tip, 0.027 * unit, 0.019 * unit, skin)

    def _pack(
        self, canvas: Canvas, spot: dict[str, Point], depth: np.ndarray, unit: float
    ) -> tuple[float, Callable[[], None]]:
        """Return the depth of a bag on the back and a function that paints it."""
        chest, pelvis, head, face = (np.array(spot[n]) for n in ("chest", "pelvis", "head", "face"))
        behind = -0.09 * unit * (face - head) / (self._build.head * unit)
        top, low = chest + behind, chest + 0.6 * (pelvis - chest) + behind
        away = -0.09 * float(depth[J["face"]] - depth[J["head"]]) / self._build.head
        far = float(depth[J["chest"]]) + away
        colour = self._build.pack or self._build.shirt
        ends = (float(top[0]), float(top[1])), (float(low[0]), float(low[1]))
        return far, partial(canvas.capsule, *ends, 0.075 * unit, 0.085 * unit, colour)

    def _torso(self, canvas: Canvas, spot: dict[str, Point], girth: float) -> None:
        corners = [spot[n] for n in ("l_shoulder", "r_shoulder", "r_hipjoint", "l_hipjoint")]
        build, shirt = self._build, self._build.shirt
        if build.skirt:
            knees = self._down_the_thighs(spot, 0.9)
            hem = [_from(knees[0], knees[1], 1.35), _from(knees[1], knees[0], 1.35)]
            canvas.polygon([corners[2], corners[3], *hem], build.trousers)
            canvas.capsule(knees[0], knees[1], 0.05 * girth, 0.05 * girth, build.trousers)
        if build.coat > 0:
            hem = self._down_the_thighs(spot, build.coat)
            for hip, low in zip(corners[3:1:-1], hem, strict=True):
                canvas.capsule(hip, low, 0.06 * girth, 0.062 * girth, shirt)
            canvas.polygon([corners[2], corners[3], *hem], shirt)
        for a, b in ((0, 3), (1, 2)):
            canvas.capsule(corners[a], corners[b], 0.045 * girth, 0.055 * girth, shirt)
        canvas.polygon(corners, shirt)
        thick = 0.062 * girth * build.belly
        canvas.capsule(spot["chest"], spot["pelvis"], 0.062 * girth, thick, shirt)
        if build.stripes is not None:
            for along in (0.15, 0.4, 0.65, 0.9):
                left, right = (
                    _from(corners[0], corners[3], along),
                    _from(corners[1], corners[2], along),
                )
                canvas.line(
                    _from(left, right, -0.12), _from(left, right, 1.12), 0.03 * girth, build.stripes
                )

    def _down_the_thighs(self, spot: dict[str, Point], along: float) -> list[Point]:
        """Return the points on both thighs at a fraction of the way from hip to knee."""
        return [_from(spot[f"{s}_hipjoint"], spot[f"{s}_kneejoint"], along) for s in "lr"]

    def _head(self, canvas: Canvas, spot: dict[str, Point], unit: float, facing: float) -> None:
        build, r = self._build, self._build.head * unit
        head, face = np.array(spot["head"]), np.array(spot["face"])
        canvas.capsule(spot["chest"], spot["head"], 0.034 * unit, 0.034 * unit, build.skin)
        ahead = face - head
        back = head - 0.28 * ahead - [0, 0.22 * r]
        if build.long_hair:
            low = head - 0.35 * ahead + [0, 1.1 * r]
            canvas.capsule((back[0], back[1]), (low[0], low[1]), 0.9 * r, 0.7 * r, build.hair)
        canvas.disc((back[0], back[1]), 1.08 * r, build.hair)
        # From behind, the head shows hair alone; `turned` is the share of the face that shows.
        turned = float(np.clip(facing + 0.35, 0, 1))
        if turned > 0:
            centre = head + 0.25 * ahead + [0, 0.12 * r]
            canvas.ball((centre[0], centre[1]), 0.9 * r * (0.6 + 0.4 * turned), build.skin)
            # Eyes and mouth lie across the direction in which the face looks.
            apart = 0.3 * r * max(0.3, turned)
            for side in (-apart, apart):
                eye = head + 0.62 * ahead + [side, -0.02 * r]
                canvas.disc((eye[0], eye[1]), 0.1 * r, shade(build.hair, 0.6))
            mouth = head + 0.6 * ahead + [0, 0.48 * r]
            canvas.oval((mouth[0], mouth[1]), 0.22 * r, 0.07 * r, shade(build.skin, 0.6), 255)

    def _prop(self, canvas: Canvas, prop: Prop, at: np.ndarray, unit: float) -> Callable[[], None]:
        x, y, r = float(at[0]), float(at[1]), prop.size * unit
        colour = shade(self._build.shoes, 1.3)

        def box() -> None:
            canvas.polygon([(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)], colour)
            lid = [
                (x - r, y - r),
                (x - 0.7 * r, y - 1.3 * r),
                (x + 1.2 * r, y - 1.3 * r),
                (x + r, y - r),
            ]
            canvas.polygon(lid, shade(colour, 1.2))
            side = [
                (x + r, y - r),
                (x + 1.2 * r, y - 1.3 * r),
                (x + 1.2 * r, y + 0.7 * r),
                (x + r, y + r),
            ]
            canvas.polygon(side, shade(colour, 0.7))

        def chair() -> None:
            dark = shade(colour, 0.6)
            for dx in (-0.9, 0.9):
                canvas.line((x + dx * r, y), (x + dx * r, y + 0.24 * unit), 0.022, dark)
            canvas.polygon(
                [(x - r, y - 0.02), (x + r, y - 0.02), (x + r, y + 0.03), (x - r, y + 0.03)], colour
            )

        def hat() -> None:
            canvas.capsule((x - 1.2 * r, y), (x + 1.2 * r, y), 0.25 * r, 0.25 * r, colour)
            top = [(x - 0.8 * r, y), (x + 0.8 * r, y), (x + 0.65 * r, y - r), (x - 0.65 * r, y - r)]
            canvas.polygon(top, colour)

        painters: dict[str, Callable[[], None]] = {
            "box": box,
            "chair": chair,
            "hat": hat,
            "cup": partial(canvas.capsule, (x, y - r), (x, y + 0.6 * r), r, 0.8 * r, colour),
            "ball": lambda: canvas.ball((x, y), r, colour),
        }
        return painters[prop.kind]


def _from(a: Point, b: Point, along: float) -> Point:
    """Return the point this fraction of the way from a to b."""
    return a[0] + along * (b[0] - a[0]), a[1] + along * (b[1] - a[1])


def _view(yaw: float, tilt: float) -> np.ndarray:
    """Return the rotation from the world to the camera's axes."""
    a, b = np.radians(yaw), np.radians(tilt)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    rotation: np.ndarray = about_x @ about_y
    return rotation
