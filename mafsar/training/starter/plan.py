"""Sizes of the starter's training: numbers of clips, places and steps for a given time."""

from __future__ import annotations

from dataclasses import dataclass

from mafsar.training.starter.episodic import EpisodePlan
from mafsar.training.starter.photo import PhotoPlan
from mafsar.training.starter.pretrain import PretrainPlan


@dataclass(frozen=True)
class StarterPlan:
    """Sizes of one run."""

    named_clips: int
    unnamed: int
    unnamed_clips: int
    scenes: int
    panoramas: int
    held_out_clips: int
    episodes: int
    pretrain: PretrainPlan
    episodic: EpisodePlan
    places: EpisodePlan
    photo: PhotoPlan

    @classmethod
    def for_minutes(cls, minutes: float) -> StarterPlan:
        """Choose sizes that take about this long on two cores.

        Training never reads the clock: a run of the same plan repeats bit by bit.
        """
        return cls(
            named_clips=max(4, round(minutes)),
            unnamed=max(16, round(32 * minutes)),
            unnamed_clips=8,
            scenes=max(16, round(8 * minutes)),
            panoramas=max(16, round(24 * minutes)),
            held_out_clips=24,
            episodes=2_000,
            pretrain=PretrainPlan(steps=max(4, round(75 * minutes))),
            episodic=EpisodePlan(steps=max(4, round(140 * minutes))),
            places=EpisodePlan(
                steps=max(4, round(40 * minutes)),
                learning_rate=1e-3,
                scene_share=0.4,
                bustle=0.75,
                anchor_weight=10.0,
            ),
            photo=PhotoPlan(
                clips=min(4, max(1, round(minutes / 10))), places=max(8, round(3 * minutes))
            ),
        )
