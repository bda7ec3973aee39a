"""Tell an action from the same action backwards: ``python examples/order.py FOLDER``.

Reads the folder that ``examples/demo.py`` wrote. OTAM aligns the frames in their order. Mean pooling
averages a clip's frames and cannot know which came first.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mafsar
from mafsar.synthetic.sets.demo import DEMO_PAIR

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    model = mafsar.load_model("tiny")
    bank = mafsar.enroll(folder / "support", model)
    print(f"{'the same motion, there and back':<34}{'in order (otam)':<26}mean pooling")
    for name in DEMO_PAIR:
        query = folder / "queries" / f"{name}.mp4"
        ordered, pooled = (bank.match(query, model, metric=metric) for metric in ("otam", "mean"))
        print(
            f"{query!s:<34}{f'{ordered.label} {ordered.score:.2f}':<26}"
            f"{pooled.label} {pooled.score:.2f}"
        )
    print("the numbers: share of the answer among the given classes")
