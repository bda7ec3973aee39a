"""Words for rendered clips and for their single frames."""

from __future__ import annotations

import numpy as np

from mafsar.synthetic.actions.classes import Action
from mafsar.synthetic.body import J
from mafsar.synthetic.painting.nuisance import Nuisance


def class_captions(entry: Action) -> list[str]:
    """Return several descriptions of a class."""
    if entry.scene == "table":
        return [entry.label, entry.text, f"a close view: {entry.text}"]
    return [entry.label, entry.text, f"a person {entry.text}", f"someone {entry.text}"]


def frame_words(
    entry: Action,
    progress: float,
    nuisance: Nuisance,
    place: str,
    world: np.ndarray | None,
    across: float,
) -> list[str]:
    """Describe one frame in separate phrases, the main one first.

    Args:
        entry: The class.
        progress: Progress of the motion, [0, 1].
        nuisance: The clip's body, place and light.
        place: Words for the background.
        world: float64 (J, 3) joints of a person, or None in a close view.
        across: Position of the main thing, from 0 (left) to 1 (right).
    """
    phrases = []
    if world is not None:
        build = nuisance.build
        phrases += [f"a person {_posture(world)}", _arms(world)]
        if nuisance.film.saturation > 0.2:
            phrases.append(f"a {build.shirt_name} shirt and {build.trousers_name} trousers")
    else:
        phrases.append("things on a table" if entry.text.startswith("the") else "a hand at a table")
    if entry.before and not 0.3 < progress < 0.7:
        phrases.append(entry.before if progress <= 0.3 else entry.after)
    phrases.append(f"in front of {place}")
    if across < 0.36 or across > 0.64:
        phrases.append("on the left side" if across < 0.5 else "on the right side")
    brightness = float(np.mean(nuisance.film.gain))
    if brightness < 0.75:
        phrases.append("in the dark")
    elif brightness > 1.1:
        phrases.append("in bright light")
    return phrases


def caption(phrases: list[str], rng: np.random.Generator) -> str:
    """Join the main phrase with a random choice of the others."""
    others = [phrase for phrase in phrases[1:] if rng.random() < 0.6]
    rng.shuffle(others)
    return ", ".join([phrases[0], *others])


def _posture(world: np.ndarray) -> str:
    height = world[:, 1]
    head, pelvis = float(height[J["head"]]), float(height[J["pelvis"]])
    up = world[J["chest"]] - world[J["pelvis"]]
    lean = float(np.degrees(np.arccos(np.clip(up[1] / np.linalg.norm(up), -1, 1))))
    if head < 0.3:
        return "lying on the floor"
    if height.min() > 0.06:
        return "in the air"
    if pelvis < 0.22:
        return "sitting on the floor"
    if pelvis < 0.42:
        return "sitting or squatting low"
    if lean > 50:
        return "bent forward"
    if lean > 22:
        return "leaning"
    return "standing straight"


def _arms(world: np.ndarray) -> str:
    states = []
    for side in "lr":
        hand, shoulder = world[J[f"{side}_hand"]], world[J[f"{side}_shoulder"]]
        gap = hand - shoulder
        reach = float(np.hypot(gap[0], gap[2]))
        if gap[1] > 0.12:
            states.append("up")
        elif reach > 0.2:
            states.append("forward" if abs(gap[2]) > abs(gap[0]) else "out to the side")
        else:
            states.append("down" if gap[1] < -0.2 else "bent")
    left, right = states
    return f"both arms {left}" if left == right else f"one arm {left} and one arm {right}"
