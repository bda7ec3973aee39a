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
# Runs commands one after another, those with --ray on one cluster of four cores that it starts.
COMMANDS = """
import json, sys
from mafsar.choices import EngineChoice
from mafsar.cli.app import main
from mafsar.runtime.archive.ray_pool import RayPool, connected
codes = []
with connected(RayPool("", EngineChoice(), workers=4)):
    for sys.argv in json.loads(sys.argv[1]):
        try:
            main()
            codes.append(0)
        except SystemExit as end:
            codes.append(end.code or 0)
print(json.dumps(codes))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def index_words(place: Path, index: str, *words: str) -> list[str]:
    return ["index", str(place / "films"), "-o", str(place / index), "--window", "1", *words]


def run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_all(*commands: list[str]) -> list[int]:
    """Runs commands on one cluster; their exit codes."""
    program = [sys.executable, "-c", COMMANDS, json.dumps([["mafsar", *each] for each in commands])]
    codes: list[int] = json.loads(run(program).splitlines()[-1])
    return codes


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """`films/CLASS/` with a rendered clip of each of two actions, and one that is broken."""
    for label in LABELS:
        path = tmp_path / "films" / label / "1.mp4"
        path.parent.mkdir(parents=True)
        render_video(label, path, seed=1, size=112)
    (tmp_path / "films" / LABELS[0] / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(60))
    return tmp_path


@pytest.mark.timeout(PATIENCE)
def test_a_cluster_makes_the_same_index(place: Path) -> None:
    codes = run_all(
        index_words(place, "alone", "--skip-bad"),
        index_words(place, "cluster", "--ray", "--workers", "2", "--skip-bad"),
    )
    assert codes == [0, 0]
    assert contents(place / "cluster") == contents(place / "alone")


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
def test_one_two_and_four_workers_make_the_same_index(place: Path) -> None:
    for number in range(4):
        write_video(place / "films" / f"more{number}.mp4", moving(number, 3.0), FPS)
    names = ["alone", "one", "two", "four"]
    workers = [
        [],
        ["--ray", "--workers", "1"],
        ["--ray", "--workers", "2"],
        ["--ray", "--workers", "4"],
    ]
    words = [
        index_words(place, name, "--skip-bad", *more)
        for name, more in zip(names, workers, strict=True)
    ]
    assert run_all(*words) == [0] * 4
    for name in names[1:]:
        assert contents(place / name) == contents(place / "alone")


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
def test_match_and_eval_give_the_same_bits_on_a_cluster(place: Path) -> None:
    for label in LABELS:
        for seed in (2, 3):
            support = place / "support" / label / f"{seed}.mp4"
            support.parent.mkdir(parents=True, exist_ok=True)
            render_video(label, support, seed=seed, size=112)
    match = ["match", str(place / "support"), str(place / "films"), "--json", "--no-cache"]
    evaluation = ["eval", "--data", str(place / "support"), "--way", "2", "--episodes", "50"]
    evaluation += ["--json", "--no-cache"]
    commands = []
    for verb, words in (("match", match), ("eval", evaluation)):
        for name, more in (("alone", []), ("cluster", ["--ray"])):
            commands.append([*words, *more, "--out", str(place / f"{verb}-{name}.jsonl")])
    assert run_all(*commands) == [1, 1, 0, 0]  # match says that one clip is broken
    for verb in ("match", "eval"):
        alone, cluster = (
            [json.loads(line) for line in (place / f"{verb}-{name}.jsonl").read_text().splitlines()]
            for name in ("alone", "cluster")
        )
        assert len(alone) == {"match": 3, "eval": 1}[verb]
        for each in (*alone, *cluster):
            each.pop("seconds", None)
            each.pop("time", None)
        assert cluster == alone


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
    run([*MAFSAR, *index_words(place, "alone", "--skip-bad")])
    words = [
        *MAFSAR, *index_words(place, "cluster", "--ray", "--workers", "1", "--skip-bad"), "-v"
    ]  # fmt: skip
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    parts = place / "cluster" / PARTS
    until = time.monotonic() + PATIENCE
    while len(list(parts.glob("*.parquet"))) < 2 and time.monotonic() < until:
        assert child.poll() is None
        time.sleep(0.02)
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
        assert "9 new, 0 known" in out
    assert contents(place / "cluster") == contents(place / "alone")


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state != "Z"
