"""Make a support folder and queries to try mafsar on: ``python examples/demo.py FOLDER [CLIPS]``.

Without CLIPS six actions are rendered. CLIPS is a folder of class folders of clips of your own: FOLDER
then gets links to one clip of each class as its support, and to another one as a query.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mafsar.synthetic.sets.demo import write_demo
from mafsar.video import find_clips


def link_clips(clips: Path, folder: Path) -> None:
    """Links the first clip of each class folder as support and the last as a query."""
    if folder.exists():
        raise SystemExit(f"error: {folder}: exists already; name another folder or remove it")
    found = {
        label.name: sorted(find_clips(label)) for label in sorted(clips.iterdir()) if label.is_dir()
    }
    usable = {label: paths for label, paths in found.items() if len(paths) > 1}
    if len(usable) < 2:
        raise SystemExit(f"error: {clips}: wanted two class folders or more, of two clips or more")
    (folder / "queries").mkdir(parents=True)
    for label, paths in usable.items():
        (folder / "support" / label).mkdir(parents=True)
        (folder / "support" / label / paths[0].name).symlink_to(paths[0].resolve())
        (folder / "queries" / f"{label}{paths[-1].suffix}").symlink_to(paths[-1].resolve())


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    began = time.perf_counter()
    if len(sys.argv) > 2:
        link_clips(Path(sys.argv[2]), folder)
    else:
        print(f"rendering clips of six actions into {folder} (about ten seconds) ...", flush=True)
        write_demo(folder)
    print(
        f"support clips in {folder}/support, queries in {folder}/queries:"
        f" {time.perf_counter() - began:.1f} s"
    )
