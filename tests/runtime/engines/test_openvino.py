"""The OpenVINO engine, where it is installed and where it is not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from mafsar.choices import EngineChoice
from mafsar.errors import UnavailableError
from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.runtime.cache.speeds import measured_speeds, record_speeds
from mafsar.runtime.engines import onnx_encoder, openvino_encoder
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.loading import load_model
from mafsar.runtime.engines.onnx_encoder import available_threads


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(openvino_encoder, "has_cuda_driver", lambda: False)


@pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)
@pytest.mark.timeout(900)  # six tests in one, seconds on a machine of its own
def test_the_engine(tmp_path: Path) -> None:
    """openvino_cases.py, whose threads and compiled graphs end with a process of their own."""
    cases = Path(__file__).with_name("openvino_cases.py")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "openvino" not in sys.modules


def test_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def missing(name: str, *rest: object) -> object:
        return None if name == "openvino" else find(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    with pytest.raises(UnavailableError, match=r"pip install 'mafsar\[openvino\]'"):
        load_model("tiny", engine="openvino")
    assert "openvino" not in str(load_model("tiny", device="cpu").choice)


def test_a_gpu_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_encoder, "has_cuda_driver", lambda: True)
    bundle = Bundle.open(SHIPPED_BUNDLE)
    record_speeds(
        bundle.spec.weights_sha256, "fp32", available_threads(), {"onnx": 2, "openvino": 1}
    )
    for device in ("auto", "cuda:0"):
        reason = openvino_encoder.openvino_missing(bundle, EngineChoice(device=device))
        assert reason is not None
        assert str(reason) == ""
    assert onnx_encoder.has_cuda_driver is not openvino_encoder.has_cuda_driver


def test_damaged_speeds_are_no_speeds(tmp_path: Path) -> None:
    record_speeds("a", "fp32", 2, {"onnx": 1.0})
    assert measured_speeds("a", "fp32", 2) == {"onnx": 1.0}
    assert measured_speeds("a", "int8", 2) == measured_speeds("b", "fp32", 2) == {}
    (tmp_path / "cache" / "speeds.json").write_text("[1]")
    assert measured_speeds("a", "fp32", 2) == {}
    record_speeds("a", "fp32", 2, {"onnx": 3.0})
    assert measured_speeds("a", "fp32", 2) == {"onnx": 3.0}
