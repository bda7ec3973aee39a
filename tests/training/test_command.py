"""`mafsar train` on the command line; the other files of this folder test its results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.training.config import build_config

app = build_app()
runner = CliRunner()


def run(*words: str, code: int = 0) -> tuple[str, str]:
    result = runner.invoke(app, [*words])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture
def words(small_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A short run, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    flags = ["--device", "cpu", "--way", "3", "--episodes", "4"]
    return ["train", *flags, *(w for w in small_words if not w.startswith(("way=", "episodes=")))]


def test_without_out_runs_are_numbered_and_the_printed_line_evaluates_them(
    words: list[str], moving_squares: Path, tmp_path: Path
) -> None:
    stdout, _ = run(*words)
    folder = tmp_path / "runs" / moving_squares.name
    assert (folder / "adapters.safetensors").is_file()
    line = stdout.splitlines()[-1]
    assert line == (
        f"test it: mafsar eval runs/{folder.name} --data {moving_squares} --split"
        f" {moving_squares / 'split.json'} --way 3 --shot 1"
    )
    evaluate = line.removeprefix("test it: mafsar ").split()
    found = json.loads(run(*evaluate, "--episodes", "20", "--text", "off", "--json")[0])
    assert set(found["per_class"]) == {"left_down", "right_down", "shrink"}
    assert (found["way"], found["shot"], found["adapters"]) == (3, 1, "trained")

    said = json.loads(run(*words, "--json")[0])
    assert said["run"] == f"runs/{folder.name}-2"
    assert (said["schema"], said["steps"], said["episodes"]) == (1, 2, 4)


def test_a_dry_run_prints_configuration_clips_time_and_memory(
    words: list[str], tmp_path: Path
) -> None:
    stdout, _ = run(*words, "model.gta=false", "--dry-run")
    assert not list(tmp_path.iterdir())
    (tmp_path / "printed.toml").write_text(stdout)
    config = build_config(tmp_path / "printed.toml")
    assert (config.way, config.episodes, config.optim.batch) == (3, 4, 2)
    assert config.model.gta is False
    assert config.query == 1  # resolved: nothing is left to the data set
    facts = [text.removeprefix("# ") for text in stdout.splitlines() if text.startswith("# ")]
    assert facts[1:4] == [
        "train: 4 classes, 16 clips", "val: 3 classes, 12 clips", "test: 3 classes, 12 clips",
    ]  # fmt: skip
    assert facts[5].startswith("measured 2 steps: ")
    assert facts[5].endswith(" GiB on cpu")
    assert facts[6].startswith("all 2 steps: about ")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["model.gt=false"], "did you mean model.gta?"),
        (["--resume", "-o", "none"], "there is no run in none; start one without --resume"),
        (["--config", "none.toml"], "no such configuration file"),
        (["model.name=no-such-model"], "no-such-model"),
        (["--way", "5"], "need 5 classes, the data has 4; use --way 4 or less"),
    ],
)
def test_what_is_refused(words: list[str], more: list[str], says: str, tmp_path: Path) -> None:
    _, stderr = run(*words, *more, code=1)
    (line,) = [text for text in stderr.splitlines() if text.startswith("error: ")]
    assert says in line
    assert not list(tmp_path.iterdir())


def test_resume_without_a_run_is_wrong_usage(words: list[str]) -> None:
    _, stderr = run(*words, "--resume", code=2)
    assert "--resume: name the run to go on with" in stderr
