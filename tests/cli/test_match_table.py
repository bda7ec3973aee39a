"""The table of `mafsar match`: what it says, and what gives way on a narrow terminal."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mafsar
from mafsar.cli.app import build_app
from mafsar.cli.match_table import error_of, show_table
from mafsar.errors import UnavailableError, option
from mafsar.runtime.match.answers import QueryError

runner = CliRunner()
app = build_app()
CLASSES = ["goes_down", "goes_left", "goes_right", "goes_up"]
pytestmark = pytest.mark.usefixtures("pixels")


def table(*words: object, columns: int | None = None, code: int = 0) -> list[str]:
    env = {} if columns is None else {"COLUMNS": str(columns)}
    result = runner.invoke(app, ["match", *map(str, words), "-q"], env=env)
    assert result.exit_code == code, result.output
    return result.stdout.splitlines()


@pytest.fixture
def near(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scene by short relative paths."""
    for name in ("support", "queries"):
        shutil.copytree(scene / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("near")
def test_shares_are_called_shares() -> None:
    lines = table("support", "queries")
    assert lines[0].split() == ["query", "action", "share", "runner-up", "s"]
    assert any(
        line == "share: among the 4 given classes (they sum to 1), not the chance of being right"
        for line in lines
    )
    assert "confidence" not in "".join(lines)


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize(
    ("columns", "titles", "bar"),
    [
        (100, ["query", "action", "share", "runner-up", "s"], True),
        (60, ["query", "action", "share", "runner-up", "s"], False),
        (50, ["query", "action", "share", "s"], False),
        (40, ["query", "action", "share"], False),
    ],
)
def test_bar_and_runner_up_go_before_a_name_is_broken(
    columns: int, titles: list[str], bar: bool
) -> None:
    lines = table("support", "queries", columns=columns)
    (head,) = (line for line in lines if line.startswith("query "))
    assert head.split() == titles
    rows = [line for line in lines if ".mp4" in line]
    assert len(rows) == 4
    for label, row in zip(CLASSES, rows, strict=True):
        assert f"{label}.mp4" in row
        assert row.split()[1] == label
        assert ("█" in row) == bar
        assert len(row) <= columns


def test_none_shows_its_probability_and_what_is_nearest(near: Path) -> None:
    encoder = mafsar.load_model()
    bank = mafsar.enroll(near / "support", encoder)
    match = bank.match(near / "queries" / "goes_up.mp4", encoder)
    none = dataclasses.replace(match, label=None, none=True, p_none=0.47)
    stream = io.StringIO()
    show_table(stream, [match, none], bank, encoder)
    lines = stream.getvalue().splitlines()
    _, row = (line for line in lines if "goes_up.mp4" in line)
    assert row.split()[1:4] == ["none", "p_none", "0.47"]
    assert "goes_up 0." in row or "goes_up 1." in row
    assert any(line.endswith("--threshold off answers always") for line in lines)
    show_table(stream := io.StringIO(), [match], bank, encoder)
    assert "p_none" not in stream.getvalue()


@pytest.mark.usefixtures("near")
def test_topk_lists_that_many_classes() -> None:
    lines = table("support", "queries/goes_up.mp4", "--topk", 4)
    text = "\n".join(lines)
    assert all(label in text for label in CLASSES)
    assert all(f"{label} 0." in text for label in CLASSES[:3])
    lines = table("support", "queries/goes_up.mp4", "--topk", 1)
    assert not any("0.0" in line for line in lines if "goes_up.mp4" in line.split()[:1])


@pytest.mark.usefixtures("near")
def test_a_failed_query_has_its_reason_in_a_column() -> None:
    lines = table("support", "queries/goes_up.mp4", "gone.mp4", code=1)
    (head,) = [line for line in lines if line.startswith("query")]
    (row,) = [line for line in lines if line.startswith("gone.mp4")]
    assert head.split()[-1] == "why"
    assert row[head.index("why") :] == "no such file; check the path"


def test_a_long_reason_stands_below_the_table(near: Path) -> None:
    name = "a_very_long_name_of_a_clip_that_cannot_be_read" * 2
    (near / f"{name}.mp4").write_bytes(b"no video at all")
    lines = table("support", f"bad={name}.mp4", "queries/goes_up.mp4", "gone.mp4", code=1)
    rows = [line for line in lines if line.split()[1:2] in (["failed"], ["goes_up"])]
    assert [row.split()[1] for row in rows] == ["failed", "goes_up", "failed"]
    assert sum(line.startswith(f"bad: {name}.mp4: ") for line in lines) == 1
    assert "gone.mp4: no such file; check the path" in lines


def test_reasons_name_flags() -> None:
    cause = UnavailableError(option(text="on"), ": no text tower; use ", option(text="off"))
    failed = QueryError("q.mp4", cause)
    assert failed.error == "text='on': no text tower; use text='off'"
    assert error_of(failed) == "--text on: no text tower; use --text off"
