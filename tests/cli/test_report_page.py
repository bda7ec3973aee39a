"""The page of `mafsar match --report`: summary first, dark mode, phone width, no bare numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app

runner = CliRunner()
app = build_app()


@pytest.fixture
def html(scene: Path, tmp_path: Path, pixels: object) -> str:
    del pixels
    report = tmp_path / "r.html"
    words = ["match", scene / "support", scene / "queries", tmp_path / "gone.mp4"]
    words += ["--report", report]
    assert runner.invoke(app, [str(word) for word in words]).exit_code == 1
    return report.read_text(encoding="utf-8")


def test_the_summary_comes_first_and_links_to_every_section(html: str) -> None:
    assert html.index("<nav") < html.index("<section")
    links = re.findall(r'href="#(q\d+)"', html)
    assert links == [f"q{number}" for number in range(1, 6)]
    assert re.findall(r'<section class="card[^"]*" id="(q\d+)"', html) == links
    assert "sum to 1 for each query" in html
    assert html.index("sum to 1") < html.index("<section")


def test_it_follows_the_readers_colours_and_width(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "@media (max-width:" in html


def test_distances_are_folded_away_and_explained(html: str) -> None:
    for section in html.split("<section")[1:5]:
        shown, _, folded = section.partition("<details>")
        assert "distance" not in shown
        assert "Smaller is nearer" in folded


def test_the_picture_is_said_in_words(html: str) -> None:
    assert "Above the query, below the nearest clip of goes_up" in html
    assert "<script" not in html
