"""A small support folder and queries to try the program with.

The same three people show every action of the support, each in their own place; each query shows
another person in another place. Only the order of the frames tells a class from its reverse.
"""

from __future__ import annotations

from pathlib import Path

from mafsar.synthetic.clips.render import render_video

DEMO_PAIR = ("bend_forward", "straighten_up")
DEMO_CLASSES = (*DEMO_PAIR, "put_in_box", "take_out_of_box", "wave_hand", "side_bend")
_SUPPORT_SEED, _QUERY_SEED = 1_000, 2_000


def write_demo(folder: Path, *, shots: int = 3, seconds: float = 2.0, size: int = 224) -> Path:
    """Render ``support/CLASS/clipN.mp4`` and ``queries/CLASS.mp4``.

    Args:
        folder: The folder to write; it is created if it does not exist.
        shots: Support clips of a class.
        seconds: Length of each clip.
        size: Side of the picture, pixels.

    Returns:
        ``folder``.
    """
    for index, name in enumerate(DEMO_CLASSES):
        home = folder / "support" / name
        home.mkdir(parents=True, exist_ok=True)
        for shot in range(shots):
            path = home / f"clip{shot + 1}.mp4"
            render_video(name, path, seed=_SUPPORT_SEED + shot, seconds=seconds, size=size)
        queries = folder / "queries"
        queries.mkdir(parents=True, exist_ok=True)
        seed = _QUERY_SEED + index
        render_video(name, queries / f"{name}.mp4", seed=seed, seconds=seconds, size=size)
    return folder
