"""Makes the files in `files/` with the mafsar that is installed: a bank, a bundle, a cache, a run.

The files here were made by version 0.1.0 at commit 841ceb5, before the rooms; the tests beside them
open them with the present version. Run it only to add files of a later schema:

    python make_files.py OUT
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32
TRAIN = {"left": (-3, 0), "right": (3, 0), "down": (0, 3)}
VAL = {"up": (0, -3), "aside": (3, 3)}


def main(out: Path) -> None:
    out.mkdir(parents=True)
    os.chdir(out)
    os.environ["MAFSAR_CACHE"] = "cache"
    write_clips(Path("clips"))
    from mafsar.model.config import TextConfig, VisionConfig, named_config
    from mafsar.model.network import build_network
    from mafsar.model.weights import save_weights

    config = dataclasses.replace(
        named_config("tiny"),
        embed_dim=16,
        frames=4,
        vision=VisionConfig(16, 1, 2, 8, SIZE, activation="gelu"),
        text=TextConfig(8, 1, 2, 32, 512, activation="gelu"),
        prompts=("{}",),
    ).plain()
    save_weights(build_network(config, seed=3), Path("base.safetensors"))

    from mafsar.training.config import build_config
    from mafsar.training.loop import train

    values = {
        "model.name": "tiny:base.safetensors", "model.frames": 4, "data.folder": "clips",
        "data.split": "clips/split.json", "data.workers": 0, "way": 2, "episodes": 6,
        "optim.batch": 2, "val.every": 1, "val.episodes": 5, "run.save_every": 1,
        "run.tensorboard": False,
    }  # fmt: skip
    train(build_config(None, values), Path("run"))

    from mafsar.export.job import export_model

    bundle = export_model("run", Path("small.mafsar")).path

    import mafsar

    encoder = mafsar.load_model(bundle, engine="onnx", device="cpu")
    for text in ("on", "off"):
        bank = mafsar.enroll("clips", encoder, text=text, images=False)
        bank.save(f"{text}.safetensors")
    expected = {}
    for text in ("on", "off"):
        bank = mafsar.Bank.load(f"{text}.safetensors")
        answer = bank.match("clips/left/1", encoder, keep_query=True)
        expected[text] = {item.label: [item.score, item.distance] for item in answer.topk}
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def write_clips(root: Path) -> None:
    """`CLASS/K/*.png`: squares that move, two clips a class, background clips and a split."""
    rng = np.random.default_rng(7)
    for label, (dx, dy) in (TRAIN | VAL | {"_none": (0, 0)}).items():
        for clip in range(2 if label != "_none" else 1):
            folder = root / label / str(clip)
            folder.mkdir(parents=True)
            colour = rng.integers(90, 255, 3)
            for t in range(4):
                frame = np.full((SIZE, SIZE, 3), 20, np.uint8)
                x, y = 13 + dx * (t - 2), 13 + dy * (t - 2)
                frame[y : y + 7, x : x + 7] = colour
                Image.fromarray(frame).save(folder / f"{t}.png")
    (root / "split.json").write_text(json.dumps({"train": list(TRAIN), "val": list(VAL)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
