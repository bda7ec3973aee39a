"""``python -m mafsar.synthetic``: render the demo, a contact sheet or one clip."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mafsar.errors import MafsarError
from mafsar.synthetic.actions.classes import class_names
from mafsar.synthetic.clips.render import render_video
from mafsar.synthetic.sets.demo import write_demo
from mafsar.synthetic.sets.sheet import contact_sheet


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mafsar.synthetic", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    demo = verbs.add_parser("demo", help="a support folder and queries")
    demo.add_argument("folder", type=Path)
    demo.add_argument("--shots", type=int, default=2)
    sheet = verbs.add_parser("sheet", help="one picture with a clip of each class")
    sheet.add_argument("path", type=Path)
    sheet.add_argument("--classes", default="", help="comma-separated; default: all")
    sheet.add_argument("--seed", type=int, default=0)
    clip = verbs.add_parser("clip", help="one clip as a video")
    clip.add_argument("class_name")
    clip.add_argument("path", type=Path)
    clip.add_argument("--seed", type=int, default=0)
    clip.add_argument("--seconds", type=float, default=2.0)
    chosen = parser.parse_args(arguments)
    try:
        if chosen.verb == "demo":
            write_demo(chosen.folder, shots=chosen.shots)
        elif chosen.verb == "sheet":
            names = chosen.classes.split(",") if chosen.classes else class_names()
            contact_sheet(names, seed=chosen.seed).save(chosen.path)
        else:
            render_video(chosen.class_name, chosen.path, seed=chosen.seed, seconds=chosen.seconds)
    except MafsarError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
