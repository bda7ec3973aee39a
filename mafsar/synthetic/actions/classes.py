"""The table of action classes: their words, their motion, and their split."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from mafsar.errors import InputError
from mafsar.synthetic.actions import arranging, attempts, exercises, people, tabletop
from mafsar.synthetic.actions.wild import wild_function
from mafsar.synthetic.motion import MotionFunction

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Action:
    """One class of rendered clips.

    Attributes:
        name: Folder name, words joined by underscores.
        text: What a person would call it.
        before, after: Words for its first and last state, used in captions of single frames.
        cyclic: It repeats; otherwise it happens once, from beginning to end.
        backwards: It is ``motion`` run backwards in time.
        partner: The class that is this one backwards or mirrored, or None.
        side: 1 or -1 if left and right are part of the meaning (such a clip is never mirrored at
            random), else 0.
        unnamed: A random class, which has no words.
    """

    name: str
    text: str
    motion: MotionFunction
    split: Split
    scene: Literal["person", "table"]
    before: str
    after: str
    cyclic: bool = False
    backwards: bool = False
    partner: str | None = None
    side: int = 0
    unnamed: bool = False

    @property
    def label(self) -> str:
        """The class name as words."""
        return self.name.replace("_", " ")


# motion, name, its text, name backwards, that text, split, state before, state after
_PAIRS: list[tuple[MotionFunction, str, str, str, str, Split, str, str]] = [
    (people.raise_both_arms, "raise_both_arms", "raising both arms", "lower_both_arms",
     "lowering both arms", "train", "both arms down", "both arms up"),
    (people.raise_one_arm, "raise_one_arm", "raising one arm", "lower_one_arm",
     "lowering one arm", "val", "arms down", "one arm up"),
    (people.open_arms, "open_arms", "opening the arms wide", "close_arms",
     "closing the arms", "test", "both arms forward", "arms open wide"),
    (people.hand_to_head, "put_hand_on_head", "putting a hand on the head", "take_hand_off_head",
     "taking a hand off the head", "train", "hands down", "a hand on the head"),
    (people.hands_to_hips, "put_hands_on_hips", "putting the hands on the hips",
     "take_hands_off_hips", "taking the hands off the hips", "train", "hands down",
     "hands on the hips"),
    (people.sit_down, "sit_down", "sitting down on a chair", "stand_up",
     "standing up from a chair", "train", "standing by a chair", "sitting on a chair"),
    (people.squat_down, "squat_down", "squatting down", "rise_from_squat",
     "rising up from a squat", "train", "standing", "squatting low"),
    (people.bend_forward, "bend_forward", "bending forward", "straighten_up",
     "straightening up", "test", "standing straight", "bent forward"),
    (people.kneel_down, "kneel_down", "kneeling down", "get_up_from_knees",
     "getting up from the knees", "train", "standing", "kneeling"),
    (people.lie_down, "lie_down", "lying down", "get_up_from_floor",
     "getting up from the floor", "train", "standing", "lying on the floor"),
    (people.enter, "enter", "entering the picture", "leave", "leaving the picture", "train",
     "nobody", "standing in the middle"),
    (people.come_closer, "come_closer", "walking closer to the camera", "back_away",
     "backing away from the camera", "train", "far away", "close to the camera"),
    (people.turn_away, "turn_away", "turning away from the camera", "turn_to_camera",
     "turning to the camera", "train", "facing the camera", "seen from the back"),
    (people.push_box, "push_box", "pushing a box along", "drag_box", "dragging a box back",
     "train", "bent with a box on the floor", "bent with a box on the floor"),
    (people.pick_up_object, "pick_up_object", "picking up an object", "put_down_object",
     "putting down an object", "val", "an object on the floor", "holding an object"),
    (people.lift_overhead, "lift_overhead", "lifting a thing over the head",
     "lower_from_overhead", "lowering a thing from over the head", "train",
     "holding a thing low", "holding a thing over the head"),
    (people.throw_ball, "throw_ball", "throwing a ball away", "catch_ball", "catching a ball",
     "train", "a ball in the hand", "a ball far off"),
    (people.put_on_hat, "put_on_hat", "putting on a hat", "take_off_hat", "taking off a hat",
     "train", "a hat in the hands", "a hat on the head"),
    (tabletop.lift_object, "lift_object", "a hand lifts an object", "set_down_object",
     "a hand sets an object down", "train", "an object on the table", "an object up in the hand"),
    (tabletop.cover_object, "cover_object", "a hand covers an object", "uncover_object",
     "a hand uncovers an object", "val", "an open object", "a covered object"),
    (tabletop.put_in_box, "put_in_box", "a hand puts an object in a box", "take_out_of_box",
     "a hand takes an object out of a box", "test", "an object beside a box",
     "an object in a box"),
    (tabletop.put_on_box, "put_on_box", "a hand puts an object on a box", "take_off_box",
     "a hand takes an object off a box", "train", "an object beside a box", "an object on a box"),
    (tabletop.hide_behind, "hide_behind", "a hand hides an object behind a box",
     "come_out_from_behind", "an object comes out from behind a box", "train",
     "an object beside a box", "an object behind a box"),
    (tabletop.tip_over, "tip_over", "a hand tips an object over", "set_upright",
     "an object is set upright", "test", "an object upright", "an object lying on its side"),
    (tabletop.bring_together, "bring_together", "two hands bring objects together", "move_apart",
     "two hands move objects apart", "val", "two objects far apart", "two objects close together"),
    (tabletop.camera_approach, "camera_moves_closer", "the camera moves closer to objects",
     "camera_moves_away", "the camera moves away from objects", "train", "small objects",
     "large objects"),
    (tabletop.open_lid, "open_lid", "a hand opens a lid", "close_lid", "a hand closes a lid",
     "train", "a closed chest", "an open chest"),
    (people.raise_leg, "raise_leg", "raising a leg", "lower_leg", "lowering a leg", "train",
     "standing on both feet", "one leg up"),
    (people.cross_arms, "cross_arms", "crossing the arms", "uncross_arms", "uncrossing the arms",
     "train", "arms down", "arms crossed"),
    (people.reach_forward, "reach_forward", "reaching forward with both hands",
     "draw_hands_back", "drawing both hands back", "train", "hands at the chest",
     "both arms forward"),
    (people.drink, "put_cup_to_mouth", "putting a cup to the mouth", "take_cup_from_mouth",
     "taking a cup from the mouth", "train", "holding a cup", "a cup at the mouth"),
    (people.curl_up, "curl_up", "curling up small", "stretch_up", "stretching up tall", "train",
     "standing tall with arms up", "curled up low"),
    (people.step_forward, "step_forward", "taking a step forward", "step_back",
     "taking a step back", "train", "standing", "standing"),
    (arranging.put_in_front, "put_in_front", "a hand puts an object in front of a box",
     "take_from_front", "a hand takes an object from in front of a box", "train",
     "an object beside a box", "an object in front of a box"),
    (arranging.put_next_to, "put_next_to", "a hand puts an object next to another",
     "take_from_beside", "a hand takes an object away from another", "train",
     "an object alone", "two objects side by side"),
    (arranging.bring_into_view, "bring_into_view", "a hand brings an object into view",
     "take_out_of_view", "a hand takes an object out of view", "train", "an empty table",
     "an object on the table"),
    (arranging.move_nearer, "move_object_nearer", "a hand moves an object towards the camera",
     "move_object_farther", "a hand moves an object away from the camera", "train",
     "a small object far off", "a large object close by"),
    (arranging.fold_paper, "fold_paper", "a hand folds a sheet of paper", "unfold_paper",
     "a hand unfolds a sheet of paper", "train", "a flat sheet of paper",
     "a folded sheet of paper"),
]  # fmt: skip

# motion, name, text, mirrored name, its text, split, state on the left, state on the right
_SIDED: list[tuple[MotionFunction, str, str, str, str, Split, str, str]] = [
    (people.walk_across, "walk_to_the_right", "walking to the right", "walk_to_the_left",
     "walking to the left", "train", "on the left", "on the right"),
    (tabletop.push_across, "push_object_right", "a hand pushes an object to the right",
     "push_object_left", "a hand pushes an object to the left", "train",
     "an object on the left", "an object on the right"),
    (tabletop.roll_across, "roll_ball_right", "a ball rolls to the right", "roll_ball_left",
     "a ball rolls to the left", "train", "a ball on the left", "a ball on the right"),
    (tabletop.turn_round, "turn_clockwise", "a hand turns a pencil clockwise",
     "turn_anticlockwise", "a hand turns a pencil anticlockwise", "train", "a pencil", "a pencil"),
    (people.run_across, "run_to_the_right", "running to the right", "run_to_the_left",
     "running to the left", "train", "on the left", "on the right"),
    (people.hop_across, "hop_to_the_right", "hopping to the right", "hop_to_the_left",
     "hopping to the left", "train", "on the left", "on the right"),
    (people.sidestep_across, "sidestep_to_the_right", "stepping sideways to the right",
     "sidestep_to_the_left", "stepping sideways to the left", "train", "on the left",
     "on the right"),
]  # fmt: skip

_REPEATING: list[tuple[MotionFunction, str, str, Split]] = [
    (exercises.wave_hand, "wave_hand", "waving one hand", "test"),
    (exercises.wave_both_arms, "wave_both_arms", "waving both arms over the head", "train"),
    (exercises.clap, "clap", "clapping the hands", "train"),
    (exercises.jump, "jump", "jumping up and down", "train"),
    (exercises.star_jumps, "star_jumps", "jumping with arms and legs apart", "test"),
    (exercises.march, "march", "marching in place", "train"),
    (exercises.run_in_place, "run_in_place", "running in place", "train"),
    (exercises.kick, "kick", "kicking with one leg", "train"),
    (exercises.punch, "punch", "punching forward", "val"),
    (exercises.side_bend, "side_bend", "bending to the sides", "test"),
    (exercises.arm_circles, "arm_circles", "circling both arms", "train"),
    (exercises.twist, "twist", "twisting with arms wide", "train"),
    (exercises.lunge, "lunge", "lunging forward low", "train"),
    (exercises.flap_arms, "flap_arms", "flapping both arms", "val"),
    (tabletop.bounce_ball, "bounce_ball", "a hand bounces a ball", "train"),
    (tabletop.shake_object, "shake_object", "a hand shakes an object", "train"),
    (tabletop.wipe_table, "wipe_table", "a hand wipes the table", "test"),
    (tabletop.stir, "stir", "a hand stirs in a cup", "train"),
    (tabletop.swing, "swing", "an object swings on a string", "train"),
    (exercises.squats, "squats", "doing squats", "train"),
    (exercises.toe_touches, "toe_touches", "touching the toes again and again", "train"),
    (exercises.hop_on_one_leg, "hop_on_one_leg", "hopping on one leg", "train"),
    (exercises.clap_overhead, "clap_overhead", "clapping over the head", "train"),
    (exercises.swing_both_arms, "swing_both_arms", "swinging both arms back and forth", "train"),
    (attempts.knock, "knock_on_table", "a hand knocks on the table", "train"),
]

# Happen once and have no reversed class: motion, name, text, before, after
_ONCE: list[tuple[MotionFunction, str, str, str, str]] = [
    (tabletop.drop_object, "drop_object", "a hand drops an object", "an object up in the hand",
     "an object on the table"),
    (attempts.fail_to_lift, "fail_to_lift", "a hand tries to lift an object and fails",
     "an object on the table", "an object on the table"),
    (attempts.fail_to_push, "fail_to_push", "a hand pushes an object that does not move",
     "an object on the table", "an object on the table"),
    (attempts.fail_to_open, "fail_to_open", "a hand tries to open a lid and fails",
     "a closed chest", "a closed chest"),
    (attempts.tilt_and_let_back, "tilt_and_let_back", "a hand tilts an object that does not fall",
     "an object upright", "an object upright"),
    (attempts.poke, "poke_object", "a hand pokes an object lightly", "an object on the table",
     "an object on the table"),
    (attempts.pretend_to_put_in, "pretend_to_put_in_box",
     "a hand pretends to put an object in a box", "an open box", "an open box"),
    (attempts.push_off, "push_off", "a hand pushes an object off a box so that it falls",
     "an object on a box", "an object fallen off a box"),
]  # fmt: skip


def _build() -> dict[str, Action]:
    table: dict[str, Action] = {}
    for motion, name, text, other, other_text, split, before, after in _PAIRS:
        scene: Literal["person", "table"] = "person" if _is_person(motion) else "table"
        table[name] = Action(
            name, text, motion, split, scene, before, after, partner=other
        )  # fmt: skip
        table[other] = Action(
            other, other_text, motion, split, scene, after, before, backwards=True, partner=name
        )
    for motion, name, text, other, other_text, split, before, after in _SIDED:
        scene = "person" if _is_person(motion) else "table"
        table[name] = Action(name, text, motion, split, scene, before, after, partner=other, side=1)
        table[other] = Action(
            other, other_text, motion, split, scene, after, before, partner=name, side=-1
        )
    for motion, name, text, split in _REPEATING:
        scene = "person" if _is_person(motion) else "table"
        table[name] = Action(name, text, motion, split, scene, "", "", cyclic=True)
    for motion, name, text, before, after in _ONCE:
        table[name] = Action(name, text, motion, "train", "table", before, after)
    return table


def _is_person(motion: MotionFunction) -> bool:
    return motion.__module__ in (people.__name__, exercises.__name__)


ACTIONS = _build()
_WILD = re.compile(r"wild_(\d+)(_backwards)?")


def action(name: str) -> Action:
    """Look an action up by name.

    Raises:
        InputError: There is no such class; the message names the nearest ones.
    """
    if wild := _WILD.fullmatch(name):
        return _wild_action(int(wild[1]), backwards=wild[2] is not None)
    if name not in ACTIONS:
        near = difflib.get_close_matches(name, ACTIONS, n=3, cutoff=0.4) or list(ACTIONS)[:3]
        raise InputError(f"unknown rendered action {name!r}: nearest are {', '.join(near)}")
    return ACTIONS[name]


def wild_names(count: int) -> list[str]:
    """Return the names of the first unnamed classes, which are all for training."""
    names: list[str] = []
    number = 0
    while len(names) < count:
        entry = _wild_action(number, backwards=False)
        names += [entry.name] if entry.partner is None else [entry.name, entry.partner]
        number += 1
    return names[:count]


@cache
def _wild_action(number: int, *, backwards: bool) -> Action:
    """Return an unnamed class: two in three are of people, three in four have a reversed class."""
    scene: Literal["person", "table"] = "table" if number % 3 == 2 else "person"
    cyclic = number % 4 == 3
    name = f"wild_{number}"
    names = (name, f"{name}_backwards")
    return Action(
        names[backwards], "moving somehow", wild_function(number, scene, cyclic=cyclic), "train",
        scene, "", "", cyclic=cyclic, backwards=backwards,
        partner=None if cyclic else names[not backwards], unnamed=True,
    )  # fmt: skip


def class_names(split: Split | None = None) -> list[str]:
    """Return the class names of a split, or all, in a fixed order."""
    return [name for name, entry in ACTIONS.items() if split in (None, entry.split)]
