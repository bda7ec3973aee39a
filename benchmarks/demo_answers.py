"""How many queries of the demo are named wrongly: `demo_answers.py FOLDER` of examples/demo.py."""

from __future__ import annotations

import sys
from pathlib import Path

import mafsar

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    answers = mafsar.enroll(folder / "support").match(folder / "queries")
    queries = sorted((folder / "queries").iterdir())
    wrong = [
        path.stem
        for path, answer in zip(queries, answers, strict=True)
        if answer.label != path.stem
    ]
    print(f"wrong: {len(wrong)} of {len(queries)}: {', '.join(wrong)}")
