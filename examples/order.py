"""Tell an action from the same action backwards: ``python examples/order.py FOLDER``.

Reads the folder that ``examples/demo.py`` wrote. Each query is asked twice: as it is, and with the very
same frames in reverse.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mafsar
from mafsar.synthetic.sets.demo import DEMO_PAIR
from mafsar.video import load_clip

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    model = mafsar.load_model("tiny")
    bank = mafsar.enroll(folder / "support", model)
    print(f"{'the same frames, there and back':<34}{'as filmed':<26}backwards")
    for name in DEMO_PAIR:
        query = folder / "queries" / f"{name}.mp4"
        frames = load_clip(query, frames=model.spec.frames, size=model.spec.image_size).pixels
        there, back = (
            bank.match(each, model, threshold="off") for each in (frames, frames[::-1].copy())
        )
        print(
            f"{query!s:<32}  {f'{there.label} {there.score:.2f}':<24}  {back.label} {back.score:.2f}"
        )
    print("the numbers: share of the answer among the given classes")
