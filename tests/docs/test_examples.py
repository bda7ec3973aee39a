"""The Python examples of the documentation run as written, page by page, in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mafsar.synthetic import render_video

DOCS = Path(__file__).parents[2] / "docs"
CLASSES = ("bend_forward", "put_in_box", "wave_hand")
_BLOCK = re.compile(
    r"^(?P<mark><!-- not run: .+? -->\n)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


def examples(page: Path) -> list[tuple[str, bool]]:
    """The page's Python blocks, each padded to its own line numbers, and whether it is run."""
    text = page.read_text(encoding="utf-8")
    return [
        ("\n" * text.count("\n", 0, found.start("code")) + found["code"], found["mark"] is None)
        for found in _BLOCK.finditer(text)
    ]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `support/`, three classes of two clips, and `query.mp4`."""
    folder = tmp_path_factory.mktemp("clips")
    for label in CLASSES:
        (folder / "support" / label).mkdir(parents=True)
        for seed in (1, 2):
            render_video(label, folder / "support" / label / f"{seed}.mp4", seed=seed, size=112)
    render_video(CLASSES[-1], folder / "query.mp4", seed=77, size=112)
    return folder


# The README saves a bank without `overwrite`, so it comes first.
@pytest.mark.parametrize("name", ["../README.md", "quickstart.md", "python.md"])
def test_examples_run_in_order(name: str, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clips)
    blocks = examples(DOCS / name)
    assert blocks, f"{name} has no Python example"
    namespace: dict[str, object] = {"__name__": "example"}
    for source, run in blocks:
        code = compile(source, str(DOCS / name), "exec")
        if run:
            exec(code, namespace)  # noqa: S102 - the repository's own pages


def test_a_block_keeps_its_line_numbers_and_its_mark(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n```python\na = 1\n```\n\n<!-- not run: slow -->\n```python\nb = 2\n```\n"
    )
    assert examples(page) == [("\n" * 3 + "a = 1\n", True), ("\n" * 8 + "b = 2\n", False)]
