"""``mafsar synth``: data sets that the other commands take as they are."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.data.open_data import open_data
from mafsar.data.parallel import in_processes
from mafsar.synthetic import ACTIONS, render_clip
from mafsar.synthetic.sets.recipe import Recipe, choose_classes, clip_seed
from mafsar.video import load_clip, video_info

runner = CliRunner()
app = build_app()
SMALL = ["--size", "32", "--workers", "1", "--seconds", "0.7"]


def _synth(*words: str) -> list[dict]:
    result = runner.invoke(app, ["synth", *words, *SMALL, "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    folder = tmp_path_factory.mktemp("synth") / "clips"
    return folder, _synth(str(folder), "--classes", "6", "--clips", "2", "--seed", "3")


def test_layout_is_what_train_and_eval_take(made: tuple[Path, list[dict]]) -> None:
    folder, lines = made
    catalogue = open_data(data=folder, split=folder / "split.json")
    assert len(catalogue.clips) == 12
    parts = {item.label: item.part for item in catalogue.classes}
    assert len(parts) == 6
    assert all(ACTIONS[label].split == part for label, part in parts.items())
    assert {item.label: item.text for item in catalogue.classes} == {
        label: ACTIONS[label].text for label in parts
    }
    assert [line["schema"] for line in lines] == [1] * 13
    assert lines[-1]["clips"] == 12
    assert sum(lines[-1]["classes"].values()) == 6


def test_captions_name_each_clip_and_its_pixels_come_back_from_its_seed(
    made: tuple[Path, list[dict]],
) -> None:
    folder, lines = made
    rows = _rows(folder / "captions.csv")
    assert [row["path"] for row in rows] == [line["path"] for line in lines[:-1]]
    for row in rows:
        assert ACTIONS[row["label"]].text in row["caption"]
        info = video_info(folder / row["path"])
        assert info["duration_seconds"] == pytest.approx(float(row["seconds"]), abs=0.05)
    row = rows[0]
    count = round(float(row["seconds"]) * 12)
    again = render_clip(row["label"], seed=int(row["seed"]), frames=count, size=32)
    shown = load_clip(folder / row["path"], frames=count, size=32).pixels
    assert np.abs(shown.astype(int) - again).mean() < 8


def test_same_seed_same_files_other_seed_other_files(
    made: tuple[Path, list[dict]], tmp_path: Path
) -> None:
    folder, _ = made
    _synth(str(tmp_path / "same"), "--classes", "6", "--clips", "1", "--seed", "3")
    for path in sorted((tmp_path / "same").glob("*/*.mp4")):
        twin = folder / path.relative_to(tmp_path / "same")
        assert path.read_bytes() == twin.read_bytes()
    seeds = {clip_seed(s, name, i) for s in range(3) for name in ACTIONS for i in range(50)}
    assert len(seeds) == 3 * 50 * len(ACTIONS)


def test_sets_hold_what_they_say(tmp_path: Path) -> None:
    for kind, scene in (("people", "person"), ("objects", "table")):
        names = choose_classes(Recipe(kind=kind, classes=12))  # type: ignore[arg-type]
        assert {ACTIONS[name].scene for name in names} == {scene}
    _synth(str(tmp_path / "o"), "--set", "objects", "--classes", "1", "--clips", "1")


@pytest.mark.parametrize("count", [1, 5, 20, 60, 123])
def test_parts_get_enough_classes(count: int) -> None:
    names = choose_classes(Recipe(classes=count, seed=4))
    assert len(names) == len(set(names)) == count
    parts = [ACTIONS[name].split for name in names]
    if count >= 15:
        assert min(parts.count("test"), parts.count("val")) >= 5
    assert parts.count("train") >= count // 3


def test_existing_output_is_refused_and_only_a_data_set_is_replaced(
    made: tuple[Path, list[dict]], tmp_path: Path
) -> None:
    folder, _ = made
    result = runner.invoke(app, ["synth", str(folder), *SMALL])
    assert result.exit_code == 1
    assert "--overwrite (-y)" in result.stderr
    (tmp_path / "thesis.txt").write_text("three years")
    result = runner.invoke(app, ["synth", str(tmp_path), "-y", *SMALL])
    assert result.exit_code == 1
    assert "something other than a rendered data set" in result.stderr
    assert (tmp_path / "thesis.txt").is_file()
    home = tmp_path / "again"
    _synth(str(home), "--classes", "2", "--clips", "1")
    _synth(str(home), "--classes", "1", "--clips", "1", "--seed", "9", "-y")
    assert len(list(home.glob("*/*.mp4"))) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--classes", "900"], "there are"),
        (["--size", "33"], "even"),
        (["--seed", "-1"], "--seed -1"),
        (["--fps", "0"], "greater than 0"),
    ],
)
def test_bad_numbers_are_one_line(words: list[str], says: str, tmp_path: Path) -> None:
    result = runner.invoke(app, ["synth", str(tmp_path / "x"), *words])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert not (tmp_path / "x").exists()


def test_folder_is_named_once() -> None:
    assert runner.invoke(app, ["synth"]).exit_code == 2
    assert runner.invoke(app, ["synth", "a", "-o", "b"]).exit_code == 2


def test_stream_has_truth_and_support(tmp_path: Path) -> None:
    home = tmp_path / "watched"
    words = ["--set", "stream", "--classes", "2", "--clips", "2", "--fps", "4", "--size", "16"]
    result = runner.invoke(
        app, ["synth", str(home), *words, "--seconds", "40", "--workers", "1", "--json"]
    )
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[-1]["streams"] == 2
    support = open_data(data=home / "support")
    assert len(support.classes) == 2
    assert len(support.clips) == 10
    known = {item.label for item in support.classes} | {"enter", "leave"}
    known |= {str(ACTIONS[name].partner) for name in known if name in ACTIONS}
    for line in lines[:-1]:
        assert video_info(home / line["path"])["duration_seconds"] == pytest.approx(40, abs=0.3)
        rows = _rows(home / line["truth"])
        assert len(rows) == line["events"] >= 2
        assert list(rows[0]) == ["t_start", "t_end", "label"]
        times = [float(row[key]) for row in rows for key in ("t_start", "t_end")]
        assert times == sorted(times)
        assert times[-1] <= 40
        assert {row["label"] for row in rows} <= known | {"walk_to_the_right", "walk_to_the_left"}


def test_processes_answer_in_order() -> None:
    assert list(in_processes(abs, [-3, -1, -2], workers=2)) == [3, 1, 2]


@pytest.mark.parametrize("classes", [2, 6])
def test_the_commands_that_it_prints_work_as_printed(
    classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run as they stand, but for fewer episodes; the folder's name has a space."""
    monkeypatch.chdir(tmp_path)
    words = ["my clips", "--classes", str(classes), "--clips", "2", *SMALL]
    done = runner.invoke(app, ["synth", *words])
    assert done.exit_code == 0, done.output
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith("  mafsar ")]
    verbs = [line.split()[1] for line in lines]
    assert verbs == ["eval", "train"]
    for line in lines:
        less = {"eval": ["--episodes", "3"], "train": ["--episodes", "2", "--dry-run"]}
        program, *given = shlex.split(line)
        assert program == "mafsar"
        done = runner.invoke(app, [*given, *less[given[0]]])
        assert done.exit_code == 0, f"{line}: {done.output}"


def test_one_clip_a_class_makes_no_episodes(tmp_path: Path) -> None:
    done = runner.invoke(
        app, ["synth", str(tmp_path / "c"), "--classes", "3", "--clips", "1", *SMALL]
    )
    assert done.exit_code == 0, done.output
    assert "mafsar" not in done.stdout
