"""How well does the shipped starter name actions of clips that it has not seen?

One clip a class is the support and names are off, as a user without training would begin. Rendered
test classes are written as videos and read again; the reversed pairs among them are asked two by two.
With --data, real clips follow: folders of class folders, where a `personNN` in a file's name keeps the
people of support and query apart, and scenes6, where each part of the videos is the support once.

    python benchmarks/starter.py [--model tiny] [--episodes 2000] [--clips 12] [--data DIR]... [--views raw]... [--write]
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import mafsar
from mafsar.data.parallel import in_processes
from mafsar.runtime.cache.speeds import processor_name
from mafsar.synthetic.actions.classes import class_names
from mafsar.synthetic.clips.render import render_video
from mafsar.training.starter.table import reversed_pairs
from mafsar.video import find_clips

FIRST_SEED = 8_000_000  # no clip of training, validation or of the recipe's own table
RESULTS = Path(__file__).parent / "results"
CARD = Path(__file__).parents[1] / "docs" / "starter.md"
BEGIN, END = "<!-- table: benchmarks/starter.py --write -->\n", "<!-- end of table -->"
Row = dict[str, object]


def main() -> None:
    """Print a table, and keep it where --write is given."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--episodes", type=int, default=2_000)
    parser.add_argument("--clips", type=int, default=12, help="rendered clips of each class")
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--views", action="append", default=[], help="beside the model's own")
    parser.add_argument("--write", action="store_true", help="to results/ and docs/starter.md")
    chosen = parser.parse_args()
    model = mafsar.load_model(chosen.model)
    rows: list[Row] = []
    for views in ("auto", *chosen.views):
        for row in _rows(model, chosen, views):
            rows.append(row)
            print(_line(row), flush=True)
    if chosen.write:
        _write(rows)


def _rows(model: mafsar.Encoder, chosen: argparse.Namespace, views: str) -> Iterator[Row]:
    count = chosen.episodes
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = class_names("test")
        jobs = [(name, i, root) for name in names for i in range(chosen.clips)]
        list(in_processes(_render, jobs, workers=2, chunk=4))
        yield _evaluated("rendered test classes", model, root, views, count, way=5)
        yield _pairs(model, root, names, views, count)
    for data in chosen.data:
        if data.name == "scenes6":
            yield _rotations(model, data, views)
        else:
            way = min(5, sum(one.is_dir() for one in data.iterdir()))
            with tempfile.TemporaryDirectory() as folder:
                groups = _people(data, Path(folder))
                yield _evaluated(data.name, model, data, views, count, way=way, groups=groups)


def _render(job: tuple[str, int, Path]) -> None:
    name, number, root = job
    (root / name).mkdir(parents=True, exist_ok=True)
    seed = FIRST_SEED + 1_000 * class_names("test").index(name) + number
    render_video(name, root / name / f"{number:03}.mp4", seed=seed, size=224)


def _evaluated(
    what: str,
    model: mafsar.Encoder,
    data: Path,
    views: str,
    episodes: int,
    *,
    way: int,
    groups: Path | None = None,
) -> Row:
    found = mafsar.evaluate(
        model, data, way=way, shot=1, episodes=episodes, text="off", views=_views(views),
        groups=groups,
    )  # fmt: skip
    return {
        "set": what,
        "way": way,
        "views": found.views,
        "accuracy": found.accuracy,
        "ci95": found.ci95,
        "ece": found.ece,
        "episodes": episodes,
    }


def _views(words: str) -> str | float:
    return words if words in ("auto", "raw") else float(words)


def _pairs(model: mafsar.Encoder, root: Path, names: list[str], views: str, episodes: int) -> Row:
    """Two-way episodes of each class and its reverse, as many of each pair."""
    found = []
    pairs = reversed_pairs(names)
    for pair in pairs:
        with tempfile.TemporaryDirectory() as folder:
            for label in pair:
                (Path(folder) / names[label]).symlink_to(root / names[label])
            count = -(-episodes // len(pairs))
            found.append(_evaluated("", model, Path(folder), views, count, way=2))
    accuracy = float(np.mean([row["accuracy"] for row in found]))
    half = float(np.linalg.norm([row["ci95"] for row in found])) / len(found)
    return found[0] | {
        "set": "reversed pairs of test classes",
        "accuracy": accuracy,
        "ci95": half,
        "ece": float(np.mean([row["ece"] for row in found])),
        "episodes": sum(int(row["episodes"]) for row in found),
    }


def _people(data: Path, folder: Path) -> Path | None:
    """A CSV of who is in a clip, where file names say so."""
    clips = [
        clip for label in sorted(data.iterdir()) if label.is_dir() for clip in find_clips(label)
    ]
    people = {clip.resolve(): re.search(r"person\d+", clip.name) for clip in clips}
    if not all(people.values()):
        return None
    path = folder / "groups.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "group"])
        rows.writerows([clip, found[0]] for clip, found in people.items() if found)
    return path


def _rotations(model: mafsar.Encoder, data: Path, views: str) -> Row:
    """Each part of the scenes is the support once; all other parts are queries."""
    folders = sorted(path for path in data.iterdir() if path.is_dir())
    parts = sorted(path.name for path in folders[0].iterdir() if path.suffix == ".mp4")
    rights = []
    for part in parts:
        support = {folder.name: [folder / part] for folder in folders}
        bank = mafsar.enroll(support, model, text="off", images=False)
        queries = [f / other for f in folders for other in parts if other != part]
        matcher = mafsar.Matcher(bank, model, threshold="off", text="off", views=_views(views))
        answers = matcher([str(query) for query in queries])
        right = [a.label == q.parent.name for a, q in zip(answers, queries, strict=True)]
        rights.append(100 * float(np.mean(right)))
        used = matcher.scoring.views
    return {
        "set": "scenes6, worst rotation",
        "way": len(folders),
        "views": used,
        "accuracy": min(rights),
        "ci95": None,
        "ece": None,
        "episodes": len(parts),
    }


def _line(row: Row) -> str:
    half = "" if row["ci95"] is None else f" ± {row['ci95']:.1f}"
    ece = "" if row["ece"] is None else f"{row['ece']:.3f}"
    return f"| {row['set']} | {row['way']} | {row['views']} | {row['accuracy']:.1f}{half} | {ece} |"


def _write(rows: list[Row]) -> None:
    machine = processor_name()
    document = {"machine": machine, "python": platform.python_version(), "rows": rows}
    (RESULTS / "starter.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    table = [
        "| set | ways | views | accuracy, 1 shot, % | calibration error |",
        "|---|---|---|---|---|",
        *map(_line, rows),
    ]
    before, rest = CARD.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    text = before + BEGIN + "\n".join(table) + "\n" + END + after
    CARD.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
