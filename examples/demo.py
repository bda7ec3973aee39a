"""Render a support folder and queries to try mafsar on: ``python examples/demo.py FOLDER``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mafsar.synthetic.sets.demo import write_demo

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    print(f"rendering clips of six actions into {folder} (about ten seconds) ...", flush=True)
    began = time.perf_counter()
    write_demo(folder)
    print(
        f"support clips in {folder}/support, queries in {folder}/queries:"
        f" {time.perf_counter() - began:.1f} s"
    )
