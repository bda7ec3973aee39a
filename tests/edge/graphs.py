"""A bundle's fp16 and int8 graphs, made, verified and used where torch is not installed.

    graphs.py MAFSAR

Run by `make test-edge` after `verbs.py`, in its folder and environment with the graphs extra added.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

MAFSAR = sys.argv[1]
ABSENT = ("torch", "torchvision", "open_clip", "onnxscript", "tensorrt")


def mafsar(*words: str) -> list[dict[str, Any]]:
    """What a verb answers as JSON Lines."""
    done = subprocess.run([MAFSAR, *words, "--json"], capture_output=True, text=True, check=False)
    line = f"mafsar {' '.join(words)}"
    if done.returncode != 0:
        raise SystemExit(f"{line}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    sys.stderr.write(f"ok  {line}\n")
    return [json.loads(text) for text in done.stdout.splitlines()]


def main() -> None:
    present = [name for name in ABSENT if importlib.util.find_spec(name)]
    if present:
        raise SystemExit(f"error: this environment has {', '.join(present)}")
    for precision in ("fp16", "int8"):
        (made,) = mafsar("export", "own.mafsar", "--precision", precision)
        verified = made["verification"]["verified"]
        if verified != "yes":
            raise SystemExit(f"error: the {precision} graphs are verified: {verified}")
        words = ("support", "support/class0/0.mp4", "--model", "own.mafsar", "--keep-query")
        (answer,) = mafsar("match", *words, "--precision", precision)
        if (answer["label"], answer["precision"]) != ("class0", precision):
            raise SystemExit(f"error: a clip among its own support is {answer}")
    sys.stderr.write("fp16 and int8 graphs are made without torch\n")


if __name__ == "__main__":
    main()
