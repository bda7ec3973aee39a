"""The README from a bare environment to the first right event, with the seconds of each step.

    python benchmarks/five_minutes.py [--python python3.11] [--keep FOLDER]

A fresh clone of this checkout's last commit, `make demo` (an environment, the package with its compiled kernels,
rendered clips in place of a camera's), `mafsar enroll`, then `mafsar watch` over a film that shows the
demo's queries one after the other, each between two rests of 0.75 s. The clock stops at the first
`start` whose action is the one that the film shows at that moment. Packages come from pip's index, or from its cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
JOIN = """
import json, sys
from pathlib import Path
from mafsar.video import load_raw_clip, write_video
frames, truth, fps = [], [], 12
for path in sorted(Path(sys.argv[1]).glob("*.mp4")):
    shown = list(load_raw_clip(path, frames=24).frames)
    shown = shown[:1] * 9 + shown + shown[-1:] * 9
    truth.append([path.stem, len(frames) / fps, (len(frames) + len(shown)) / fps])
    frames += shown
write_video(sys.argv[2], frames, fps)
print(json.dumps(truth))
"""


def timed(name: str, words: list[str], where: Path, taken: dict[str, float]) -> str:
    """Runs a step and keeps its seconds; ends the program where it fails."""
    began = time.perf_counter()
    done = subprocess.run(words, cwd=where, capture_output=True, text=True, check=False)
    taken[name] = time.perf_counter() - began
    print(f"{taken[name]:7.1f} s  {name}", flush=True)
    if done.returncode:
        sys.exit(f"failed: {done.stderr[-2000:]}")
    return done.stdout


def first_right_event(words: list[str], where: Path, truth: list[list[object]]) -> tuple[str, int]:
    """The label of the first right start, and how many wrong ones came before."""
    child = subprocess.Popen(words, cwd=where, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    wrong = 0
    try:
        for line in child.stdout:
            event = json.loads(line)
            if event["event"] != "start":
                continue
            for label, begun, ended in truth:
                if event["label"] == label and begun <= event["t_start"] + 0.5 <= ended:  # type: ignore[operator]
                    return str(label), wrong
            wrong += 1
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    sys.exit("no right event was found")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="the Python of the environment")
    parser.add_argument("--keep", type=Path, help="work there instead of in a temporary folder")
    asked = parser.parse_args()
    taken: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        home = asked.keep or Path(name)
        clone, began = home / "mafsar", time.perf_counter()
        timed("clone", ["git", "clone", "--quiet", str(ROOT), str(clone)], Path.cwd(), taken)
        timed("make demo", ["make", "demo", f"PYTHON={asked.python}"], clone, taken)
        bank = ["mafsar", "enroll", "demo/support", "-o", "actions.safetensors"]
        timed("enroll", [f".venv/bin/{bank[0]}", *bank[1:]], clone, taken)
        joined = timed(
            "film", [".venv/bin/python", "-c", JOIN, "demo/queries", "film.mp4"], clone, taken
        )
        watch = [".venv/bin/mafsar", "watch", "actions.safetensors", "film.mp4", "--json"]
        at = time.perf_counter()
        label, wrong = first_right_event(watch, clone, json.loads(joined))
        print(
            f"{time.perf_counter() - at:7.1f} s  {' '.join(watch)}: {label}, {wrong} wrong before"
        )
        print(f"{time.perf_counter() - began:7.1f} s  from nothing to the first right event")


if __name__ == "__main__":
    main()
