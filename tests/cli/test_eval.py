"""`mafsar eval`, `mafsar cache` and the data sets of later versions."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from mafsar.cli.app import build_app

runner = CliRunner()
app = build_app()
pytestmark = pytest.mark.usefixtures("pixels")


def run(*words: object, code: int = 0) -> tuple[str, str]:
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_eval_json_has_exactly_the_documented_fields(scene: Path) -> None:
    words = ["eval", "--data", scene / "support", "--way", 3, "--shot", 2, "--episodes", 50]
    stdout, stderr = run(*words, "--json")
    said = json.loads(stdout)
    assert list(said) == [
        "schema", "accuracy", "ci95", "accuracy_visual", "accuracy_text", "per_class", "way",
        "shot", "query", "episodes", "seed", "metric", "views", "ece", "text", "clips_encoded", "seconds",
        "model", "adapters", "engine",
    ]  # fmt: skip
    assert said["accuracy"] == 100.0
    assert (said["way"], said["shot"], said["query"], said["episodes"]) == (3, 2, 1, 50)
    assert said["clips_encoded"] == 12
    assert stderr.count("engine: ") == 1
    again = json.loads(run(*words, "--json")[0])
    assert again["clips_encoded"] == 0
    assert again["accuracy"] == said["accuracy"]
    anew = json.loads(run(*words, "--json", "--no-cache")[0])
    assert anew["clips_encoded"] == 12


def test_eval_table_and_confusion(scene: Path, tmp_path: Path) -> None:
    picture = tmp_path / "confusion.png"
    words = [
        "eval", "--model", "tiny", "--data", scene / "support", "--way", 4, "--episodes", 40, "--query", 2,
        "--confusion", picture,
    ]  # fmt: skip
    stdout, _ = run(*words)
    assert "accuracy 100.00 ± 0.00 %" in stdout
    assert "4-way 1-shot, 2 queries a class, 40 episodes, seed 0" in stdout
    with Image.open(picture) as image:
        assert min(image.size) > 300
    with picture.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == ["goes_down", "goes_left", "goes_right", "goes_up"]
    counts = [[int(cell) for cell in row[1:]] for row in rows[1:]]
    assert [sum(row) for row in counts] == [80] * 4
    _, stderr = run(*words, code=1)
    assert "confusion.csv: exist already" in stderr


def test_eval_split_and_frozen_episodes(scene: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    parts = {"train": ["goes_up"], "val": [], "test": ["goes_left", "goes_right", "goes_down"]}
    split.write_text(json.dumps(parts))
    frozen = tmp_path / "episodes.json"
    words = ["eval", "--data", scene / "support", "--split", split, "--way", 2, "--episodes", 20]
    said = json.loads(run(*words, "--episodes-file", frozen, "--json")[0])
    assert set(said["per_class"]) == set(parts["test"])
    assert frozen.is_file()
    again = json.loads(run(*words, "--episodes-file", frozen, "--json")[0])
    assert again["per_class"] == said["per_class"]
    _, stderr = run(*words, "--part", "val", code=1)
    assert "val" in stderr


def test_eval_reads_a_toml_split(scene: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.toml"
    split.write_text('test = ["goes_left", "goes_right"]\ntrain = ["goes_up"]\n')
    said = json.loads(
        run(
            "eval", "--data", scene / "support", "--split", split, "--way", 2, "--episodes", 5,
            "--json",
        )[0]
    )  # fmt: skip
    assert set(said["per_class"]) == {"goes_left", "goes_right"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tiny", "--model", "tiny", "--data", "clips"], "name the model once"),
        (["--dataset", "hmdb51"], "--dataset hmdb51: add --root DIR"),
        (["--dataset", "hmdb15", "--root", "r"], "did you mean hmdb51?"),
        (["--dataset", "ssv2_small", "--root", "r"], "add --lists DIR with"),
        (["--data", "clips", "--root", "videos"], "--root videos: belongs to --dataset"),
        (["--data", "clips", "--part", "val"], "add --split F"),
        (["--data", "clips", "--confusion", "c.jpg"], "name it c.png"),
        (["--data", "no_such_folder"], "no_such_folder"),
    ],
)
def test_eval_refuses(words: list[str], says: str) -> None:
    _, stderr = run("eval", *words, code=1)
    assert stderr.splitlines()[-1].startswith("error: ")
    assert says in stderr


@pytest.mark.parametrize("words", [[], ["--root", "videos"]], ids=["alone", "root"])
def test_eval_without_clips_is_wrong_usage(words: list[str]) -> None:
    _, stderr = run("eval", *words, code=2)
    assert "add --data DIR" in stderr


def test_cache_info_and_clear(scene: Path, tmp_path: Path) -> None:
    run("enroll", scene / "support", "-o", tmp_path / "b.safetensors")
    said = json.loads(run("cache", "info", "--json")[0])
    assert said["schema"] == 1
    assert said["entries"] >= 12
    assert said["size_bytes"] > 0
    assert "removed" in run("cache", "clear")[0]
    assert json.loads(run("cache", "info", "--json")[0])["entries"] == 0


@pytest.mark.usefixtures("pixels")
def test_a_standard_data_set_is_evaluated_by_its_own_split(scene: Path, tmp_path: Path) -> None:
    """HMDB51's naming: ten test classes of two clips; a training class is not looked at."""
    named = "fencing,kick,kick_ball,pick,pour,pushup,run,sit,smoke,talk"
    names = named.replace(",", " ").split()
    clips = sorted((scene / "support").glob("*/*.mp4"))
    for number, name in enumerate([*names, "brush_hair"]):
        (tmp_path / name).mkdir()
        for clip in range(2):
            # A byte after the end, which no decoder minds, makes each a content of its own.
            data = clips[(number + clip) % len(clips)].read_bytes() + bytes([number, clip])
            (tmp_path / name / f"a#({clip})&b.mp4").write_bytes(data)
    words = ["--dataset", "hmdb51", "--root", str(tmp_path), "--episodes", "50", "--text", "off"]
    stdout, _ = run("eval", *words, "--json")
    answer = json.loads(stdout)
    assert sorted(answer["per_class"]) == sorted(names)
    assert answer["clips_encoded"] == 20
