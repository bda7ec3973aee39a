"""No name of a class, file or model steers the terminal: C0 and C1 are shown, not sent."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mafsar.cli import voice
from mafsar.cli.app import build_app
from mafsar.plain import plain, plain_json

pytestmark = pytest.mark.usefixtures("pixels")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj"


def outcome(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(build_app(), [str(word) for word in words])
    assert result.exit_code == code, result.output
    assert not CONTROLS.search(result.stdout + result.stderr)
    return result.stdout + result.stderr


@pytest.fixture
def evil(scene: Path, tmp_path: Path) -> Path:
    """A support whose second class, and a query whose name, are full of escapes."""
    root = tmp_path / "evil"
    shutil.copytree(scene / "support" / "goes_up", root / "support" / f"up{EVIL}")
    shutil.copytree(scene / "support" / "goes_left", root / "support" / "left")
    shutil.copy(scene / "queries" / "goes_up.mp4", root / f"q{EVIL}.mp4")
    return root


def test_every_verb_escapes_names(evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(evil)
    query = f"q{EVIL}.mp4"
    said = outcome("match", "support", query)
    assert r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj" in said
    outcome("match", "support", query, f"missing{EVIL}.mp4", code=1)
    outcome("match", "support", query, "-o", f"table{EVIL}")
    assert not CONTROLS.search((evil / f"table{EVIL}").read_text())
    bank = f"b{EVIL}.safetensors"
    outcome("enroll", "support", "-o", bank)
    outcome("enroll", "support", "-o", bank, code=1)
    outcome("bank", "list", bank)
    outcome("bank", "list", bank, "--class", f"x{EVIL}", code=1)
    outcome("bank", "remove", bank, "--class", f"up{EVIL}")
    outcome("match", f"no{EVIL}.safetensors", query, code=1)
    outcome("match", f"no{EVIL}", query, code=1)
    outcome("data", "check", "--data", "support")
    outcome(f"verb{EVIL}", code=2)
    outcome("match", f"--flag{EVIL}", "support", query, code=2)


def test_json_keeps_the_name_and_escapes_it(evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(evil)
    result = CliRunner().invoke(build_app(), ["match", "support", f"q{EVIL}.mp4", "--json"])
    assert not CONTROLS.search(result.stdout)
    answer = json.loads(result.stdout)
    assert answer["query"] == f"q{EVIL}.mp4"
    assert answer["label"] == f"up{EVIL}"


def test_messages_and_logs_escape(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    voice.reset()
    voice.note(f"note {EVIL}")
    voice.error(f"error {EVIL}")
    logging.getLogger("mafsar").warning("log %s", EVIL)
    assert not CONTROLS.search(capsys.readouterr().err)


def test_plain_keeps_what_is_text() -> None:
    assert plain("Füße\tund 手\n🙈") == "Füße\tund 手\n🙈"
    assert plain("\r\x00\x7f\x85") == r"\x0d\x00\x7f\x85"
    assert json.loads(plain_json('"\x7f\x9b"')) == "\x7f\x9b"
