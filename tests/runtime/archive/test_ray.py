"""The same index from a cluster on this machine, also where an actor or the driver is killed.

Ray runs in programs of its own, as its threads and warnings would outlive a test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mafsar.runtime.archive.parts import PARTS
from mafsar.synthetic.clips.render import render_video
from mafsar.video import write_video
from tests.runtime.archive.conftest import FPS, moving

pytest.importorskip("ray")
MAFSAR = (sys.executable, "-c", "from mafsar.cli.app import main; main()")
PATIENCE = 600  # seconds: a machine that does much else starts Ray slowly
LABELS = ("bend_forward", "wave_hand")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def command(place: Path, index: str, *words: str) -> list[str]:
    films = str(place / "films")
    return [*MAFSAR, "index", films, "-o", str(place / index), "--window", "1", *words]


def run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """`films/` of rendered actions, and `alone`, their index by threads of one process."""
    for label in LABELS:
        path = tmp_path / "films" / f"{label}.mp4"
        path.parent.mkdir(exist_ok=True)
        render_video(label, path, seed=1, size=112)
    return tmp_path


@pytest.mark.timeout(PATIENCE)
def test_a_cluster_makes_the_same_index(place: Path) -> None:
    (place / "films" / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(60))
    run(command(place, "alone", "--skip-bad"))
    out = run(command(place, "cluster", "--ray", "--workers", "2", "--skip-bad"))
    assert "2 files" in out
    assert contents(place / "cluster") == contents(place / "alone")


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
def test_a_cluster_gives_the_same_answers_in_order(place: Path) -> None:
    films = place / "films"
    for label in LABELS:
        support = place / "support" / label / "1.mp4"
        support.parent.mkdir(parents=True)
        render_video(label, support, seed=2, size=112)
    (films / "broken.mp4").write_bytes(bytes(100))
    words = [*MAFSAR, "match", str(place / "support"), str(films), "--json", "--text", "off"]
    answers = []
    for more in ([], ["--ray"]):
        done = subprocess.run(
            [*words, *more], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 1, done.stderr  # one clip is broken
        answers.append([json.loads(line) for line in done.stdout.splitlines()])
    alone, cluster = answers
    assert [each["query"] for each in cluster] == [each["query"] for each in alone]
    for one, other in zip(alone, cluster, strict=True):
        assert one.get("label") == other.get("label")
        assert ("error" in one) == ("error" in other)
        if "error" not in one:
            assert other["score"] == pytest.approx(one["score"], abs=1e-5)


def descendants(parent: int) -> Iterator[tuple[int, str]]:
    """Processes that a process has started, and those that these have, with their titles."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    waiting = parents.get(parent, [])
    while waiting:
        process = waiting.pop()
        waiting += parents.get(process, [])
        try:
            title = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        yield process, title.decode("utf-8", "replace")


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
@pytest.mark.parametrize("victim", ["actor", "driver"])
def test_a_kill_loses_only_the_files_in_flight(place: Path, victim: str) -> None:
    for number in range(6):
        write_video(place / "films" / f"more{number}.mp4", moving(number, 5.0), FPS)
    run(command(place, "alone"))
    words = command(place, "cluster", "--ray", "--workers", "1")
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    parts = place / "cluster" / PARTS
    until = time.monotonic() + PATIENCE
    while len(list(parts.glob("*.parquet"))) < 2 and time.monotonic() < until:
        assert child.poll() is None
        time.sleep(0.05)
    if victim == "driver":
        cluster = [process for process, _ in descendants(child.pid)]
        child.send_signal(signal.SIGKILL)
        child.communicate()
        until = time.monotonic() + 60
        while any(map(alive, cluster)) and time.monotonic() < until:
            time.sleep(0.2)  # Ray ends with its driver
        left = len(list(parts.glob("*.parquet")))
        out = run(words)
        known = int(out.rsplit(" known", 1)[0].rsplit(" ", 1)[1])
        assert known >= left >= 2
    else:
        actors = [each for each, title in descendants(child.pid) if "ray::MapWorker" in title]
        assert actors
        for actor in actors:
            os.kill(actor, signal.SIGKILL)
        out, err = child.communicate(timeout=PATIENCE)
        assert child.returncode == 0, err
        assert "8 new, 0 known" in out
    assert contents(place / "cluster") == contents(place / "alone")


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state != "Z"
