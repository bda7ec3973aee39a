"""A bundle's fp16 and int8 graphs, made, verified and used where torch is not installed.

    graphs.py MAFSAR

Run by `make test-edge` after `verbs.py`, in its folder and environment with the graphs extra added.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys

from verbs import ABSENT, mafsar, wanted

MADE_WITH = ("onnx", "onnx_ir")  # what the extra brings


def main() -> None:
    present = [name for name in ABSENT if importlib.util.find_spec(name)]
    wanted(set(present) <= set(MADE_WITH), f"this environment has {', '.join(present)}")
    precisions = os.environ.get("PRECISIONS", "fp16").split()  # int8 takes minutes
    for precision in precisions:
        reduced = ("--precision", precision, "--json")
        made = json.loads(mafsar("export", "own.mafsar", *reduced)[0])
        verified = made["verification"]["verified"]
        wanted(verified == "yes", f"the {precision} graphs are verified: {verified}")
        words = ("support", "support/class0/0.mp4", "--model", "own.mafsar", "--keep-query")
        answer = json.loads(mafsar("match", *words, *reduced)[0])
        found = (answer["label"], answer["precision"])
        wanted(found == ("class0", precision), f"a clip among its own support is {answer}")
    sys.stderr.write(f"graphs are made without torch: {', '.join(precisions)}\n")


if __name__ == "__main__":
    main()
