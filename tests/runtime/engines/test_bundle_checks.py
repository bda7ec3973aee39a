"""A bundle's manifest is believed only where it fits its table, and its files only by their hash."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mafsar.errors import MismatchError
from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.runtime.engines.bundle import Bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "copy.mafsar"
    shutil.copytree(SHIPPED_BUNDLE, path)
    for file in path.iterdir():
        file.chmod(0o644)
    return path


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "bundle.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    edit(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize(
    ("where", "opens"), [("tokenizer.json", True), ("other.bin", False), ("../x.bin", False)]
)
def test_weights_come_from_listed_files_only(bundle: Path, where: str, opens: bool) -> None:
    """A graph that names another file for its weights would run what no hash vouches for."""
    path = bundle / "query-fp32.onnx"
    entry = b"\x0a\x08location\x12" + bytes([len(where)]) + where.encode()
    # An unknown field of the protocol is skipped by whoever loads the graph.
    data = path.read_bytes() + b"\xfa\x3e" + bytes([len(entry)]) + entry
    path.write_bytes(data)
    listed = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    change(bundle, lambda manifest: manifest["files"].update({path.name: listed}))
    if opens:
        Bundle.open(bundle)
    else:
        with pytest.raises(MismatchError, match="takes weights from"):
            Bundle.open(bundle)
