"""Rendered clips of simple actions, with labels and captions (numpy and Pillow only)."""

from __future__ import annotations

from mafsar.data.synthetic.actions import ACTIONS, Action, action, class_names
from mafsar.data.synthetic.render import Rendering, render, render_clip, render_video

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
