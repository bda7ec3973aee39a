"""What the pages name exists: files of this repository, other pages, and every public name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mafsar
from mafsar import errors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
KINDS = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.MafsarError)
}
TOP = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
_FILE = re.compile(r"`((?:mafsar|export|csrc|tests|benchmarks|examples|docker|docs)/[\w./-]+)`")
_NAME = re.compile(r"^::: mafsar\.(\w+)$", re.MULTILINE)


@pytest.mark.parametrize("page", [*PAGES, *TOP], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = _FILE.findall(page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", TOP, ids=lambda page: page.name)
def test_links_of_the_pages_outside_the_site(page: Path) -> None:
    linked = _LINK.findall(page.read_text(encoding="utf-8"))
    assert linked
    assert [name for name in linked if not (ROOT / name).exists()] == []


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert listed == {page.relative_to(DOCS).as_posix() for page in PAGES}


def test_the_reference_has_every_public_name() -> None:
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert {name for name in KINDS if f"- {name}\n" not in text} == set()
    listed = {name for name in _NAME.findall(text) if name != "errors"}
    assert listed == set(mafsar.__all__) - KINDS - {"__version__"}


def test_the_python_page_has_every_public_name() -> None:
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    names = set(mafsar.__all__) - KINDS
    assert {name for name in names if not re.search(rf"(\bmafsar\.|`){name}\b", text)} == set()
