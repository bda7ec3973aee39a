"""Rendered clips of simple actions, with labels and captions; needs numpy and Pillow alone."""

from __future__ import annotations

from mafsar.synthetic.actions.classes import ACTIONS, Action, action, class_names
from mafsar.synthetic.clips.render import Rendering, render, render_clip, render_video

__all__ = [
    "ACTIONS",
    "Action",
    "Rendering",
    "action",
    "class_names",
    "render",
    "render_clip",
    "render_video",
]
