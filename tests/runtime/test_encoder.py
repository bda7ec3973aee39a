"""How a model is named for people."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mafsar.errors import MismatchError
from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.runtime.encoder import BankModel, shown_model
from mafsar.runtime.engines.bundle import Bundle


def test_a_run_keeps_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    assert shown_model("tiny", str(here / "runs" / "t2")) == "tiny (runs/t2)"
    assert shown_model("tiny", "/elsewhere/t2") == "tiny (/elsewhere/t2)"
    assert shown_model("tiny", str(SHIPPED_BUNDLE)) == "tiny"
    for place in (None, "tiny", "vit-b-32:random"):
        assert shown_model("tiny", place) == "tiny"


def test_two_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """A run keeps the name of the model it was trained from: "made by tiny, not by tiny"."""
    tiny = Bundle.open(SHIPPED_BUNDLE).spec
    run = replace(tiny, weights_sha256="2" * 64, path=str(tmp_path / "t2"))
    words = re.escape(f"made by tiny ({tmp_path / 't1'}), weights {tiny.weights_sha256[:12]}, ")
    words += re.escape(f"not by tiny ({tmp_path / 't2'}), weights 222222222222")
    with pytest.raises(MismatchError, match=words):
        BankModel.of(tiny).check(run, "b.safetensors", str(tmp_path / "t1"))
